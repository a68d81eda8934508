"""The commands of incidents and jobs: what they show, refuse and change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import loop
import pytest
import repairable
import sqlalchemy as sa
from loop import LIMITS, NOW, Clock, finding
from typer.testing import CliRunner, Result

from redistill.streams.store.database import Database
from redistill.times import now_us
from redistill.workers.cli import main
from redistill.workers.errors import WorkersError
from redistill.workers.incidents import ingest
from redistill.workers.store import checkpoints, job_queue, opening
from redistill.workers.store.tables import audit, incidents, jobs


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setenv("REDISTILL_HOME", str(tmp_path / "home"))
    settings = repairable.settings_of(tmp_path / "home")
    opening.upgrade(settings)
    opened = opening.open(settings)
    with opened.begin() as conn:
        loop.register(conn, loop.spec(approval="on_request"))
        loop.register(conn, loop.spec("watched", level="watch"))
        loop.store(conn, finding(contributors=("x",)), finding(model="watched"))
    ingest.ingest(opened, fleet_limits=LIMITS, actor="worker:test", clock=Clock())
    yield opened
    opened.dispose()


def call(*args: str) -> Result:
    return CliRunner().invoke(main.app, list(args))


def done(*args: str) -> str:
    result = call(*args)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def refused(*args: str) -> str:
    result = call(*args)
    assert isinstance(result.exception, WorkersError), result.output
    return str(result.exception)


def rows(database: Database, table: sa.Table) -> list[Any]:
    with database.read() as conn:
        return list(conn.execute(sa.select(table)).mappings())


def incident_of(database: Database, model: str = "credit") -> str:
    return next(str(i["incident_id"]) for i in rows(database, incidents) if i["model"] == model)


def test_list_shows_open_incidents_in_words_and_in_json(database: Database) -> None:
    text = done("incidents", "list")
    assert incident_of(database)[:8] in text
    assert "awaiting_person" in text
    found = json.loads(done("incidents", "list", "--json", "--model", "credit"))
    assert [i["incident_id"] for i in found] == [incident_of(database)]


def test_show_tells_the_findings_and_every_step(database: Database) -> None:
    found = json.loads(done("incidents", "show", incident_of(database)[:8], "--json"))
    assert [s["what"] for s in found["timeline"]] == ["opened", "decided"]
    assert found["findings"][0]["contributors"][0]["column"] == "x"
    text = done("incidents", "show", incident_of(database))
    assert "needs approval" in " ".join(text.split()) or "need approval" in " ".join(text.split())
    assert "psi" in text


def test_unknown_and_ambiguous_ids_are_refused_in_words(database: Database) -> None:
    assert "there is no incident" in refused("incidents", "show", "zzz")
    assert "several incidents begin" in refused("incidents", "show", "")


def test_approve_makes_the_job_and_says_so(database: Database) -> None:
    text = done("incidents", "approve", incident_of(database))
    assert "attempt 1" in text
    (job,) = rows(database, jobs)
    assert job["state"] == "queued"
    assert "cannot be repaired now" in refused("incidents", "approve", incident_of(database))
    why = refused("incidents", "approve", incident_of(database, "watched"))
    assert "level watch" in why


def test_resolve_ends_the_incident_with_its_reason_in_the_audit(database: Database) -> None:
    incident = incident_of(database)
    assert "empty" in refused("incidents", "resolve", incident, "--reason", " ")
    done("incidents", "resolve", incident, "--reason", "the feed was mended")
    row = next(i for i in rows(database, incidents) if i["incident_id"] == incident)
    assert (row["status"], row["resolution"]) == ("resolved", "person")
    assert "resolved already" in refused("incidents", "resolve", incident, "--reason", "again")
    entry = rows(database, audit)[-1]
    assert entry["actor"].startswith("cli:")
    assert "the feed was mended" in entry["body"]
    assert "no open incidents" in done("incidents", "list", "--model", "credit")
    assert incident[:8] in done("incidents", "list", "--all")


def test_jobs_are_listed_shown_and_cancelled(database: Database) -> None:
    assert "no jobs" in done("jobs", "list")
    done("incidents", "approve", incident_of(database))
    assert "queued" in done("jobs", "list", "--live")
    claim = job_queue.claim(database, "w", now=now_us())
    assert claim is not None
    gates = [
        {"name": "trusted_points", "value": -3.2, "limit": -1.0, "passed": False, "why": "worse"}
    ]
    with job_queue.fenced(database, claim, now_us) as conn:
        checkpoints.record(
            conn, claim, "gate", "done", now=NOW, seconds=0.31, detail={"gates": gates}
        )
    text = done("jobs", "show", "1")
    assert "trusted_points" in text
    assert "FAILED" in text
    assert "0.31 s" in text
    found = json.loads(done("jobs", "show", claim.job.job_id[:8], "--json"))
    assert found["gates"] == gates
    with job_queue.fenced(database, claim, now_us) as conn:
        wait = {"count": "gate_labelled", "rows": 32}
        job_queue.park(conn, claim, outcome={"wait": wait}, gate_rows=7, now=NOW)
    assert "had 7 labelled gate rows" in done("jobs", "show", "1")
    done("jobs", "cancel", "1", "--reason", "wrong labels")
    assert rows(database, jobs)[0]["state"] == "cancelled"
    assert "is over: cancelled" in refused("jobs", "cancel", "1")
    assert "there is no job" in refused("jobs", "show", "99")
    row = next(i for i in rows(database, incidents) if i["model"] == "credit")
    assert row["stage"] == "awaiting_person"


def test_recompress_makes_a_job_or_says_why_not(database: Database) -> None:
    assert "there is no model 'nobody'" in refused("recompress", "nobody")
    assert "level watch" in refused("recompress", "watched")
    assert "--source needs" in refused("recompress", "credit", "--source", "s")
    found = json.loads(
        done("recompress", "credit", "--train-on", "labels", "--source", "s", "--json")
    )
    (job,) = rows(database, jobs)
    assert (job["job_id"], job["trigger_kind"]) == (found["job_id"], "actor")
    assert json.loads(job["options"]) == {"train_on": "labels", "source": "s"}
    assert "cancel it with" in refused("recompress", "credit")


def test_waiting_for_a_job_without_a_worker_ends_with_a_hint(database: Database) -> None:
    why = refused("recompress", "credit", "--wait", "--timeout", "1")
    assert "is a repair worker running?" in why

"""What commands show of incidents and jobs, and in which order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import feeds
import incident_rows
import loop
import pytest
import sqlalchemy as sa
from loop import NOW

from redistill.streams.store.database import Database
from redistill.streams.store.tables import findings
from redistill.times import SECOND
from redistill.workers.errors import UsageError
from redistill.workers.store import audit, incident_queries
from redistill.workers.store.tables import incident_findings, incidents, job_steps, jobs


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sa.Connection]:
    database: Database = loop.opened(f"sqlite:///{tmp_path / 'queries.db'}")
    with database.begin() as conn:
        yield conn
    database.dispose()


def add_incident(conn: sa.Connection, incident_id: str, **over: Any) -> None:
    values = {
        "incident_id": incident_id, "model": "credit", "version": "v1", "incident_class": incident_id,
        "status": "open", "stage": "detected", "why": "w", "attempt": 0, "split_salt": "s",
        "opened_at": NOW, "updated_at": NOW, "open_mark": 1,
    } | over  # fmt: skip
    conn.execute(sa.insert(incidents).values(**values))


def add_job(conn: sa.Connection, job_id: str, number: int, **over: Any) -> None:
    values = {
        "job_id": job_id, "number": number, "model": f"m{number}", "attempt": number,
        "trigger_kind": "incident", "trigger_id": "i", "state": "succeeded", "options": '{"mode": "x"}',
        "outcome": None, "tries": 1, "not_before": 0, "deadline_at": 9, "created_at": number,
    } | over  # fmt: skip
    conn.execute(sa.insert(jobs).values(**values))


def add_step(conn: sa.Connection, job_id: str, name: str, at: int, **detail: Any) -> None:
    conn.execute(
        sa.insert(job_steps).values(
            job_id=job_id, name=name, state="done", seconds=0.5, token=1, at=at,
            detail=json.dumps(detail) if detail else None,
        )
    )  # fmt: skip


def test_incidents_that_need_a_person_come_first_then_the_newest(conn: sa.Connection) -> None:
    add_incident(conn, "old", opened_at=NOW - 5)
    add_incident(conn, "new", opened_at=NOW)
    add_incident(conn, "urgent", opened_at=NOW - 9, stage="awaiting_person")
    add_incident(conn, "over", opened_at=NOW + 1, stage="awaiting_person", open_mark=None)
    add_incident(conn, "other", opened_at=NOW + 2, model="fraud")

    def listed(**over: Any) -> list[str]:
        options: dict[str, Any] = {"model": None, "resolved": False, "limit": 10} | over
        return [i["incident_id"] for i in incident_queries.listed(conn, **options)]

    assert listed() == ["urgent", "other", "new", "old"]
    assert listed(model="credit") == ["urgent", "new", "old"]
    assert listed(resolved=True) == ["urgent", "other", "over", "new", "old"]
    assert listed(limit=2) == ["urgent", "other"]


def test_jobs_at_work_come_first_then_the_newest(conn: sa.Connection) -> None:
    add_job(conn, "a", 1, live_mark=1, state="running")
    add_job(conn, "b", 2)
    add_job(conn, "c", 3, outcome='{"why": "no"}')

    def numbers(**over: Any) -> list[int]:
        options: dict[str, Any] = {"model": None, "live": False, "limit": 10} | over
        return [j["number"] for j in incident_queries.jobs_listed(conn, **options)]

    assert numbers() == [1, 3, 2]
    assert numbers(live=True) == [1]
    assert numbers(model="m2") == [2]
    assert numbers(limit=1) == [1]
    (job,) = incident_queries.jobs_listed(conn, model="m3", live=False, limit=1)
    assert (job["outcome"], job["options"]) == ({"why": "no"}, {"mode": "x"})


def test_job_is_found_by_its_number_its_id_or_how_that_begins(conn: sa.Connection) -> None:
    add_job(conn, "12ab", 7)
    add_job(conn, "12cd", 8)
    add_job(conn, "7eee", 12)
    find = incident_queries.find_job
    assert find(conn, "12a").number == 7
    assert find(conn, "12cd").number == 8
    assert find(conn, "7").job_id == "12ab"  # the number, though another id begins with it
    assert find(conn, "12").job_id == "7eee"
    with pytest.raises(UsageError, match="several jobs begin with '1'"):
        find(conn, "1")
    with pytest.raises(UsageError, match="there is no job '99'"):
        find(conn, "99")
    with pytest.raises(UsageError, match="there is no job '%'"):
        find(conn, "%")


def test_detail_tells_findings_jobs_and_what_happened_in_order(conn: sa.Connection) -> None:
    finding = loop.finding()
    loop.store(conn, finding)
    add_incident(conn, "i1")
    conn.execute(
        sa.insert(incident_findings).values(
            incident_id="i1", finding_id=str(finding.finding_id), attached_at=NOW + 3
        )
    )
    audit.append(conn, "worker", "incident.opened", "i1", {"why": "harm"}, NOW)
    audit.append(conn, "cli:ann", "incident.resolved", "i1", {"why": "enough"}, NOW + 9 * SECOND)
    audit.append(conn, "worker", "incident.opened", "i2", {"why": "another"}, NOW)
    add_job(conn, "j1", 4, incident_id="i1")
    add_step(
        conn, "j1", "gate", NOW + 2 * SECOND, gates=[{"name": "fresh"}], decision={"why": "ok"}
    )
    add_step(conn, "j1", "window", NOW + SECOND, train=500, gate_labelled=30)
    found = incident_queries.detail(conn, {"incident_id": "i1", "model": "credit"})
    assert found["model"] == "credit"
    assert [(f["reason"], f["attached_at"]) for f in found["findings"]] == [
        (finding.reason, NOW + 3)
    ]
    assert [(t["what"], t["why"]) for t in found["timeline"]] == [
        ("opened", "harm [worker]"),
        ("job 4: window", "done in 0.50 s: 500 rows to train on, 30 gate rows"),
        ("job 4: gate", "done in 0.50 s: ok"),
        ("resolved", "enough [cli:ann]"),
    ]
    (job,) = found["jobs"]
    assert job["gates"] == [{"name": "fresh"}]
    assert [s["name"] for s in job["steps"]] == ["window", "gate"]


WARM = {"name": "warm", "number": 1, "sha256": "aa", "reasons": ["fresh: worse"], "gates": []}


def test_recipes_that_were_tried_come_before_the_one_that_is_judged(conn: sa.Connection) -> None:
    add_job(conn, "j1", 4, outcome=json.dumps({"tried": [WARM]}))
    present = {"name": "scratch", "number": None, "sha256": "bb"}
    gates = [{"name": "size"}]
    refused = {"decision": "rejected", "reasons": ["size: large"]}
    add_step(conn, "j1", "gate", NOW, gates=gates, recipe=present, decision=refused)
    found = incident_queries.job_detail(conn, incident_queries.find_job(conn, "4"))
    assert found["recipes"] == [WARM, {**present, "reasons": ["size: large"], "gates": gates}]


def test_recipe_that_was_judged_and_refused_is_told_once(conn: sa.Connection) -> None:
    add_job(conn, "j1", 4, outcome=json.dumps({"tried": [WARM]}))
    add_step(
        conn, "j1", "gate", NOW, gates=[], recipe={"name": "warm", "number": 1, "sha256": "aa"}
    )
    found = incident_queries.job_detail(conn, incident_queries.find_job(conn, "4"))
    assert found["recipes"] == [WARM]


@pytest.mark.parametrize(
    ("step", "text"),
    [
        ({"state": "running", "seconds": None, "cpu_seconds": None, "detail": {}}, "running"),
        (
            {"state": "done", "seconds": 2, "cpu_seconds": 1.5, "detail": {"why": "x"}},
            "done in 2.00 s (1.50 s of CPU): x",
        ),
        (
            {"state": "done", "seconds": 1, "cpu_seconds": 0, "detail": {"version": "r1", "epoch": 2}},
            "done in 1.00 s: r1, epoch 2",
        ),
        ({"state": "failed", "seconds": None, "cpu_seconds": None, "detail": {"decision": None}}, "failed"),
    ],
)  # fmt: skip
def test_step_is_told_in_one_line(step: dict[str, Any], text: str) -> None:
    assert incident_queries.step_text(step) == text


def test_data_bugs_are_open_ones_with_their_open_findings(conn: sa.Connection) -> None:
    kept, ended, _ = feeds.break_column(conn, ["credit", "fraud", "churn"])
    incident_rows.resolve(conn, ended, now=NOW)
    conn.execute(sa.update(findings).where(findings.c.model == "churn").values(status="resolved"))
    incident_rows.open_incident(conn, model="harmed", now=NOW)
    ((which, (body,)),) = incident_queries.data_bugs(conn).items()
    assert which == (kept, "credit")
    assert json.loads(body)["contributors"][0]["column"] == "income"

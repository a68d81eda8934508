"""What a reconciler finds by itself: lost announcements, replaced versions, recoveries, waits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import loop
import pytest
import sqlalchemy as sa
from loop import LIMITS, NOW, Clock, finding

from redistill.streams.store.database import Database
from redistill.streams.store.tables import findings, outcomes, specs
from redistill.times import HOUR, SECOND
from redistill.workers.incidents import reconciler
from redistill.workers.store import job_queue
from redistill.workers.store.tables import incidents, jobs


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = loop.opened(database_url)
    yield opened
    opened.dispose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def a_reconciler(database: Database, clock: Clock) -> reconciler.Reconciler:
    return reconciler.Reconciler(database, fleet_limits=LIMITS, actor="test", clock=clock)


def start(database: Database, *stored: Any, **over: Any) -> None:
    with database.begin() as conn:
        loop.register(conn, loop.spec(**over))
        loop.store(conn, *stored)


def rows(database: Database, table: sa.Table) -> list[Any]:
    with database.read() as conn:
        return list(conn.execute(sa.select(table)).mappings())


def served(database: Database, version: str, wrong: list[int], *, at: int, first: int = 1) -> None:
    """Outcomes of a version: 1 is a wrong answer."""
    with database.begin() as conn:
        conn.execute(
            sa.insert(outcomes),
            [
                {
                    "model": "credit",
                    "version": version,
                    "seq": first + i,
                    "id_hash": hash((version, first + i)) % 2**62,
                    "id": f"{version}-{first + i}",
                    "correct": 1 - w,
                    "prediction": "repay",
                    "label": "default" if w else "repay",
                    "served_at": at + i,
                    "observed_at": at + i,
                    "source": "ledger",
                    "uniform": True,
                    "made_at": at + i,
                }
                for i, w in enumerate(wrong)
            ],
        )


def publish(database: Database, version: str, *, at: int, kind: str = "incident") -> None:
    with database.begin() as conn:
        loop.point(conn, "credit", version, now=at, kind=kind)


def test_finding_that_nobody_announced_is_ingested(database: Database, clock: Clock) -> None:
    start(database, finding())
    assert a_reconciler(database, clock).run_once().ingested == 1
    assert len(rows(database, incidents)) == 1


def test_open_findings_of_a_replaced_version_end_as_superseded(
    database: Database, clock: Clock
) -> None:
    start(database, finding(), finding(kind="input", severity="info", harmful=None))
    rounds = a_reconciler(database, clock)
    rounds.run_once()
    publish(database, "v2", at=clock.forward(SECOND))
    assert rounds.run_once().superseded == 2
    for row in rows(database, findings):
        assert row["status"] == "resolved"
        assert json.loads(row["body"])["resolution"] == "superseded"
    assert rounds.run_once().superseded == 0


def test_incident_is_guarded_after_the_pointer_moved_and_recovers_on_evidence(
    database: Database, clock: Clock
) -> None:
    start(database, finding())
    rounds = a_reconciler(database, clock)
    rounds.run_once()
    publish(database, "v2", at=clock.forward(SECOND))
    rounds.run_once()
    (incident,) = rows(database, incidents)
    assert (incident["status"], incident["stage"]) == ("open", "guarding")
    assert rows(database, jobs)[0]["state"] == "cancelled"  # its question is answered elsewhere

    served(database, "v2", [0] * 10, at=clock())
    assert rounds.run_once().recovered == 0  # ten labels prove nothing
    served(database, "v2", [0] * 150, at=clock(), first=100)
    assert rounds.run_once().recovered == 1
    (incident,) = rows(database, incidents)
    assert (incident["status"], incident["resolution"]) == ("resolved", "recovered")
    assert "version v2" in incident["why"]


def test_version_that_is_as_bad_does_not_end_the_incident(database: Database, clock: Clock) -> None:
    start(database, finding())
    rounds = a_reconciler(database, clock)
    rounds.run_once()
    publish(database, "v2", at=clock.forward(SECOND))
    served(database, "v2", [1, 0] * 400, at=clock())
    rounds.run_once()
    assert rows(database, incidents)[0]["status"] == "open"


def test_version_that_is_better_but_not_good_enough_is_put_before_a_person_once(
    database: Database, clock: Clock
) -> None:
    start(database, finding())
    rounds = a_reconciler(database, clock)
    rounds.run_once()
    publish(database, "v2", at=clock.forward(SECOND))
    served(database, "v2", [1, 0, 0, 0, 0] * 220, at=clock())  # 20%: harmed were 60, promised 5
    rounds.run_once()
    (incident,) = rows(database, incidents)
    assert (incident["stage"], incident["decision"]) == ("guarding", "ask_person")
    assert "20.0%" in incident["why"]
    served(database, "v2", [1, 0, 0, 0, 0] * 20, at=clock(), first=5_000)
    clock.forward(SECOND)
    rounds.run_once()
    assert rows(database, incidents)[0]["updated_at"] == incident["updated_at"]


def test_person_is_not_asked_while_more_labels_may_still_show_a_recovery(
    database: Database, clock: Clock
) -> None:
    start(database, finding(current=0.9))  # 10%, promised are 5
    rounds = a_reconciler(database, clock)
    rounds.run_once()
    publish(database, "v2", at=clock.forward(SECOND))
    served(database, "v2", [1, *([0] * 13)] * 72, at=clock())  # 7.1%: neither here nor there
    rounds.run_once()
    (incident,) = rows(database, incidents)
    assert (incident["status"], incident["stage"]) == ("open", "guarding")
    assert incident["decision"] != "ask_person"
    served(database, "v2", [1, *([0] * 19)] * 360, at=clock(), first=5_000)
    assert rounds.run_once().recovered == 1


def test_rows_served_before_the_pointer_moved_are_no_evidence(
    database: Database, clock: Clock
) -> None:
    start(database, finding())
    rounds = a_reconciler(database, clock)
    rounds.run_once()
    served(database, "v2", [0] * 400, at=NOW - HOUR)
    publish(database, "v2", at=clock.forward(SECOND))
    rounds.run_once()
    assert rows(database, incidents)[0]["status"] == "open"


def test_incident_that_waits_starts_when_its_wait_is_over(database: Database, clock: Clock) -> None:
    start(database)
    with database.begin() as conn:
        job_id = job_queue.job_id_of("manual")
        job_queue.create(
            conn, job_id, model="credit", trigger=("actor", "x"), deadline_at=NOW, now=NOW
        )
        loop.store(conn, finding())
    rounds = a_reconciler(database, clock)
    rounds.run_once()
    (incident,) = rows(database, incidents)
    assert incident["decision"] == "wait"
    assert rounds.run_once().decided == 0
    with database.begin() as conn:
        job = job_queue.get(conn, job_id)
        assert job is not None
        job_queue.finish(conn, job, "cancelled", outcome={}, now=NOW)
    assert rounds.run_once().decided == 1
    assert rows(database, incidents)[0]["stage"] == "diagnosing"
    assert [j["state"] for j in rows(database, jobs)] == ["cancelled", "queued"]


def test_waiting_incident_is_not_announced_again_at_each_sweep(
    database: Database, clock: Clock
) -> None:
    start(database, finding(), max_jobs_per_day=0)
    rounds = a_reconciler(database, clock)
    rounds.run_once()
    before = rows(database, incidents)[0]["updated_at"]
    for _ in range(3):
        clock.forward(SECOND)
        rounds.run_once()
    assert rows(database, incidents)[0]["updated_at"] == before


def test_incident_of_a_watched_model_is_repaired_once_its_level_allows_it(
    database: Database, clock: Clock
) -> None:
    start(database, finding(), level="watch")
    rounds = a_reconciler(database, clock)
    rounds.run_once()
    assert rows(database, incidents)[0]["stage"] == "awaiting_person"
    assert rounds.run_once().decided == 0
    model = loop.spec(level="repair")
    with database.begin() as conn:
        later = clock.forward(SECOND)
        conn.execute(
            sa.update(specs).values(level="repair", spec=model.to_json(), updated_at=later)
        )
    assert rounds.run_once().decided == 1
    assert rows(database, incidents)[0]["stage"] == "diagnosing"
    assert [j["state"] for j in rows(database, jobs)] == ["queued"]


def test_job_beyond_its_deadline_expires_and_a_person_is_asked(
    database: Database, clock: Clock
) -> None:
    start(database, finding())
    a_reconciler(database, clock).run_once()
    assert reconciler.expire_jobs(database, fleet_limits=LIMITS, actor="test", clock=clock) == []
    clock.forward(25 * HOUR)
    (expired,) = reconciler.expire_jobs(database, fleet_limits=LIMITS, actor="test", clock=clock)
    (job,) = rows(database, jobs)
    assert (job["job_id"], job["state"], job["live_mark"]) == (expired, "expired", None)
    (incident,) = rows(database, incidents)
    assert (incident["stage"], incident["decision"]) == ("awaiting_person", "ask_person")
    assert "not decided within 24 h" in incident["why"]


def test_job_that_was_taken_up_again_waits_from_the_answer_on(
    database: Database, clock: Clock
) -> None:
    start(database, finding())
    a_reconciler(database, clock).run_once()
    with database.begin() as conn:
        asked = job_queue.live(conn, "credit")
        assert asked is not None
        job_queue.finish(conn, asked, "needs_person", outcome={"why": "rows"}, now=clock())
    clock.forward(500 * HOUR)
    with database.begin() as conn:
        asked = job_queue.get(conn, asked.job_id)
        assert asked is not None
        again = {"deadline_at": clock() + 24 * HOUR, "now": clock()}
        assert job_queue.reopen(conn, asked, options={}, **again)
    clock.forward(25 * HOUR)
    reconciler.expire_jobs(database, fleet_limits=LIMITS, actor="test", clock=clock)
    (incident,) = rows(database, incidents)
    assert "not decided within 24 h" in incident["why"]

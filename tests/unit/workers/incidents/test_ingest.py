"""Findings become incidents and jobs: once, in one transaction, or with a reason why not; on both
databases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import loop
import msgspec
import pytest
import sqlalchemy as sa
from loop import LIMITS, NOW, Clock, finding

from redistill.streams.store.database import Database
from redistill.streams.store.tables import findings, outbox, specs
from redistill.streams.wire.codec import Record, decode
from redistill.streams.wire.events import DriftFound, IncidentChanged
from redistill.times import HOUR, SECOND
from redistill.workers.incidents import ingest
from redistill.workers.incidents.routing import Ingested, Router
from redistill.workers.store import audit_chain, incident_queries
from redistill.workers.store.tables import incidents, jobs


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = loop.opened(database_url)
    yield opened
    opened.dispose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def start(database: Database, **over: Any) -> None:
    with database.begin() as conn:
        loop.register(conn, loop.spec(**over))


def take(database: Database, clock: Clock, *found: Any) -> list[Ingested]:
    with database.begin() as conn:
        loop.store(conn, *found, now=clock())
    return ingest.ingest(database, fleet_limits=LIMITS, actor="test", clock=clock)


def rows(database: Database, table: sa.Table) -> list[Any]:
    with database.read() as conn:
        return list(conn.execute(sa.select(table)).mappings())


def announced(database: Database) -> list[IncidentChanged]:
    with database.read() as conn:
        found = conn.execute(
            sa.select(outbox).where(outbox.c.topic == "incidents").order_by(outbox.c.seq)
        ).mappings()
        records = [
            Record(
                topic=r["topic"],
                partition=0,
                offset=0,
                timestamp_ms=0,
                key=r["key"].encode(),
                value=bytes(r["value"]),
                headers=[(k, v.encode()) for k, v in msgspec.json.decode(r["headers"]).items()],
            )
            for r in found
        ]
    return [decode(r) for r in records]  # type: ignore[misc]


def test_harm_opens_an_incident_and_its_job_with_event_and_audit(
    database: Database, clock: Clock
) -> None:
    start(database)
    (ingested,) = take(database, clock, finding())
    assert ingested.did == "opened"
    (incident,) = rows(database, incidents)
    (job,) = rows(database, jobs)
    assert (incident["incident_class"], incident["stage"], incident["attempt"]) == (
        "harm",
        "diagnosing",
        1,
    )
    assert incident["change_low"] == NOW - 10 * SECOND
    assert (job["state"], job["incident_id"]) == ("queued", incident["incident_id"])
    assert job["deadline_at"] == NOW + 24 * HOUR
    events = announced(database)
    assert [e.status for e in events] == ["opened", "updated"]
    assert str(events[-1].job_id) == job["job_id"]
    assert events[-1].decision == "repair"
    (row,) = rows(database, findings)
    assert row["intake_revision"] == 0
    assert row["intake_note"].startswith("repair:")
    with database.read() as conn:
        assert audit_chain.verify(conn).problem is None
        steps = [s["what"] for s in incident_queries.audit_trail(conn, incident["incident_id"])]
    assert steps == ["incident.opened", "incident.job_made"]


def test_announcement_is_not_believed_when_sql_has_no_such_finding(
    database: Database, clock: Clock
) -> None:
    start(database)
    assert ingest.ingest(database, str(uuid4()), fleet_limits=LIMITS, actor="t", clock=clock) == []
    assert rows(database, incidents) == []


def test_finding_is_ingested_once_however_often_it_is_announced(
    database: Database, clock: Clock
) -> None:
    start(database)
    found = finding()
    take(database, clock, found)
    for _ in range(3):
        again = ingest.ingest(
            database, str(found.finding_id), fleet_limits=LIMITS, actor="t", clock=clock
        )
        assert again == []
    assert len(rows(database, incidents)) == 1
    assert len(rows(database, jobs)) == 1


@pytest.mark.parametrize(
    ("over", "says"),
    [
        ({"harmful": None, "severity": "warning"}, "not established"),
        ({"kind": "input", "severity": "info", "harmful": None}, "no incident of its own"),
        ({"kind": "confidence", "severity": "info", "harmful": None}, "asks for labels"),
        ({"kind": "quality", "severity": "info", "harmful": None}, "no incident of its own"),
        ({"model": "unknown"}, "not registered"),
        ({"version": "v0"}, "not the one that the pointer names"),
        ({"status": "resolved", "resolution": "recovered"}, "over before"),
    ],
)
def test_what_opens_no_incident_has_its_reason(
    database: Database, clock: Clock, over: dict[str, Any], says: str
) -> None:
    start(database)
    (ingested,) = take(database, clock, finding(**over))
    assert ingested.did == "noted"
    assert rows(database, incidents) == []
    (row,) = rows(database, findings)
    assert says in row["intake_note"]
    assert row["intake_revision"] == row["revision"]


@pytest.mark.parametrize(
    ("over", "stage", "jobs_made"),
    [
        ({"level": "watch"}, "awaiting_person", 0),
        ({"level": "rollback"}, "awaiting_person", 0),
        ({"approval": "on_request"}, "awaiting_person", 0),
        ({"approval": "paused"}, "awaiting_person", 0),
        ({"max_jobs_per_day": 0}, "detected", 0),
        ({}, "diagnosing", 1),
    ],
)
def test_registration_decides_whether_a_job_is_made(
    database: Database, clock: Clock, over: dict[str, Any], stage: str, jobs_made: int
) -> None:
    start(database, **over)
    take(database, clock, finding())
    (incident,) = rows(database, incidents)
    assert incident["stage"] == stage
    assert len(rows(database, jobs)) == jobs_made


def test_incident_ends_by_itself_and_its_job_is_cancelled_when_the_harm_reverts(
    database: Database, clock: Clock
) -> None:
    start(database)
    found = finding()
    take(database, clock, found)
    over = replace(found, status="resolved", resolution="recovered", revision=1)
    (ingested,) = take(database, clock, over)
    assert ingested.did == "resolved"
    (incident,) = rows(database, incidents)
    assert (incident["status"], incident["resolution"]) == ("resolved", "reverted")
    assert incident["open_mark"] is None
    (job,) = rows(database, jobs)
    assert (job["state"], job["live_mark"]) == ("cancelled", None)
    assert announced(database)[-1].status == "resolved"


def test_one_live_job_per_model_although_two_kinds_of_incident_are_open(
    database: Database, clock: Clock
) -> None:
    start(database)
    with database.begin() as conn:
        from redistill.workers.store import job_queue

        job_id = job_queue.job_id_of("credit", "manual")
        assert job_queue.create(
            conn,
            job_id,
            model="credit",
            trigger=("actor", "cli:ann"),
            deadline_at=NOW + HOUR,
            now=NOW,
        )
    take(database, clock, finding())
    (incident,) = rows(database, incidents)
    assert (incident["stage"], incident["decision"]) == ("detected", "wait")
    assert len(rows(database, jobs)) == 1


def test_unreadable_body_is_noted_and_does_not_stop_the_others(
    database: Database, clock: Clock
) -> None:
    start(database)
    broken = finding()
    with database.begin() as conn:
        loop.store(conn, broken, now=clock())
        conn.execute(sa.update(findings).values(body="{"))
    done = take(database, clock, finding(scope="slice:region=EU"))
    assert sorted(t.did for t in done) == ["noted", "opened"]
    assert ingest.ingest(database, fleet_limits=LIMITS, actor="t", clock=clock) == []


def test_model_whose_specification_cannot_be_read_does_not_stop_the_others(
    database: Database, clock: Clock
) -> None:
    start(database)
    with database.begin() as conn:
        loop.register(conn, loop.spec("other"))
        conn.execute(sa.update(specs).where(specs.c.model == "credit").values(spec="{}"))
    done = take(database, clock, finding(), finding(model="other"))
    assert [t.did for t in done] == ["opened"]
    assert [i["model"] for i in rows(database, incidents)] == ["other"]


def test_finding_that_another_worker_is_ahead_of_is_left_for_the_next_round(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(database)
    raced, other = finding(), finding(scope="slice:region=EU")
    route = Router.route

    def first_fails(self: Router, found: DriftFound, context: Any) -> Ingested:
        if found.finding_id == raced.finding_id:
            raise sa.exc.IntegrityError("INSERT", {}, Exception("incidents is not unique"))
        return route(self, found, context)

    with monkeypatch.context() as patch:
        patch.setattr(Router, "route", first_fails)
        assert [i.finding_id for i in take(database, clock, raced, other)] == [
            str(other.finding_id)
        ]
    with database.read() as conn:
        assert ingest.pending(conn) == [str(raced.finding_id)]
    (later,) = ingest.ingest(database, fleet_limits=LIMITS, actor="t", clock=clock)
    assert (later.finding_id, later.did) == (str(raced.finding_id), "attached")


def test_rounds_are_bounded_and_begin_with_what_was_stored_first(
    database: Database, clock: Clock
) -> None:
    start(database)
    stored = [finding(model="unknown") for _ in range(3)]
    with database.begin() as conn:
        for found in stored:
            loop.store(conn, found, now=clock.forward(1))
        assert ingest.pending(conn, 2) == [str(f.finding_id) for f in stored[:2]]

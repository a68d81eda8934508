"""Findings become incidents and jobs: once, in one transaction, or with a reason why not."""

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
from redistill.streams.wire.events import IncidentChanged
from redistill.times import HOUR, SECOND
from redistill.workers.incidents import incident_repository, ingest, lifecycle
from redistill.workers.store import audit, incident_queries
from redistill.workers.store.tables import incident_findings, incidents, jobs


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


def take(database: Database, clock: Clock, *found: Any) -> list[ingest.Ingested]:
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
        assert audit.verify(conn).problem is None
        steps = [s["what"] for s in incident_queries.audit_trail(conn, incident["incident_id"])]
    assert steps == ["incident.opened", "incident.job_made"]


def test_announcement_is_not_believed_when_sql_has_no_such_finding(
    database: Database, clock: Clock
) -> None:
    start(database)
    assert ingest.ingest(database, str(uuid4()), fleet_limits=LIMITS, actor="t", clock=clock) == []
    assert rows(database, incidents) == []


def test_finding_is_taken_in_once_however_often_it_is_announced(
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


def test_later_revisions_and_findings_attach_to_the_open_incident(
    database: Database, clock: Clock
) -> None:
    start(database)
    found = finding()
    take(database, clock, found)
    (update,) = take(database, clock, replace(found, status="update", revision=1))
    assert update.did == "noted"
    (other,) = take(database, clock, finding(scope="slice:region=EU"))
    assert other.did == "attached"
    (explains,) = take(database, clock, finding(kind="input", severity="info", harmful=None))
    assert explains.did == "attached"
    assert len(rows(database, incidents)) == 1
    assert len(rows(database, incident_findings)) == 3
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


def test_finding_that_turns_out_harmful_opens_an_incident_later(
    database: Database, clock: Clock
) -> None:
    start(database)
    found = finding(harmful=None, severity="warning")
    take(database, clock, found)
    worse = finding(finding_id=found.finding_id, revision=1, status="update")
    (ingested,) = take(database, clock, worse)
    assert ingested.did == "opened"


def test_broken_data_call_a_person_and_never_make_a_job(database: Database, clock: Clock) -> None:
    start(database)
    take(
        database, clock, finding(kind="quality", severity="critical", scope="income", harmful=None)
    )
    (incident,) = rows(database, incidents)
    assert (incident["incident_class"], incident["stage"]) == ("data_bug", "awaiting_person")
    assert incident["cause"] == "data_bug"
    assert rows(database, jobs) == []


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
def test_level_and_terms_decide_whether_a_job_is_made(
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


def test_incident_stays_open_while_one_of_its_findings_is(database: Database, clock: Clock) -> None:
    start(database)
    first, second = finding(), finding(scope="slice:region=EU")
    take(database, clock, first, second)
    take(database, clock, replace(first, status="resolved", resolution="recovered", revision=1))
    assert rows(database, incidents)[0]["status"] == "open"
    take(database, clock, replace(second, status="resolved", resolution="recovered", revision=1))
    assert rows(database, incidents)[0]["status"] == "resolved"


def test_superseded_finding_does_not_end_the_incident(database: Database, clock: Clock) -> None:
    start(database)
    found = finding()
    take(database, clock, found)
    take(database, clock, replace(found, status="resolved", resolution="superseded", revision=1))
    assert rows(database, incidents)[0]["status"] == "open"


def test_recurrence_within_the_cool_down_reopens_and_waits(
    database: Database, clock: Clock
) -> None:
    start(database)
    found = finding()
    take(database, clock, found)
    take(database, clock, replace(found, status="resolved", resolution="recovered", revision=1))
    clock.forward(HOUR // 2)
    (ingested,) = take(database, clock, finding(at=clock()))
    assert ingested.did == "reopened"
    (incident,) = rows(database, incidents)
    assert incident["status"] == "open"
    assert incident["resolved_at"] is None


def test_recurrence_after_the_cool_down_is_another_incident(
    database: Database, clock: Clock
) -> None:
    start(database)
    found = finding()
    take(database, clock, found)
    take(database, clock, replace(found, status="resolved", resolution="recovered", revision=1))
    clock.forward(HOUR + 1)
    (ingested,) = take(database, clock, finding(at=clock()))
    assert ingested.did == "opened"
    assert len(rows(database, incidents)) == 2


def test_person_who_ended_an_incident_is_not_called_again_for_the_same_finding(
    database: Database, clock: Clock
) -> None:
    start(database)
    found = finding()
    take(database, clock, found)
    with database.begin() as conn:
        (incident,) = incident_repository.open_ones(conn)
        lifecycle.resolve(conn, incident, "person", why="known", actor="cli:ann", now=clock())
    (ingested,) = take(database, clock, replace(found, status="update", revision=1))
    assert (ingested.did, "is resolved" in ingested.note) == ("noted", True)
    assert rows(database, incidents)[0]["status"] == "resolved"


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


def test_unreadable_body_is_noted_and_does_not_stop_the_sweep(
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


def test_harm_to_what_was_published_against_an_incident_starts_it_anew(
    database: Database, clock: Clock
) -> None:
    start(database)
    take(database, clock, finding())
    with database.begin() as conn:
        loop.point(conn, "credit", "v2", now=clock.forward(SECOND), kind="actor")
    (ingested,) = take(database, clock, finding(version="v2", at=clock()))
    assert ingested.did == "reopened"
    (incident,) = rows(database, incidents)
    assert (incident["version"], incident["change_low"]) == ("v2", clock() - 10 * SECOND)
    first, second = sorted(rows(database, jobs), key=lambda j: j["number"])
    assert (first["state"], second["state"], second["attempt"]) == ("cancelled", "queued", 2)


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


def test_approval_starts_what_the_circuit_breaker_held_back(
    database: Database, clock: Clock
) -> None:
    start(database, approval="on_request")
    take(database, clock, finding())
    with database.begin() as conn:
        (incident,) = incident_repository.open_ones(conn)
        lifecycle.approve(conn, incident, LIMITS, actor="cli:ann", now=clock())
    (job,) = rows(database, jobs)
    assert job["state"] == "queued"
    assert rows(database, incidents)[0]["stage"] == "diagnosing"

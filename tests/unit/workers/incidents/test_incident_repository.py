"""Every change of an incident is a row, an event and an audit entry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import loop
import msgspec
import pytest
import sqlalchemy as sa
from loop import NOW, finding

from redistill.streams.store.tables import outbox
from redistill.streams.wire.events import IncidentChanged
from redistill.times import SECOND, utc
from redistill.workers.errors import UsageError
from redistill.workers.incidents import incident_repository
from redistill.workers.incidents.incident_repository import IncidentRow
from redistill.workers.store.tables import audit, incidents


@pytest.fixture
def conn(database_url: str) -> Iterator[sa.Connection]:
    database = loop.opened(database_url)
    with database.begin() as conn:
        loop.register(conn, loop.spec())
        yield conn
    database.dispose()


def opened(conn: sa.Connection, incident_id: str | None = None, **over: Any) -> IncidentRow:
    values: dict[str, Any] = {
        "incident_id": incident_id or str(uuid4()), "model": "credit", "version": "v1",
        "incident_class": "harm", "finding_id": str(finding().finding_id), "change": (NOW - 9, NOW - 5),
        "why": "error 5% -> 60%", "actor": "worker:a", "now": NOW,
    } | over  # fmt: skip
    return incident_repository.open_new(conn, **values)


def events(conn: sa.Connection) -> list[IncidentChanged]:
    values = conn.execute(sa.select(outbox.c.value).order_by(outbox.c.seq)).scalars()
    return [msgspec.json.decode(v, type=IncidentChanged) for v in values]


def entries(conn: sa.Connection) -> list[tuple[str, dict[str, Any]]]:
    rows = conn.execute(sa.select(audit).order_by(audit.c.seq))
    return [(r.action, json.loads(r.body) | {"actor": r.actor, "subject": r.subject}) for r in rows]


def test_opening_is_a_row_an_event_and_an_audit_entry(conn: sa.Connection) -> None:
    known = finding()
    row = opened(conn, finding_id=str(known.finding_id))
    assert (row["status"], row["stage"], row["attempt"], row["open_mark"]) == (
        "open", "detected", 0, 1,
    )  # fmt: skip
    assert (row["change_low"], row["change_high"], row["opened_at"]) == (NOW - 9, NOW - 5, NOW)
    assert len(row["split_salt"]) == 16
    (event,) = events(conn)
    assert (event.status, event.why, event.finding_ids) == (
        "opened", "error 5% -> 60%", [known.finding_id],
    )  # fmt: skip
    assert event.opened_at == event.at == utc(NOW)
    ((action, body),) = entries(conn)
    assert action == "incident.opened"
    assert (body["actor"], body["subject"], body["why"]) == (
        "worker:a", row["incident_id"], "error 5% -> 60%",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("incident_class", "cause"), [("harm", None), ("data_bug", "data_bug"), ("serving", None)]
)
def test_cause_of_broken_data_is_known_from_the_start(
    conn: sa.Connection, incident_class: str, cause: str | None
) -> None:
    assert opened(conn, incident_class=incident_class, change=None)["cause"] == cause


def test_two_incidents_are_split_by_two_salts(conn: sa.Connection) -> None:
    this = opened(conn)
    other = opened(conn, incident_class="serving")
    assert this["split_salt"] != other["split_salt"]
    assert opened(conn, incident_class="data_bug", salt="given")["split_salt"] == "given"


def test_update_changes_columns_and_says_so(conn: sa.Connection) -> None:
    row = opened(conn)
    job_id = str(uuid4())
    after = incident_repository.update(
        conn, row, actor="worker:b", action="incident.decided", now=NOW + SECOND, job_id=job_id,
        stage="diagnosing", decision="repair", why="because",
    )  # fmt: skip
    assert (after["stage"], after["decision"], after["updated_at"]) == (
        "diagnosing", "repair", NOW + SECOND,
    )  # fmt: skip
    assert after == incident_repository.get(conn, row["incident_id"])
    event = events(conn)[-1]
    assert (event.status, event.decision, str(event.job_id)) == ("updated", "repair", job_id)
    assert (event.opened_at, event.at) == (utc(NOW), utc(NOW + SECOND))
    action, body = entries(conn)[-1]
    assert (action, body["job_id"], body["stage"]) == ("incident.decided", job_id, "diagnosing")


def test_incident_that_ends_makes_room_for_the_next_of_its_class(conn: sa.Connection) -> None:
    row = opened(conn)
    after = incident_repository.update(
        conn, row, actor="a", action="incident.resolved", now=NOW + 5,
        **incident_repository.resolution(NOW + 5, "recovered"),
    )  # fmt: skip
    assert (after["status"], after["resolution"], after["resolved_at"], after["open_mark"]) == (
        "resolved", "recovered", NOW + 5, None,
    )  # fmt: skip
    assert events(conn)[-1].status == "resolved"
    assert incident_repository.open_ones(conn) == []
    opened(conn)


def test_incident_is_opened_again_about_new_trouble(conn: sa.Connection) -> None:
    row = opened(conn)
    incident_repository.update(
        conn, row, actor="a", action="incident.resolved", now=NOW,
        **incident_repository.resolution(NOW, "reverted"), cause="compression_gap", decision="repair",
    )  # fmt: skip
    later = str(finding().finding_id)
    again = incident_repository.reopen(
        conn, row, version="v2", finding_id=later, change=None, why="it came back", actor="a",
        now=NOW + 9,
    )  # fmt: skip
    assert (again["status"], again["stage"], again["open_mark"], again["version"]) == (
        "open", "detected", 1, "v2",
    )  # fmt: skip
    assert {again[c] for c in ("cause", "decision", "resolved_at", "resolution", "change_low")} == {
        None
    }
    assert later in incident_repository.findings_of(conn, row["incident_id"])
    assert events(conn)[-1].status == "updated"


def test_finding_is_attached_once(conn: sa.Connection) -> None:
    first, second = str(UUID(int=9)), str(UUID(int=1))
    row = opened(conn, finding_id=first)
    assert incident_repository.attach(conn, row["incident_id"], second, NOW + 1)
    assert not incident_repository.attach(conn, row["incident_id"], second, NOW + 2)
    assert incident_repository.findings_of(conn, row["incident_id"]) == [first, second]


def test_incident_is_found_by_how_its_id_begins(conn: sa.Connection) -> None:
    ids = ["ab000000-0000-4000-8000-000000000000", "ab100000-0000-4000-8000-000000000000"]
    opened(conn, ids[0])
    opened(conn, ids[1], incident_class="serving")
    assert incident_repository.find(conn, "ab1")["incident_id"] == ids[1]
    with pytest.raises(UsageError, match="several incidents begin with 'ab'"):
        incident_repository.find(conn, "ab")
    with pytest.raises(UsageError, match="there is no incident '%'"):
        incident_repository.find(conn, "%")


def test_open_incidents_are_told_oldest_first(conn: sa.Connection) -> None:
    new = opened(conn, now=NOW + 1)
    old = opened(conn, now=NOW, incident_class="serving")
    other = opened(conn, now=NOW - 1, model="fraud")
    ids = [i["incident_id"] for i in incident_repository.open_ones(conn)]
    assert ids == [other["incident_id"], old["incident_id"], new["incident_id"]]
    assert len(incident_repository.open_ones(conn, "credit")) == 2


def test_incident_of_a_finding_is_best_one_of_its_class_and_open(conn: sa.Connection) -> None:
    known = str(uuid4())

    def resolve(row: IncidentRow) -> IncidentRow:
        ended = incident_repository.resolution(NOW, "person")
        return incident_repository.update(conn, row, actor="a", action="x", now=NOW, **ended)

    def belongs(incident_class: Any) -> Any:
        row = incident_repository.of_finding(conn, known, incident_class)
        return None if row is None else row["incident_id"]

    assert belongs("harm") is None
    over = resolve(opened(conn, finding_id=known))
    assert belongs("harm") == over["incident_id"]
    serving = opened(conn, finding_id=known, incident_class="serving", now=NOW - 9)
    assert belongs("harm") == over["incident_id"]
    assert belongs("serving") == belongs(None) == serving["incident_id"]
    again = opened(conn, finding_id=known, now=NOW - 9)
    assert belongs("harm") == again["incident_id"]


def test_last_resolved_incident_counts_if_it_is_of_the_class_and_recent(
    conn: sa.Connection,
) -> None:
    for at in (NOW, NOW + 10):
        row = opened(conn, now=at)
        ended = incident_repository.resolution(at + 5, "person")
        incident_repository.update(conn, row, actor="a", action="x", now=at, **ended)
    last = incident_repository.last_resolved(conn, "credit", "harm", since=NOW + 14)
    assert last is not None
    assert last["incident_id"] == row["incident_id"]
    assert incident_repository.last_resolved(conn, "credit", "harm", since=NOW + 15) is None
    assert incident_repository.last_resolved(conn, "credit", "serving", since=0) is None
    assert incident_repository.last_resolved(conn, "fraud", "harm", since=0) is None


def test_change_of_an_incident_that_is_not_there_fails(conn: sa.Connection) -> None:
    missing = {"incident_id": str(uuid4())}
    with pytest.raises(LookupError):
        incident_repository.update(conn, missing, actor="a", action="x", now=NOW, stage="detected")
    assert conn.execute(sa.select(incidents)).all() == []

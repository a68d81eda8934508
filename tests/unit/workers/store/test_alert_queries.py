from __future__ import annotations

import json
from collections.abc import Iterator

import incident_rows
import loop
import pytest
import sqlalchemy as sa
from loop import NOW

from redistill.streams.store import properties
from redistill.times import DAY, HOUR
from redistill.workers.store import alert_deliveries, alert_queries
from redistill.workers.store.alert_deliveries import Delivery
from redistill.workers.store.tables import operational_alerts


@pytest.fixture
def conn(database_url: str) -> Iterator[sa.Connection]:
    database = loop.opened(database_url)
    with database.begin() as conn:
        yield conn
    database.dispose()


def believed(key: str) -> Delivery:
    return Delivery(
        channel="a", alert_key=key, state="told", digest="d", told="d", told_state="firing", title="t",
        severity="page", since=NOW, not_before=NOW, wanted_at=NOW, sent_at=NOW,
    )  # fmt: skip


def test_incident_lives_while_it_is_open_ended_lately_or_somebody_believes_in_it(
    conn: sa.Connection,
) -> None:
    open_, late, old, told, member = [
        incident_rows.open_incident(conn, model=m, now=NOW) for m in incident_rows.models(5)
    ]
    incident_rows.resolve(conn, late, now=NOW + 2 * DAY)
    incident_rows.resolve(conn, old, told, member, now=NOW + HOUR)
    alert_deliveries.note(conn, believed(f"incident:{told}"))
    alert_queries.join_storms(conn, {f"incident:{member}": "storm:1"}, NOW)
    found = {row["incident_id"] for row in alert_queries.live_incidents(conn, NOW + DAY)}
    assert found == {open_, late, told, member}
    bodies = alert_queries.finding_bodies(conn, [open_, late])
    assert {k: [json.loads(f)["kind"] for f in v] for k, v in bodies.items()} == {
        open_: ["accuracy"],
        late: ["accuracy"],
    }


def test_trouble_lives_by_the_same_rule(conn: sa.Connection) -> None:
    row = {"kind": "disk", "model": None, "severity": "warn", "said": "full", "remedy": "free some",
           "opened_at": NOW, "updated_at": NOW}  # fmt: skip
    for name, resolved in (("open", None), ("old", NOW), ("told", NOW)):
        values = row | {
            "alert_id": name,
            "subject": name,
            "resolved_at": resolved,
            "open_mark": 0 if resolved else 1,
        }
        conn.execute(sa.insert(operational_alerts).values(**values))
    alert_deliveries.note(conn, believed("operational:told"))
    found = {r["alert_id"] for r in alert_queries.live_operational(conn, NOW + DAY)}
    assert found == {"open", "told"}


def test_moves_of_pointers_know_what_served_before(conn: sa.Connection) -> None:
    loop.register(conn, loop.spec())
    loop.point(conn, "credit", "r2", now=NOW)
    found = [(r["before"], r["stable"]) for r in alert_queries.changes(conn, 0)]
    assert found == [(None, "v1"), ("v1", "r2")]
    assert alert_queries.changes(conn, NOW) == []


def test_people_are_told_from_the_first_time_on(conn: sa.Connection) -> None:
    assert alert_queries.begun_at(conn, NOW) == NOW
    assert alert_queries.begun_at(conn, NOW + DAY) == NOW
    properties.put(conn, "alerts_since", "yesterday")
    assert alert_queries.begun_at(conn, NOW + DAY) == NOW + DAY


def test_members_of_a_storm_stay_in_it_until_it_is_forgotten(conn: sa.Connection) -> None:
    alert_queries.join_storms(conn, {}, NOW)
    alert_queries.join_storms(conn, {"incident:1": "storm:1", "incident:2": "storm:1"}, NOW)
    alert_queries.join_storms(conn, {"incident:1": "storm:2", "incident:3": "storm:2"}, NOW + 1)
    assert alert_queries.storms(conn) == {
        "incident:1": "storm:1", "incident:2": "storm:1", "incident:3": "storm:2",
    }  # fmt: skip
    alert_queries.forget_storms(conn, ["storm:1", "storm:2"], NOW + 1)
    alert_queries.forget_storms(conn, [], NOW + 9)
    assert alert_queries.storms(conn) == {"incident:3": "storm:2"}


def test_key_is_known_while_its_storm_or_trouble_is(conn: sa.Connection) -> None:
    alert_queries.join_storms(conn, {"incident:1": "storm:1"}, NOW)
    assert alert_queries.is_open(conn, "storm:1")
    assert not alert_queries.is_open(conn, "storm:2")
    assert not alert_queries.is_open(conn, "operational:1")

"""A round reads SQL and nothing else; what it decides is stored."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import feeds
import incident_rows
import loop
import pytest
import sqlalchemy as sa
from loop import NOW
from structlog.testing import capture_logs

from redistill.streams.errors import LeaseError
from redistill.streams.store.database import Database
from redistill.streams.store.tables import findings
from redistill.times import DAY, HOUR, SECOND
from redistill.workers.alerts import delivery, incident_alerts
from redistill.workers.alerts.alerts_file import AlertsConfig, Route, Storm
from redistill.workers.alerts.operational import book
from redistill.workers.alerts.planner import AGAIN_US, LATELY_US, Planner
from redistill.workers.alerts.planning import Plan, Traits
from redistill.workers.store import alert_deliveries, alert_holds, alert_queries
from redistill.workers.store.tables import incident_findings, pointer_history

CONFIG = AlertsConfig(
    channels={"team": {}},
    routes=(Route(channels=("team",), min_severity="info"),),
    storm=Storm(alerts=3, settle_seconds=0),
)
TRAITS = {"team": Traits(in_place=True)}


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = loop.opened(database_url)
    yield opened
    opened.dispose()


class Rounds:
    """A planner, and a channel that is told at once."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.planner = Planner(database, public_url="https://r.example")

    def __call__(self, now: int, *, tell: bool = True) -> list[tuple[str, str]]:
        made = self.plan(now)
        for one in made.owed["team"] if tell else ():
            with self.database.begin() as conn:
                alert_deliveries.note(conn, delivery.sent(one.delivery, one.alert, now=now))
        return [(one.alert.kind, one.alert.state) for one in made.owed["team"]]

    def plan(self, now: int) -> Plan:
        return self.planner.round(CONFIG, TRAITS, now=now)


def test_incident_is_told_changed_and_ended_from_what_sql_says(database: Database) -> None:
    rounds = Rounds(database)
    assert rounds(NOW) == []
    with database.begin() as conn:
        number = incident_rows.open_incident(conn, now=NOW)
    ((alert, _),) = [(s.alert, s.delivery) for s in rounds.plan(NOW).owed["team"]]
    assert (alert.title, alert.url) == (
        "credit v1: error 5.0% → 60.0%",
        f"https://r.example/incidents/{number}",
    )
    assert rounds(NOW) == [("incident", "firing")]
    assert rounds(NOW + HOUR) == []
    with database.begin() as conn:
        incident_rows.needs_person(conn, number, now=NOW + HOUR)
    assert [s.alert.severity for s in rounds.plan(NOW + HOUR).owed["team"]] == ["page"]
    rounds(NOW + HOUR)
    with database.begin() as conn:
        incident_rows.resolve(conn, number, now=NOW + HOUR)
    assert rounds(NOW + HOUR) == [("incident", "resolved")]
    assert rounds(NOW + HOUR) == []


def test_process_that_died_before_it_noted_sends_the_same_again(database: Database) -> None:
    with database.begin() as conn:
        incident_rows.open_incident(conn, now=NOW)
    (first,) = Rounds(database).plan(NOW).owed["team"]
    (again,) = Rounds(database).plan(NOW + SECOND).owed["team"]
    assert (again.alert, again.delivery.digest) == (first.alert, first.delivery.digest)


def test_end_is_told_however_long_nobody_was_there_to_tell_it(database: Database) -> None:
    with database.begin() as conn:
        number = incident_rows.open_incident(conn, now=NOW)
        other = incident_rows.open_incident(conn, model="fraud", now=NOW)
    rounds = Rounds(database)
    assert len(rounds(NOW)) == 2
    with database.begin() as conn:
        incident_rows.resolve(conn, number, other, now=NOW + HOUR)
    assert Rounds(database)(NOW + 9 * DAY) == [("incident", "resolved")] * 2
    assert Rounds(database)(NOW + 9 * DAY) == []


def test_acknowledged_incident_is_told_so_and_forgotten_when_it_comes_back(
    database: Database,
) -> None:
    with database.begin() as conn:
        number = incident_rows.open_incident(conn, now=NOW)
    rounds = Rounds(database)
    rounds(NOW)
    with database.begin() as conn:
        alert_holds.acknowledge(
            conn, f"incident:{number}", subject=number, actor="cli:ann", now=NOW
        )
    assert rounds(NOW) == [("incident", "acknowledged")]


def test_moves_of_pointers_are_told_from_when_somebody_is_there_to_be_told(
    database: Database,
) -> None:
    with database.begin() as conn:
        loop.register(conn, loop.spec())
    rounds = Rounds(database)
    rounds(NOW)
    assert rounds(NOW) == [], "what was before is no news"
    with database.begin() as conn:
        loop.point(conn, "credit", "r2", now=NOW + SECOND)
    ((alert),) = [s.alert for s in rounds.plan(NOW + SECOND).owed["team"]]
    assert (alert.title, alert.key) == ("credit: r2 serves in place of v1", "change:credit:2")
    assert rounds(NOW + SECOND) == [("change", "resolved")]
    assert rounds(NOW + 2 * SECOND) == []
    assert rounds(NOW + SECOND + LATELY_US) == []


@pytest.mark.parametrize(
    "body", ["{", "[1]", '{"impact": [3], "slices": 3}', '{"contributors": [{}]}']
)
def test_row_that_cannot_be_read_costs_nobody_else_their_alert(
    database: Database, body: str
) -> None:
    with database.begin() as conn:
        number = incident_rows.open_incident(conn, now=NOW)
        incident_rows.open_incident(conn, model="fraud", now=NOW)
        f = findings.c
        conn.execute(sa.update(findings).where(f.model == "credit").values(body=body))
    rounds = Rounds(database)
    with capture_logs() as lines:
        told = {s.alert.model: s.alert for s in rounds.plan(NOW).owed["team"]}
        assert rounds(NOW + SECOND) == [("incident", "firing")] * 2
        assert told.keys() == {"credit", "fraud"}
        assert told["credit"].how_bad == "its effect on accuracy is not known: no label says so yet"
        assert "5.0% → 60.0%" in told["fraud"].title
        with database.begin() as conn:
            loop.point(conn, "credit", "r2", now=NOW + SECOND)
            conn.execute(sa.update(pointer_history).values(trigger="rubbish"))
            incident_rows.resolve(conn, number, now=NOW + 2 * SECOND)
        later = [rounds(NOW + i * SECOND) for i in (3, 4)]
    assert later == [[("incident", "resolved"), ("change", "resolved")], []]
    said = [(x["action"], x["alert"]) for x in lines if x["log_level"] == "error"]
    assert said == [
        ("alert_unreadable", f"incident:{number}"),
        ("alert_unreadable", "change:credit:2"),
    ]


@pytest.mark.parametrize("body", ["rubbish", "[]", '{"impact": {"harmful": true}}', "null"])
def test_finding_that_cannot_be_read_costs_no_other_of_its_incident(
    database: Database, body: str
) -> None:
    """All that was measured was left out of the alert for one finding of another shape."""
    with database.begin() as conn:
        number = incident_rows.open_incident(conn, now=NOW)
        f = findings.c
        one = dict(conn.execute(sa.select(findings)).mappings().one())
        other = one | {"finding_id": str(uuid4()), "body": body}
        conn.execute(sa.insert(findings), [other])
        attached = incident_findings.c
        row = dict(conn.execute(sa.select(incident_findings)).mappings().one())
        conn.execute(sa.insert(incident_findings), [row | {"finding_id": other["finding_id"]}])
        assert conn.execute(sa.select(sa.func.count(f.finding_id))).scalar() == 2
        assert conn.execute(sa.select(attached.incident_id)).scalars().all() == [number] * 2
    with capture_logs():
        (owed,) = Rounds(database).plan(NOW).owed["team"]
    assert "5.0% → 60.0%" in owed.alert.title


def test_alert_that_cannot_be_made_at_all_holds_up_no_other(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.begin() as conn:
        incident_rows.open_incident(conn, now=NOW)
        now = {"said": "full", "remedy": "free some", "now": NOW}
        book.open_alert(conn, "disk", "home", severity="page", **now)  # type: ignore[arg-type]

    def cannot(*_: object) -> None:
        raise OverflowError("a time that is none")

    monkeypatch.setattr(incident_alerts, "of_incident", cannot)
    with capture_logs() as lines:
        assert Rounds(database)(NOW) == [("operational", "firing")]
    assert [x["action"] for x in lines] == ["alert_unreadable"]


def test_storm_lives_as_long_as_a_member_and_is_forgotten_afterwards(database: Database) -> None:
    with database.begin() as conn:
        numbers = [
            incident_rows.open_incident(conn, model=m, now=NOW) for m in incident_rows.models(3)
        ]
    rounds = Rounds(database)
    assert rounds(NOW) == [("storm", "firing")]
    with database.begin() as conn:
        incident_rows.resolve(conn, *numbers[:2], now=NOW + HOUR)
    assert rounds(NOW + 9 * DAY) == [("storm", "firing")]
    with database.begin() as conn:
        incident_rows.resolve(conn, numbers[2], now=NOW + 9 * DAY)
    assert rounds(NOW + 9 * DAY) == [("storm", "resolved")]
    assert rounds(NOW + 10 * DAY) == []
    with database.read() as conn:
        assert alert_queries.storms(conn) == {}


def test_broken_feed_is_one_page_whose_models_are_named(database: Database) -> None:
    with database.begin() as conn:
        numbers = feeds.break_column(conn, ["credit", "fraud"])
        feeds.break_column(conn, ["churn"], column="age")
    rounds = Rounds(database)
    told = {s.alert.kind: s.alert for s in rounds.plan(NOW).owed["team"]}
    assert told["storm"].title == "column `income` has missing values in 2 models: credit, fraud"
    assert (told["incident"].model, len(told)) == ("churn", 2)
    rounds(NOW)
    with database.begin() as conn:
        incident_rows.resolve(conn, *numbers, now=NOW + HOUR)
    assert rounds(NOW + HOUR) == [("storm", "resolved")]


def test_nothing_is_stored_where_another_process_has_taken_over(database: Database) -> None:
    def lost(conn: object) -> None:
        raise LeaseError("taken over")

    with database.begin() as conn:
        incident_rows.open_incident(conn, now=NOW)
    with pytest.raises(LeaseError):
        Planner(database, public_url=None, fence=lost).round(CONFIG, TRAITS, now=NOW)
    with database.read() as conn:
        assert alert_deliveries.read(conn) == {}


def test_page_that_goes_nowhere_is_said_in_the_log_once(database: Database) -> None:
    with database.begin() as conn:
        incident_rows.needs_person(conn, incident_rows.open_incident(conn, now=NOW), now=NOW)
    planner = Planner(database, public_url=None)
    with capture_logs() as lines:
        for _ in range(3):
            planner.round(AlertsConfig(), {}, now=NOW)
    assert [line["action"] for line in lines] == ["alert_unrouted"]


def test_round_is_due_when_something_was_written_or_time_has_passed(database: Database) -> None:
    planner = Planner(database, public_url=None)
    assert planner.due(NOW)
    assert not planner.due(NOW + 1)
    with database.begin() as conn:
        number = incident_rows.open_incident(conn, now=NOW)
    assert planner.due(NOW + 2)
    assert not planner.due(NOW + 3)
    with database.begin() as conn:
        alert_holds.acknowledge(
            conn, f"incident:{number}", subject=number, actor="cli:ann", now=NOW
        )
    assert planner.due(NOW + 4)
    with database.begin() as conn:
        alert_holds.snooze(
            conn, f"incident:{number}", until=NOW, subject=number, actor="cli:ann", now=NOW
        )
        incident_rows.needs_person(conn, number, now=NOW + 5)
    assert planner.due(NOW + 6)
    assert not planner.due(NOW + 7)
    planner.reset()
    assert planner.due(NOW + 8)
    assert planner.due(NOW + 8 + AGAIN_US)

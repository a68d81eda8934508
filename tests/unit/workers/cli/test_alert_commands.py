"""The commands of alerts: what they show, whom they tell, and what a hold changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import incident_rows
import pytest
import repairable
import sqlalchemy as sa
from receivers import Receiver, answers, receiver
from typer.testing import CliRunner, Result

from redistill.streams.store.database import Database
from redistill.times import HOUR, now_us
from redistill.workers.cli import main
from redistill.workers.errors import UsageError
from redistill.workers.exit_codes import ExitCode
from redistill.workers.incidents import incident_repository
from redistill.workers.store import alert_holds, alert_queries, opening
from redistill.workers.store.tables import audit, jobs


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setenv("REDISTILL_HOME", str(tmp_path / "home"))
    settings = repairable.settings_of(tmp_path / "home")
    opening.upgrade(settings)
    opened = opening.open(settings)
    yield opened
    opened.dispose()


@pytest.fixture
def team(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver behind a channel of its name."""
    monkeypatch.setenv("TEAM_SECRET", "whsec_" + "QUFB" * 12)
    with receiver() as heard:
        (tmp_path / "home" / "alerts.toml").write_text(
            f'[channels.team]\nkind = "webhook"\nurl = "{heard.url}"\nsecret = "env:TEAM_SECRET"\n'
            'allow_private = ["127.0.0.0/8"]\n'
        )
        yield heard


def call(*args: str) -> Result:
    return CliRunner().invoke(main.app, list(args))


def done(*args: str) -> str:
    result = call(*args)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def incident(database: Database, model: str = "credit") -> str:
    with database.begin() as conn:
        return incident_rows.open_incident(conn, model=model, now=now_us())


def actions(database: Database) -> list[tuple[str, str]]:
    with database.read() as conn:
        rows = conn.execute(sa.select(audit.c.action, audit.c.actor).order_by(audit.c.seq)).all()
    return [(row.action, row.actor) for row in rows]


def test_list_shows_what_is_open_and_who_has_it(database: Database) -> None:
    assert done("alerts", "list") == "no alert is open\n"
    number = incident(database)
    done("incidents", "ack", number[:8])
    (one,) = json.loads(done("alerts", "list", "--json"))
    assert (one["key"], one["state"], one["channels"]) == (f"incident:{number}", "acknowledged", [])
    assert one["opened_at"].endswith("Z")
    assert "acknowledged by cli:" in one["done"]
    assert "nobody" in done("alerts")


def test_list_shows_a_storm_with_its_members(database: Database) -> None:
    numbers = [incident(database, model) for model in incident_rows.models(3)]
    with database.begin() as conn:
        alert_queries.join_storms(conn, {f"incident:{n}": "storm:1" for n in numbers}, now_us())
    (one,) = json.loads(done("alerts", "list", "--json"))
    assert (one["key"], len(one["members"])) == ("storm:1", 3)


def test_test_tells_each_channel_and_that_it_is_over(team: Receiver) -> None:
    assert "team: told in " in done("alerts", "test")
    assert [r.json["data"]["state"] for r in team.requests] == ["firing", "resolved"]
    (one,) = json.loads(done("alerts", "test", "team", "--json"))
    assert one["error"] is None


def test_test_that_does_not_arrive_says_why_and_exits_with_three(team: Receiver) -> None:
    team.behaviour = answers(500)
    result = call("alerts", "test")
    assert result.exit_code == ExitCode.REFUSED
    assert "team: not told: " in result.output


def test_test_of_a_channel_that_is_not_there_names_those_that_are(team: Receiver) -> None:
    result = call("alerts", "test", "taem")
    assert isinstance(result.exception, UsageError)
    assert "it has team" in str(result.exception)


def test_test_without_channels_says_where_they_are_described(database: Database) -> None:
    assert "docs/alerts.md" in str(call("alerts", "test").exception)


def test_acknowledged_incident_is_in_the_audit_and_nothing_else_changes(database: Database) -> None:
    number = incident(database)
    with database.read() as conn:
        before = incident_repository.find(conn, number)
    assert (
        done("incidents", "ack", number[:8]) == f"incident {number} is yours: nobody else is told\n"
    )
    with database.read() as conn:
        assert incident_repository.find(conn, number) == before
        assert conn.execute(sa.select(jobs)).all() == []
    action, actor = actions(database)[-1]
    assert action == "incident.acknowledged"
    assert actor.startswith("cli:")
    assert "acknowledged" in done("incidents", "show", number[:8])


def test_snooze_has_an_end_and_can_be_taken_back(database: Database) -> None:
    number, now = incident(database), now_us()
    made = json.loads(done("incidents", "snooze", number, "--for", "2h", "--json"))
    assert made["key"] == f"incident:{number}"
    with database.read() as conn:
        until = alert_holds.read(conn)[f"incident:{number}"].snoozed_until or 0
    assert now + 2 * HOUR <= until <= now_us() + 2 * HOUR
    done("incidents", "snooze", number, "--off")
    with database.read() as conn:
        assert (alert_holds.read(conn)[f"incident:{number}"].snoozed_until or 0) <= now_us()
    assert [a for a, _ in actions(database)[-2:]] == ["incident.snoozed", "incident.snoozed"]


@pytest.mark.parametrize("length", ["2", "h", "2w", "-1h", "0m", "9999d"])
def test_length_of_a_snooze_that_makes_no_sense_is_refused(database: Database, length: str) -> None:
    result = call("incidents", "snooze", incident(database), "--for", length)
    assert "30m, 4h or 2d" in str(result.exception)


def test_resolved_incident_needs_nobody(database: Database) -> None:
    number = incident(database)
    done("incidents", "resolve", number, "--reason", "over")
    assert "is resolved already" in str(call("incidents", "ack", number).exception)


def test_incident_that_comes_back_is_nobodys(database: Database) -> None:
    number, now = incident(database), now_us()
    done("incidents", "ack", number)
    with database.begin() as conn:
        incident_rows.resolve(conn, number, now=now)
        row = incident_repository.find(conn, number)
        incident_repository.reopen(
            conn, row, version="v1", finding_id=row["incident_id"], change=None, why="again",
            actor="worker:test", now=now,
        )  # fmt: skip
        assert alert_holds.read(conn) == {}


def test_storm_is_acknowledged_by_its_key(database: Database) -> None:
    number = incident(database)
    with database.begin() as conn:
        alert_queries.join_storms(conn, {f"incident:{number}": "storm:1"}, now_us())
    done("incidents", "ack", "storm:1")
    assert actions(database)[-1][0] == "alert.acknowledged"
    assert "redistill alerts list" in str(call("incidents", "ack", "storm:2").exception)

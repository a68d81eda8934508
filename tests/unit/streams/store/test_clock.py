"""The one time that all processes share."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from redistill.streams.store.clock import ASK_US, DatabaseClock, steady_us
from redistill.streams.store.database import connect
from redistill.times import DAY, MINUTE, SECOND, now_us

ROOT = Path(__file__).resolve().parents[4]

OWN_CLOCK = {
    "streams/store/clock.py",
    "streams/client/fetch.py",  # a file of its own: how old it is
    "streams/client/logger.py",  # a service: when it served is its word
    "streams/client/model.py",
    "streams/client/sender.py",  # what its clock says, for a person to compare
    "workers/alerts/channels/alertmanager.py",  # receivers, which compare it with their own clock
    "workers/alerts/channels/exchange.py",  # how long one asks us to wait
    "workers/alerts/channels/webhook.py",
    "workers/cli/alerts.py",  # a test message, whether there is a database or not
    "workers/cli/keys.py",  # no database is asked
    "workers/cli/label.py",
    "workers/doctor/gathering.py",  # compares this clock with the database's
    "workers/jobs/scheduler.py",  # when the alarm clock rings first
    "redistill/times.py",
}
"""What may ask this machine for the time, with the reason."""


class Told:
    """A connection to a server whose clock says what it is told."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.asked = 0

    def execute(self, _: object) -> Told:
        self.asked += 1
        return self

    def scalar_one(self) -> int:
        return self.now


def test_servers_time_goes_on_by_a_steady_clock_whatever_this_machine_says() -> None:
    process, steady = [NOW + 40 * DAY], [5 * SECOND]
    clock = DatabaseClock(shared=True, process=lambda: process[0], steady=lambda: steady[0])
    assert clock() == NOW + 40 * DAY, "nobody was asked yet"
    server = Told(NOW)
    clock.look(server)  # type: ignore[arg-type]
    assert (clock(), clock.seconds()) == (NOW, NOW / 1e6)
    process[0] -= 80 * DAY
    steady[0] += 3 * SECOND
    assert clock() == NOW + 3 * SECOND
    assert clock.process() == NOW - 40 * DAY


def test_server_is_asked_again_only_after_a_while() -> None:
    steady = [0]
    clock = DatabaseClock(shared=True, steady=lambda: steady[0])
    server = Told(NOW)
    for at in (0, ASK_US - 1, ASK_US, ASK_US + 1):
        steady[0] = at
        clock.look(server)  # type: ignore[arg-type]
    assert server.asked == 2


def test_answer_that_took_long_is_not_believed_where_there_is_a_better_one() -> None:
    steady = iter([0, 0, ASK_US, ASK_US + MINUTE, ASK_US + MINUTE])
    clock = DatabaseClock(shared=True, steady=lambda: next(steady))
    clock.look(Told(NOW))  # type: ignore[arg-type]
    clock.look(Told(NOW))  # type: ignore[arg-type]
    assert clock() == NOW + ASK_US + MINUTE


def test_sqlite_has_this_process_clock_and_is_never_asked() -> None:
    clock = DatabaseClock(shared=False, process=lambda: 7)
    server = Told(NOW)
    clock.look(server)  # type: ignore[arg-type]
    assert (clock(), server.asked) == (7, 0)


def test_transactions_tell_the_time_of_the_database(database_url: str) -> None:
    database = connect(database_url)
    database.clock._process = lambda: now_us() + 40 * DAY
    for transaction in (database.read, database.begin):
        with transaction() as conn:
            assert conn.execute(sa.select(sa.literal(1))).scalar_one() == 1
    ahead = database.clock() - now_us()
    assert abs(ahead - (40 * DAY if database.is_sqlite else 0)) < MINUTE
    database.dispose()


def test_steady_clock_goes_forward() -> None:
    first = steady_us()
    assert first <= steady_us()


@pytest.mark.parametrize("room", ["streams", "workers", "redistill"])
def test_only_the_databases_clock_is_asked_for_what_is_stored_or_compared(room: str) -> None:
    """Two processes with clocks of their own delete, repeat or hold up each other's work."""
    asks = re.compile(r"now_us\(|= now_us|time\.time\b|time_ns\(|datetime\.now|utcnow")
    found = {
        str(path.relative_to(ROOT))
        for path in (ROOT / room).rglob("*.py")
        if not path.is_relative_to(ROOT / "workers" / "demo")
        and not any(part.is_symlink() for part in path.parents)
        and asks.search(re.sub(r"[^\n]*time\.time_ns\(\):x[^\n]*", "", path.read_text()))
    }
    assert found <= OWN_CLOCK


NOW = 1_764_000_000 * SECOND

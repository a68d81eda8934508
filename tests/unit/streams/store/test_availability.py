"""One back-off for all threads of a process: who may ask, when, and what is said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from redistill.streams.errors import StoreUnavailable
from redistill.streams.store.availability import (
    ATTEMPT_SECONDS,
    LONGEST_PAUSE_SECONDS,
    REMIND_SECONDS,
    Availability,
)
from redistill.streams.store.store_fault import Fault, StoreFault


class Rig:
    """An availability with a clock of its own, and what it said."""

    def __init__(self) -> None:
        self.now = 100.0
        self.said: list[str] = []
        self.fields: list[Mapping[str, Any]] = []
        self.it = Availability(say=self._say, clock=lambda: self.now)

    def _say(self, action: str, fields: Mapping[str, Any]) -> None:
        self.said.append(action)
        self.fields.append(fields)

    def fails(self, fault: Fault = Fault.AWAY, *, writing: bool = True, text: str = "gone") -> bool:
        """A transaction that finds it so; ``False``: it was refused without a question."""
        if self.it.refuses(writing=writing):
            with pytest.raises(StoreUnavailable, match="gone"), self.it.attempt(writing=writing):
                pass
            return False
        with self.it.attempt(writing=writing) as attempt:
            attempt.failed(StoreFault(fault, text))
        return True

    def works(self, *, writing: bool = True) -> None:
        with self.it.attempt(writing=writing) as attempt:
            attempt.reached()
            attempt.done(writing=writing)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_whoever_comes_while_it_is_away_is_refused_and_the_server_left_alone(rig: Rig) -> None:
    asked = 0
    for _ in range(10 * 60 * 10):  # ten a second for ten minutes
        asked += rig.fails()
        rig.now += 0.1
    assert asked <= 5 + 600 / LONGEST_PAUSE_SECONDS
    assert rig.said == ["store_away"] * (600 // int(REMIND_SECONDS))
    assert rig.fields[0]["seconds"] == 0
    assert rig.fields[-1]["seconds"] == pytest.approx(540, abs=1)
    assert rig.fields[-1]["error"] == "gone"


def test_one_at_a_time_asks_and_one_that_takes_long_holds_up_the_others_no_further(
    rig: Rig,
) -> None:
    rig.fails()
    rig.now += 1
    with rig.it.attempt(writing=True) as probe:
        assert probe.probe
        assert rig.it.refuses(writing=True)
        assert rig.it.refuses(writing=False)
        rig.now += ATTEMPT_SECONDS
        assert not rig.it.refuses(writing=False)


def test_whoever_reached_it_opens_the_way_for_all_before_its_own_end(rig: Rig) -> None:
    rig.fails()
    rig.now += 1
    with rig.it.attempt(writing=True) as probe:
        probe.reached()
        assert not rig.it.refuses(writing=False)
        assert not rig.it.refuses(writing=True)


def test_attempt_that_ends_by_an_error_of_our_own_lets_the_next_ask(rig: Rig) -> None:
    rig.fails()
    rig.now += 1
    with pytest.raises(ZeroDivisionError), rig.it.attempt(writing=True):
        raise ZeroDivisionError
    assert not rig.it.refuses(writing=True)
    assert rig.it.away


def test_it_is_back_once_nothing_failed_for_a_while(rig: Rig) -> None:
    rig.fails()
    rig.now += 1
    rig.works()
    assert not rig.it.away
    assert rig.said == ["store_away"], "it may go again at once"
    rig.now += 2
    rig.works()
    assert rig.said == ["store_away"]
    rig.now += 2
    rig.works()
    assert rig.said == ["store_away", "store_back"]
    assert rig.fields[-1]["seconds"] == 5


def test_one_that_comes_and_goes_is_said_once_a_minute(rig: Rig) -> None:
    for _ in range(120):
        rig.fails()
        rig.now += 0.5
        if not rig.it.refuses(writing=True):
            rig.works()
        rig.now += 0.5
    assert rig.said == ["store_away"] * 2


def test_what_cannot_be_written_can_be_read_and_reading_does_not_bring_it_back(rig: Rig) -> None:
    rig.fails(Fault.UNWRITABLE)
    assert rig.it.refuses(writing=True)
    assert not rig.it.refuses(writing=False)
    rig.now += 10
    rig.works(writing=False)
    assert rig.it.away
    rig.works()
    assert not rig.it.away
    rig.now += 10
    rig.works(writing=False)
    assert rig.said == ["store_away", "store_back"]


def test_transaction_that_meets_a_lock_is_said_once_a_minute_and_stops_nobody(rig: Rig) -> None:
    for _ in range(13):
        assert rig.fails(Fault.BUSY, text="locked")
        rig.now += 10
    assert rig.said == ["store_busy"] * 3
    assert [f["times"] for f in rig.fields] == [1, 6, 6]
    assert not rig.it.away


def test_each_failure_begins_the_wait_for_steadiness_anew(rig: Rig) -> None:
    rig.fails()
    rig.now += 60
    rig.works()
    rig.now += 2
    rig.fails()
    rig.now += 60
    rig.works()
    assert rig.said == ["store_away"] * 2
    rig.now += 3
    rig.works()
    assert rig.said[-1] == "store_back"


def test_command_says_nothing_but_its_error() -> None:
    silent = Availability()
    with silent.attempt(writing=True) as attempt:
        attempt.failed(StoreFault(Fault.AWAY, "gone"))
    assert silent.refuses(writing=False)

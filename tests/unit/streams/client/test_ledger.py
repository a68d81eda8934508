"""What became of everything a logger was handed, and one line a minute for each cause."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from redistill.streams.client.ledger import Ledger


class Said(list[str]):
    """Lines of the client's log."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def __call__(self) -> list[str]:
        lines = [r.getMessage().removeprefix("redistill: ") for r in self._caplog.records]
        self._caplog.clear()
        return lines


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[Said]:
    with caplog.at_level(logging.INFO, "redistill.client"):
        yield Said(caplog)


@pytest.fixture
def now() -> list[float]:
    return [0.0]


@pytest.fixture
def ledger(now: list[float]) -> Ledger:
    return Ledger(clock=lambda: now[0])


def test_rows_are_counted_by_what_became_of_them(ledger: Ledger) -> None:
    ledger.count_sent(3)
    ledger.count_sent(4)
    ledger.count_dropped(2, "no room")
    ledger.count_invalid(1, "no id")
    assert (ledger.sent, ledger.dropped, ledger.invalid) == (7, 2, 1)


def test_cause_is_said_once_a_minute_however_often_it_occurs(
    ledger: Ledger, said: Said, now: list[float]
) -> None:
    for _ in range(100):
        ledger.count_dropped(1, "no room")
        ledger.count_invalid(1, "no id")
    assert said() == ["dropped: no room", "invalid: no id"]
    now[0] = 59.9
    ledger.count_dropped(1, "no room")
    assert said() == []
    now[0] = 60.0
    ledger.count_dropped(1, "no room")
    assert said() == ["dropped: no room"]


def test_causes_that_differ_in_their_details_are_one(ledger: Ledger, said: Said) -> None:
    for i in range(50):
        ledger.count_invalid(1, "a reason that is told with much detail, such as " + str(i))
    assert len(said()) == 1


def test_drops_name_the_trouble_behind_them(ledger: Ledger, said: Said) -> None:
    ledger.set_trouble("sender", "the broker is away")
    ledger.count_dropped(1, "no room")
    assert said() == ["the broker is away", "dropped: no room (the broker is away)"]


def test_trouble_with_sending_stands_first_and_ends(ledger: Ledger, said: Said) -> None:
    assert ledger.trouble() is None
    ledger.set_trouble("pointers", "a topic is missing")
    assert ledger.trouble() == "a topic is missing"
    ledger.set_trouble("sender", "the broker is away")
    assert ledger.trouble() == "the broker is away"
    said()
    ledger.set_trouble("sender", None)
    assert ledger.trouble() == "a topic is missing"
    ledger.set_trouble("sender", None)
    assert said() == ["sender: well again"]

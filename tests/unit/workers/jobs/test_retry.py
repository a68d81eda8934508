"""Whether a job is tried again: three tries at most, further apart each time."""

from __future__ import annotations

import pytest

from redistill.times import to_us
from redistill.workers.jobs.retry import BACKOFF_SECONDS, MAX_TRIES, GiveUp, TryAgain, decide

NOW = 5_000_000


@pytest.mark.parametrize(("tries", "seconds"), [(1, 2.0), (2, 15.0)])
def test_each_failure_waits_longer(tries: int, seconds: float) -> None:
    decision = decide(tries=tries, retriable=True, error="killed", now=NOW)
    assert decision == TryAgain(NOW + to_us(seconds), f"try {tries} of 3 failed: killed")


def test_last_failure_gives_up() -> None:
    decision = decide(tries=MAX_TRIES, retriable=True, error="killed", now=NOW)
    assert decision == GiveUp("all 3 tries failed; the last: killed")
    assert decide(tries=MAX_TRIES + 1, retriable=True, error="killed", now=NOW) == decision


def test_what_can_never_succeed_is_not_tried_again() -> None:
    assert decide(tries=1, retriable=False, error="BadData", now=NOW) == GiveUp("BadData")


def test_there_is_a_pause_before_every_other_try() -> None:
    assert len(BACKOFF_SECONDS) == MAX_TRIES - 1
    assert sorted(BACKOFF_SECONDS) == list(BACKOFF_SECONDS)

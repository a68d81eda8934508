"""Retry of a job whose process failed: whether, and when. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.times import to_us

__all__ = ["BACKOFF_SECONDS", "MAX_TRIES", "GiveUp", "TryAgain", "decide"]

MAX_TRIES = 3
"""Attempts of one job; afterwards it is dead, with its record, and a person is asked."""

BACKOFF_SECONDS = (2.0, 15.0)
"""Before the second and the third try: a worker's restart, then a passing shortage of memory."""


@dataclass(frozen=True, slots=True)
class TryAgain:
    """The same job, in the same folder: finished steps are kept."""

    not_before: int
    """Microseconds since 1970."""
    why: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No more tries."""

    why: str


RetryDecision = TryAgain | GiveUp


def decide(*, tries: int, retriable: bool, error: str, now: int) -> RetryDecision:
    """Decide after a failure.

    Parameters
    ----------
    tries
        Tries so far, the failed one included.
    retriable
        Whether the same input may succeed later (a crash may, bad data never).
    error
        What went wrong.
    now
        Microseconds since 1970.

    Examples
    --------
    >>> decide(tries=1, retriable=True, error="killed", now=0)
    TryAgain(not_before=2000000, why='try 1 of 3 failed: killed')
    >>> decide(tries=3, retriable=True, error="killed", now=0)
    GiveUp(why='all 3 tries failed; the last: killed')
    >>> decide(tries=1, retriable=False, error="BadData: one class only", now=0)
    GiveUp(why='BadData: one class only')
    """
    if not retriable:
        return GiveUp(error)
    if tries >= MAX_TRIES:
        return GiveUp(f"all {MAX_TRIES} tries failed; the last: {error}")
    wait = BACKOFF_SECONDS[min(max(tries, 1), len(BACKOFF_SECONDS)) - 1]
    return TryAgain(now + to_us(wait), f"try {tries} of {MAX_TRIES} failed: {error}")

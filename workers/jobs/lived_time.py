"""Lived time: seconds that passed while this process ran, and not while it was stopped.

A worker that was frozen for an hour (by SIGSTOP, by a debugger, with its container) finds an hour
gone on every clock. What it waits for was frozen with it, or had no chance to be heard: neither a
deadline nor a missing answer may be judged by that hour.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["LivedTime"]

LONGEST_TICK = 5.0
"""Seconds that count between two looks at the clock. Who waits looks several times a second; on a
machine that is merely busy, once in a few."""


class LivedTime:
    """A stopwatch that has to be looked at to go on.

    Parameters
    ----------
    clock
        Monotonic seconds.

    Examples
    --------
    >>> times = iter([0.0, 1.0, 3601.0])
    >>> watch = LivedTime(lambda: next(times))
    >>> watch.seconds(), watch.seconds()
    (1.0, 6.0)
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen = clock()
        self._lived = 0.0

    def seconds(self) -> float:
        """Seconds since the start, as far as they were lived through."""
        now = self._clock()
        self._lived += min(now - self._seen, LONGEST_TICK)
        self._seen = now
        return self._lived

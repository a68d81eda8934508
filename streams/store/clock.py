"""Clock of the database: the one time by which leases, retention and waits of several processes are
measured.

On PostgreSQL it is the server's: asked every few seconds at the beginning of a transaction that is
made anyway, and carried on in between by a steady clock, so that it costs no round trip, and a
wrong or moved clock of this machine changes nothing. SQLite has none of its own: there it is this
process' clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import sqlalchemy as sa

from redistill.times import SECOND, now_us, to_seconds

__all__ = ["DatabaseClock", "steady_us"]

ASK_US = 10 * SECOND
"""How often the server is asked: in between two quartz clocks part by less than a millisecond."""

SLOW_US = 5 * SECOND
"""An answer that took longer says too little about the time at which it arrives."""

_NOW = sa.text("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)")


def steady_us() -> int:
    """Microseconds of a clock that nobody sets, and that goes on while the machine sleeps (Linux:
    ``CLOCK_BOOTTIME``; elsewhere the monotonic one)."""
    kind = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(kind) // 1_000


class DatabaseClock:
    """Microseconds since 1970 by the database's clock when called. Safe between threads.

    Parameters
    ----------
    shared
        Whether the database has a clock of its own, that all processes share.
    process
        This process' clock, microseconds since 1970.
    steady
        Microseconds of a clock that is never set.

    Examples
    --------
    >>> DatabaseClock(shared=False, process=lambda: 7)()
    7
    """

    def __init__(
        self,
        *,
        shared: bool,
        process: Callable[[], int] = now_us,
        steady: Callable[[], int] = steady_us,
    ) -> None:
        self._shared = shared
        self._process = process
        self._steady = steady
        self._asked: tuple[int, int] | None = None  # database's, steady: one, for other threads

    def __call__(self) -> int:
        """The database's time; this process' until the first transaction was begun."""
        if (asked := self._asked) is None:
            return self._process()
        then, steady = asked
        return then + self._steady() - steady

    def seconds(self) -> float:
        """The same in seconds."""
        return to_seconds(self())

    def process(self) -> int:
        """The time of this process' own clock: to be compared, never to be stored."""
        return self._process()

    def look(self, conn: sa.Connection) -> None:
        """Ask the server, if it has a clock and was not asked lately; called as a transaction
        begins."""
        if not self._shared:
            return
        before = self._steady()
        if self._asked is not None and before - self._asked[1] < ASK_US:
            return
        told = int(conn.execute(_NOW).scalar_one())
        took = self._steady() - before
        if took < SLOW_US or self._asked is None:
            self._asked = told, before + took // 2

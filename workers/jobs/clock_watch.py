"""Clock watch: may anything be deleted, or ended, for its age?

Not while the clocks of the installation differ by more than a minute: one of them is wrong, and
whichever it is, what was deleted for it does not come back. What proves a difference stops deletion
until it is gone. What may also be a long stop (nobody has renewed a lease for two days, by this
clock) stops it for some time, in which a person can look.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import sqlalchemy as sa
import structlog

from redistill.streams.errors import StreamsError
from redistill.streams.store.clock import steady_us
from redistill.streams.store.database import Database
from redistill.streams.store.tables import leases, offsets
from redistill.times import DAY, HOUR, MINUTE, to_seconds, utc
from redistill.workers.store import clock_problem
from redistill.workers.store.clock_problem import ClockProblem

__all__ = ["ClockWatch"]

log = structlog.get_logger(__name__)

APART_US = MINUTE
"""NTP keeps clocks within milliseconds of each other; nothing that runs well is this far off."""

SAY_AGAIN_US = HOUR


@dataclass(frozen=True, kw_only=True, slots=True)
class ClockLook:
    """What one look at the clocks saw, in microseconds."""

    process: int
    database: int
    """The same as ``process`` on SQLite, which has no clock."""
    steady: int
    """A clock that is never set."""
    renewed: Mapping[str, int]
    """By the name of a lease that another process holds: when it renewed it."""
    newest: int = 0
    """The newest sign of another process' work; 0: there is none."""
    newest_held: bool = False
    """Whether that is a lease that nobody gave back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Two clocks are apart."""

    us: int
    why: str
    lasts: int | None = None
    """It may be no wrong clock: for how long (microseconds) it counts as one. ``None``: it is."""


def apart(look: ClockLook, before: ClockLook | None) -> Difference | None:
    """Whether clocks differ, beyond doubt: ours and the database's, or ours and that of a process
    that lives (it has renewed a lease since the look before).

    Examples
    --------
    >>> ours = ClockLook(process=40 * DAY, database=0, steady=0, renewed={})
    >>> apart(ours, None).why
    "this process' clock is 40.0 days ahead of the database's"
    """
    us = look.process - look.database
    if abs(us) > APART_US:
        return Difference(us=us, why=f"this process' clock is {_by(us)} the database's")
    if before is None:
        return None
    waited = max(0, look.steady - before.steady)
    for name, at in sorted(look.renewed.items()):
        us = look.database - at
        lives = name in before.renewed and before.renewed[name] != at
        if lives and (us < -APART_US or us > APART_US + waited):
            return Difference(
                us=us,
                why=f"this clock is {_by(us)} that of the process that holds the lease {name!r}",
            )
    return None


def first_doubt(look: ClockLook, *, shared: bool) -> Difference | None:
    """Whether the clock of the first look may be wrong: it is not the time at which others worked
    last.

    Parameters
    ----------
    shared
        Whether the database has a clock of its own. Otherwise a lease that nobody gave back and
        that ran out long ago is reason enough: its holder may live, with another clock.
    """
    us = look.database - look.newest
    if not look.newest or -APART_US <= us <= APART_US:
        return None
    if us < 0:
        why = f"this clock is {_by(us)} the newest lease"
    elif us > DAY or (look.newest_held and not shared):
        why = f"this clock is {_by(us)} the newest lease: nobody worked meanwhile, or it is wrong"
    else:
        return None
    return Difference(us=us, why=why, lasts=doubted_for(us))


def doubted_for(us: int) -> int:
    """How long a clock is doubted that seems to be ahead by so much: time to look at it. One that
    is behind takes nothing for old that is not."""
    return HOUR if us < DAY else DAY


def _by(us: int) -> str:
    seconds = abs(to_seconds(us))
    units = ((86_400, "days"), (3_600, "h"), (60, "min"), (1, "s"))
    unit, name = next((u, n) for u, n in units if seconds >= u or n == "s")
    return f"{seconds / unit:.1f} {name} {'ahead of' if us > 0 else 'behind'}"


class ClockWatch:
    """Looks at the clocks; call :meth:`agreed` before anything is deleted, and now and then. Safe
    between threads.

    Parameters
    ----------
    database
        Whose clock counts.
    holder
        Under which this process takes leases: its own prove nothing.
    steady
        Microseconds of a clock that is never set.
    """

    def __init__(
        self, database: Database, *, holder: str, steady: Callable[[], int] = steady_us
    ) -> None:
        self._database = database
        self._holder = holder
        self._steady = steady
        self._lock = threading.Lock()
        self._before: ClockLook | None = None
        self._doubt: Difference | None = None
        self._doubt_ends = 0  # steady
        self._off = 0  # how far the clock is ahead of where it seemed right
        self._problem: ClockProblem | None = None
        self._said_at: int | None = None  # steady

    def begin(self) -> None:
        """Look before this process takes a lease over: afterwards the old time is gone."""
        try:
            self.agreed()
        except StreamsError as error:
            log.warning("clock_unknown", action="clock_unknown", error=str(error))

    def agreed(self) -> int | None:
        """The time by which ages may be judged, microseconds since 1970; ``None``: clocks differ,
        and nothing may be deleted.

        Raises
        ------
        StoreUnavailable
            Nothing is known.
        """
        with self._lock:
            look = self._look()
            if self._before is None:
                self._resume(look)
            doubt = self._doubted(look)
            found = apart(look, self._before) or doubt
            self._before = look
            self._tell(found, look)
            return look.database if found is None else None

    def _look(self) -> ClockLook:
        c = leases.c
        others = sa.and_(c.holder != self._holder, c.renewed_at > 0)
        with self._database.read() as conn:
            newest = conn.execute(
                sa.select(c.renewed_at, c.holder)
                .where(others)
                .order_by(c.renewed_at.desc())
                .limit(1)
            ).one_or_none()
            held = conn.execute(
                sa.select(c.name, c.renewed_at).where(
                    others,
                    c.holder != "",
                    c.name.not_like("job:%"),  # a row for each job of old
                )
            )
            renewed = {str(row.name): int(row.renewed_at) for row in held}
            self._problem = clock_problem.get(conn)  # another process may have found it, or its end
            flushed = conn.execute(sa.select(sa.func.max(offsets.c.updated_at))).scalar() or 0
        clock = self._database.clock
        at = int(newest.renewed_at) if newest is not None else 0
        return ClockLook(
            process=clock.process(),
            database=clock(),
            steady=self._steady(),
            renewed=renewed,
            newest=max(at, int(flushed)),
            newest_held=newest is not None and newest.holder != "" and at >= flushed,
        )

    def _resume(self, look: ClockLook) -> None:
        """The first look of this process: a doubt of the process before it goes on."""
        known = self._problem
        if known is not None and known.us > 0 and known.since > look.database + APART_US:
            return  # a clock was ahead, and is set right: that explains the times that it wrote
        left = 0 if known is None or known.until is None else known.until - look.database
        if known is not None and 0 < left <= DAY:
            self._doubt_for(Difference(us=known.us, why=known.why, lasts=left), look)
        elif (doubt := first_doubt(look, shared=not self._database.is_sqlite)) is not None:
            self._doubt_for(doubt, look)

    def _doubt_for(self, doubt: Difference, look: ClockLook) -> None:
        self._doubt, self._doubt_ends = doubt, look.steady + (doubt.lasts or 0)
        self._off = doubt.us

    def _doubted(self, look: ClockLook) -> Difference | None:
        """What is not proven, and not over either."""
        if self._before is not None:
            moved = look.database - self._before.database - (look.steady - self._before.steady)
            if abs(moved) > APART_US:
                self._off += moved
                if abs(self._off) <= APART_US:  # it went back to where it was
                    self._off, self._doubt = 0, None
                else:
                    why = f"the clock jumped: it is {_by(self._off)} where it was"
                    lasts = doubted_for(self._off)
                    self._doubt_for(Difference(us=self._off, why=why, lasts=lasts), look)
        if self._doubt is not None and look.steady >= self._doubt_ends:
            self._off, self._doubt = 0, None
        return self._doubt

    def _tell(self, found: Difference | None, look: ClockLook) -> None:
        """Write down what has changed, and say it."""
        known = self._problem
        if found is None:
            if known is not None:
                with self._database.begin() as conn:
                    clock_problem.clear(conn)
                log.info("retention_resumed", action="retention_resumed", was=known.why)
            return
        doubtful = found.lasts is not None
        problem = ClockProblem(
            why=found.why,
            us=found.us,
            since=look.database if known is None else min(known.since, look.database),
            until=look.database + self._doubt_ends - look.steady if doubtful else None,
            holder=self._holder,
        )
        if known is None or (known.why, known.holder) != (problem.why, problem.holder):
            with self._database.begin() as conn:
                clock_problem.put(conn, problem)
        if self._said_at is None or look.steady - self._said_at >= SAY_AGAIN_US:
            self._said_at = look.steady
            until = (
                None if problem.until is None else utc(problem.until).isoformat(timespec="minutes")
            )
            log.error(
                "retention_stopped",
                action="retention_stopped",
                why=found.why,
                process_time=utc(look.process).isoformat(timespec="seconds"),
                database_time=utc(look.database).isoformat(timespec="seconds"),
                until=until or "the clocks agree",
                hint="nothing is deleted for its age meanwhile; RUNBOOK: A clock that is wrong",
            )

"""Health of a worker, and the watchdog: a thread that ends a process which looks alive and is not,
for the supervisor to start again.

It is a thread because everything else may hang: Faust waits without a word for a group that it may
not join, and an event loop that is stuck runs no task. It never acts merely because the broker or
the database is away: workers wait for them.
"""

from __future__ import annotations

import faulthandler
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from redistill.streams.store.process_rows import TopicLag

__all__ = ["CANNOT_START", "EXIT_STATUS", "Health", "LivenessCheck", "Watchdog"]

log = structlog.get_logger(__name__)

EXIT_STATUS = 75
"""EX_TEMPFAIL of sysexits.h: the supervisor starts it again."""
CANNOT_START = 69
"""EX_UNAVAILABLE: what it needs is not there, and the log says what."""
HELD_PATIENCES = 2.0
"""A call that never returns may also hold the interpreter: then no thread of it runs, the watchdog
neither. After so many of its patiences without a look of it the process writes where it stands, and
ends."""


@dataclass(slots=True)
class Health:
    """What the worker reports; times are ``time.monotonic()`` seconds. Written by one thread, read
    by another.
    """

    ticked_at: float = 0.0
    """When the event loop last ran."""
    turned_at: float | None = None
    """When the main loop, a task of it, last began a turn; it waits for threads that may wait for
    the database. ``None``: it was not begun."""
    pending_error: str | None = None
    """An error that aiokafka keeps to itself, such as a missing group permission."""
    joined: bool = False
    """An assignment (an empty one too) was received and not taken back since."""
    assigned: bool = False
    """It holds partitions, and they are being read."""
    fetched_at: float = 0.0
    lag: int = 0
    """Records that are in the log and not in SQL; not those that wait for a transaction to end, as
    the worker must."""
    topic_lag: Mapping[str, TopicLag] = field(default_factory=dict)
    """The same by topic, with the age of what waits."""
    lag_measured_at: float | None = None
    """When lag was measured last; ``None``: it was not yet."""
    progress: int = 0
    """Sum of next offsets in SQL: changes while work is being done."""
    broker_away: str | None = None
    """Why the broker does not let us in, if it does not."""
    blind: bool = False
    """The broker lets us in, and the consumer does not find the way to it."""
    store_away: bool = False
    """The database is away: the last flush, or the last question where to begin, failed."""
    void: bool = False
    """Partitions are assigned, and where to begin reading is not known."""
    fatal: str | None = None
    """Something that cannot heal was seen, such as a lost lease."""

    def waits_for(self) -> str:
        """Why this worker does not count records now, in words; empty: it does, or would.

        Examples
        --------
        >>> Health().waits_for(), Health(joined=True).waits_for()
        ('the consumer group: it has not been joined yet', '')
        """
        if self.broker_away is not None:
            return f"the broker: {self.broker_away}"
        if self.pending_error is not None:
            return f"the broker: {self.pending_error}"
        if not self.joined:
            return "the consumer group: it has not been joined yet"
        if self.void:
            return "the offsets: where to begin reading is not known yet"
        return ""


@dataclass(slots=True)
class LivenessCheck:
    """Decides whether to end the process. Pure but for its memory: time is an argument.

    Parameters
    ----------
    patience
        Seconds that any of the conditions must last: longer than a rebalance with dead members
        (three sessions).
    """

    patience: float = 30.0
    _since: dict[str, float] = field(default_factory=dict)
    _progress: int = -1

    def verdict(self, v: Health, now: float, *, store_away: bool = False) -> str | None:
        """Why the process should end; ``None``: it should not.

        Parameters
        ----------
        store_away
            The database is away, as somebody else of this process found.

        Examples
        --------
        >>> judge = LivenessCheck(patience=30)
        >>> v = Health(ticked_at=0, joined=False)
        >>> judge.verdict(v, 1), judge.verdict(v, 29)
        (None, None)
        >>> judge.verdict(v, 40)
        'the event loop has not run for 40 s'
        """
        if v.fatal is not None:
            return v.fatal
        if now - v.ticked_at >= self.patience:
            return f"the event loop has not run for {now - v.ticked_at:.0f} s"
        away = v.store_away or store_away
        turned_at = now if v.turned_at is None else v.turned_at
        if not away and now - turned_at >= self.patience:
            return f"the main loop has not run for {now - turned_at:.0f} s"
        if v.progress != self._progress:
            self._progress = v.progress
            self._since.pop("stuck", None)
        if v.broker_away is not None:  # it waits, as it should
            self._since.clear()
            return None
        conditions: dict[str, str | None] = {
            "pending": v.pending_error,
        }
        if away:  # it waits, as it should
            self._since = {k: t for k, t in self._since.items() if k == "pending"}
        else:
            conditions |= {
                "joined": None if v.joined else "no assignment: the group was not joined",
                "blind": "the broker answers, and the consumer does not reach it"
                if v.blind
                else None,
                "void": "nothing is read: where to begin is not known" if v.void else None,
                "fetcher": (
                    "the fetcher does not fetch"
                    if v.assigned and now - v.fetched_at >= self.patience / 2
                    else None
                ),
                "stuck": (
                    f"{v.lag} records wait, and the offsets in SQL stand still"
                    if v.assigned and v.lag > 0
                    else None
                ),
            }
        for name, fault in conditions.items():
            if fault is None:
                self._since.pop(name, None)
            elif now - self._since.setdefault(name, now) >= self.patience:
                also = f"; {v.pending_error}" if v.pending_error and name != "pending" else ""
                return f"{fault} (for {now - self._since[name]:.0f} s){also}"
        return None

    def forgive(self) -> None:
        """Begin anew: there was a reason outside."""
        self._since.clear()


class Watchdog(threading.Thread):
    """Looks at the health every second.

    Parameters
    ----------
    health
        What the worker reports.
    broker_answers
        Asks the broker: while it does not let us in, nothing is held against the worker.
    die
        Ends the process; given the reason.
    store_away
        Whether the database is away or gives no answer.
    """

    def __init__(
        self,
        health: Health,
        *,
        broker_answers: Callable[[], bool],
        die: Callable[[str], None],
        store_away: Callable[[], bool] = lambda: False,
        patience: float = 30.0,
        every: float = 1.0,
    ) -> None:
        super().__init__(name="watchdog", daemon=True)
        self._health = health
        self._broker_answers = broker_answers
        self._die = die
        self._store_away = store_away
        self._judge = LivenessCheck(patience=patience)
        self._every = every
        self._ending = threading.Event()

    def run(self) -> None:
        """Until stopped."""
        self._health.ticked_at = time.monotonic()  # the start took its time before anybody looked
        try:
            self._held_in_check()
            while not self._ending.wait(self._every):
                self._held_in_check()
                if (why := self.look(time.monotonic())) is not None:
                    log.critical("watchdog", action="watchdog", reason=why, status=EXIT_STATUS)
                    self._die(why)
                    return
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _held_in_check(self) -> None:
        """Let a thread that is not the interpreter's end the process, unless this is called
        again.
        """
        seconds = HELD_PATIENCES * self._judge.patience
        faulthandler.dump_traceback_later(seconds, exit=True, file=sys.__stderr__ or 2)

    def look(self, now: float) -> str | None:
        """Why the process has to end, if it has to; ``now`` as the health count time."""
        why = self._judge.verdict(self._health, now, store_away=self._store_away())
        if why is None:
            return None
        turned_at = self._health.turned_at or now
        stalled = now - min(self._health.ticked_at, turned_at) >= self._judge.patience
        if self._health.fatal is None and not stalled and not self._broker_answers():
            self._judge.forgive()
            return None
        return why

    def stop(self) -> None:
        """Stop looking."""
        self._ending.set()

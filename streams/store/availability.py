"""Availability of the database, as all threads of a process see it: one back-off for all of them.

The first who finds it away says so, once. From then on nobody asks it, but for one at a time, after
pauses that grow; whoever wants something meanwhile is refused at once. So a database that hangs
holds up one thread, one that comes back is not stormed, and the log has a line a minute.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from redistill.streams.errors import StoreUnavailable
from redistill.streams.store.store_fault import Fault, StoreFault

__all__ = ["LONGEST_PAUSE_SECONDS", "REMIND_SECONDS", "Attempt", "Availability"]

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 5.0
"""Between two attempts while it is away: what is back is noticed within the longest."""
STEADY_SECONDS = 3.0
"""It is back when nothing failed for so long: with too few connections some of us have one, others
none, and it would come and go with each."""
REMIND_SECONDS = 60.0
"""How often it is said that it is still away."""
ATTEMPT_SECONDS = 30.0
"""An attempt that takes longer (a large transaction) holds up the others no further."""


class Attempt:
    """One transaction's way to the database."""

    def __init__(self, availability: Availability, *, probe: bool) -> None:
        self._availability = availability
        self.probe = probe
        """Whether the others wait for what comes of it."""

    def reached(self) -> None:
        """The server answered: whoever reads may go on."""
        self._availability._reached(self)

    def done(self, *, writing: bool) -> None:
        """The transaction was committed."""
        self._availability._done(writing)

    def failed(self, fault: StoreFault) -> None:
        """It came to nothing."""
        self._availability._failed(self, fault)


class Availability:
    """What is known of the database; safe between threads.

    Parameters
    ----------
    say
        Told what a person should know: an action (``store_away``, ``store_back``, ``store_busy``)
        and its fields.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        *,
        say: Callable[[str, Mapping[str, Any]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.say = say
        self._clock = clock
        self._lock = threading.Lock()
        self._since: float | None = None
        """Begin of the outage; it lasts until it has been steady for a while."""
        self._shut = False
        """Nobody is answered."""
        self._unwritable = False
        self._text = ""
        self._pause = 0.0
        self._retry_at = self._open_at = self._said_at = 0.0
        self._probing_since: float | None = None
        self._busy, self._busy_said_at = 0, float("-inf")

    @property
    def away(self) -> bool:
        """Whether something is refused: everything, or what writes."""
        return self._shut or self._unwritable

    def refuses(self, *, writing: bool) -> bool:
        """Whether a transaction that begins now would be refused without a question."""
        with self._lock:
            return self._refused(self._clock(), writing)

    @contextmanager
    def attempt(self, *, writing: bool) -> Iterator[Attempt]:
        """A transaction.

        Raises
        ------
        StoreUnavailable
            The database is away, and it is not the time, or another one's turn, to ask.
        """
        with self._lock:
            now = self._clock()
            if self._refused(now, writing):
                self._remind(now)
                raise StoreUnavailable(self._text)
            probe = self._shut or (self._unwritable and writing)
            if probe:
                self._probing_since = now
        made = Attempt(self, probe=probe)
        try:
            yield made
        finally:
            if made.probe:
                with self._lock:
                    self._probing_since = None

    def _refused(self, now: float, writing: bool) -> bool:
        if not self._shut and not (self._unwritable and writing):
            return False
        probing = self._probing_since
        if now < self._retry_at:
            return True
        return probing is not None and now < probing + ATTEMPT_SECONDS

    def _reached(self, attempt: Attempt) -> None:
        if not self._shut:
            return
        with self._lock:
            self._shut, self._open_at = False, self._clock()
            if attempt.probe and not self._unwritable:
                self._probing_since, attempt.probe = None, False  # nobody has to wait for its end

    def _done(self, writing: bool) -> None:
        if self._since is not None:
            with self._lock:
                self._recovered(writing)

    def _recovered(self, writing: bool) -> None:
        now = self._clock()
        if writing and self._unwritable:
            self._unwritable, self._open_at = False, now
        if self._since is None or self.away or now < self._open_at + STEADY_SECONDS:
            return
        seconds, self._since = round(now - self._since, 1), None
        self._tell("store_back", seconds=seconds)

    def _failed(self, attempt: Attempt, fault: StoreFault) -> None:
        with self._lock:
            now = self._clock()
            if fault.fault is Fault.BUSY:
                self._note_busy(now, fault.text)
                return
            if self._since is None:
                self._since, self._pause = now, FIRST_PAUSE_SECONDS
                self._said_at = float("-inf")
            elif attempt.probe or not self.away:
                self._pause = min(LONGEST_PAUSE_SECONDS, 2 * self._pause)
            self._text = fault.text
            if fault.fault is Fault.UNWRITABLE:
                self._unwritable = True
            else:
                self._shut = True
            self._retry_at = now + self._pause
            self._remind(now)

    def _remind(self, now: float) -> None:
        if self._since is not None and now >= self._said_at + REMIND_SECONDS:
            self._said_at = now
            self._tell("store_away", seconds=round(now - self._since, 1), error=self._text)

    def _note_busy(self, now: float, text: str) -> None:
        self._busy += 1
        if now >= self._busy_said_at + REMIND_SECONDS:
            times, self._busy, self._busy_said_at = self._busy, 0, now
            self._tell("store_busy", times=times, error=text)

    def _tell(self, action: str, **fields: Any) -> None:
        if self.say is not None:
            self.say(action, fields)

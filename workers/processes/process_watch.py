"""Process watch: what the processes under a supervisor wait for, and what goes wrong in them, told
as it changes.

What they wait for they say themselves, in SQL (``redistill.streams.store.process_rows``). It is
read in the background: a database that hangs must not keep a supervisor from starting a process
again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from redistill.streams.errors import StreamsError
from redistill.streams.store import process_rows
from redistill.streams.store.database import Database
from redistill.streams.store.process_rows import ProcessRow
from redistill.workers.processes.log_lines import (
    LogFollower,
    fields_of,
    line_for_people,
    shortened,
)
from redistill.workers.processes.periodic_tasks import PeriodicTask
from redistill.workers.processes.readiness import became_ready, waits
from redistill.workers.processes.supervisor import Supervisor

__all__ = ["ProcessWatch"]

LOOK_SECONDS = 1.0
"""How often it is looked what the processes wait for: they say it every five seconds."""
SILENT_SECONDS = 15.0
"""A database that has not answered for so long hangs: longer than it takes to find out that a
PostgreSQL does (``redistill.streams.store.waits``)."""
REMIND_SECONDS = 30.0
"""How often what is waited for is said again."""
MOST_LINES = 50
"""Of one log, in one look: a traceback, but not a flood."""
DATABASE = "database"
"""What is waited for where nothing can be read; no process has this name."""


class _Look(NamedTuple):
    at: float
    """When it was asked, monotonic seconds."""
    rows: Sequence[ProcessRow]
    now: int
    """By the database's clock, microseconds since 1970."""
    fault: str = ""
    """Why nothing could be read."""


class ProcessWatch:
    """Tells people what to expect of the processes that a supervisor keeps running. Call
    :meth:`tell_errors` and :meth:`look` often; neither waits for anything.

    Parameters
    ----------
    names
        Of the processes, in the order in which they are told; each is a kind of
        ``process_rows``.
    say, complain
        Told a line for people: how things stand, what went wrong.
    stop
        Ends the reading.
    monotonic
        Seconds.
    """

    def __init__(
        self,
        database: Database,
        supervisor: Supervisor,
        names: Sequence[str],
        *,
        say: Callable[[str], None],
        complain: Callable[[str], None],
        stop: threading.Event,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._supervisor = database, supervisor
        self._names = tuple(names)
        self._say, self._complain = say, complain
        self._monotonic = monotonic
        self._since = dict.fromkeys(self._names, database.clock())
        self._logs = {name: LogFollower(supervisor.log(name)) for name in self._names}
        self._seen: _Look | None = None
        self._began = self._told_at = self._looked = monotonic()
        self._waited: dict[str, str] = {}
        self._told: dict[str, str] | None = None
        self._was_ready = False
        self.web: str | None = None
        """Where the web process said that it answers."""
        self._reading = PeriodicTask("look", self.read, every_seconds=LOOK_SECONDS, stop=stop)

    def start(self) -> None:
        """Read in the background from now on."""
        self._reading.start()

    def close(self) -> None:
        """Tell what was logged since the last look, and follow the logs no more."""
        self.tell_errors()
        for follower in self._logs.values():
            follower.close()

    def died(self, name: str) -> None:
        """A process died: what its row says is over, although it looks alive for a while."""
        self._since[name] = self._database.clock()

    def read(self) -> None:
        """Read what the processes say."""
        at = self._monotonic()
        try:
            with self._database.read() as conn:
                rows = process_rows.seen(conn)
        except StreamsError as error:
            self._seen = _Look(at, (), 0, str(error))
        else:
            self._seen = _Look(at, rows, self._database.clock())

    def tell_errors(self) -> None:
        """Tell what the processes logged as an error since the last time."""
        for name, follower in self._logs.items():
            told = 0
            for line in follower.lines():
                found = fields_of(line)
                if found is not None and found.get("action") == "web_started":
                    self.web = str(found.get("address"))
                if (said := line_for_people(line)) is not None:
                    told += 1
                    if told <= MOST_LINES:
                        self._complain(f"{name}: {shortened(said)}")
            if told > MOST_LINES:
                where = self._supervisor.log(name)
                self._complain(f"{name}: and {told - MOST_LINES} more such lines in {where}")

    def look(self, ready: Callable[[], str]) -> None:
        """Tell what they wait for, where it has changed or is not over.

        Parameters
        ----------
        ready
            What to say once they are all ready.
        """
        now, seen = self._monotonic(), self._seen
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        last = self._began if seen is None else seen.at
        kept = [name for name in self._names if self._supervisor.keeps(name)]
        if now - last > SILENT_SECONDS:
            self._tell({DATABASE: "it does not answer"}, now, ready)
        elif seen is not None and seen.fault:
            self._tell({DATABASE: seen.fault}, now, ready)
        elif seen is not None:
            since = {name: self._since[name] for name in kept}
            found = waits(seen.rows, since, now=seen.now)
            for name in became_ready(self._waited, found, kept) if found else ():
                self._say(f"{name:<7} ready")
            self._waited = found
            self._tell(found, now, ready)

    def _tell(self, found: dict[str, str], now: float, ready: Callable[[], str]) -> None:
        again = found == self._told
        if again and (not found or now - self._told_at < REMIND_SECONDS):
            return
        if not found:
            more = " again" if self._was_ready else ""
            self._was_ready = True
            self._say(f"ready{more} after {now - self._began:.1f} s: {ready()}")
        before = self._told or {}
        for name, reason in found.items():
            if again or before.get(name) != reason:
                self._say(f"{name:<7} waits: {reason}")
        self._told, self._told_at = found, now

"""Presence of the web process: a thread that tells the others that it lives.

The web process only has to read. Where its database role may not write the table ``processes``, it
serves all the same, says so once, and is not known to be alive.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from redistill.streams.errors import StreamsError
from redistill.streams.store.availability import Availability
from redistill.streams.store.database import Database
from redistill.streams.store.process_rows import BEAT_SECONDS, Presence

__all__ = ["WebPresence"]

log = structlog.get_logger(__name__)

STOP_SECONDS = 2.0
"""How long the end waits for the row to go: a database that hangs does not hold up the process."""


class WebPresence(threading.Thread):
    """Says every few seconds that this process lives, until it is stopped.

    Parameters
    ----------
    database
        Of the process. What fails here is not held against it: reading may go well.
    process_id
        Unique for each start.
    problems
        Why the process cannot do its work now; empty when it can.
    """

    def __init__(
        self,
        database: Database,
        process_id: str,
        problems: Callable[[], list[str]],
        *,
        every: float = BEAT_SECONDS,
    ) -> None:
        super().__init__(name="presence", daemon=True)
        own = Database(
            database.engine,
            waits=database.waits,
            availability=Availability(),
            clock=database.clock,
        )
        self._presence = Presence(own, "web", process_id)
        self._problems = problems
        self._every = every
        self._ending = threading.Event()
        self._told = False

    def run(self) -> None:
        """Until stopped; then the row is taken away."""
        while not self._ending.is_set():
            self._try(lambda: self._presence.say("; ".join(self._problems())))
            self._ending.wait(self._every)
        self._try(self._presence.leave)

    def stop(self) -> None:
        """End, in order."""
        self._ending.set()
        if self.is_alive():
            self.join(STOP_SECONDS)

    def _try(self, tell: Callable[[], None]) -> None:
        try:
            tell()
        except StreamsError as error:
            if not self._told:
                log.warning(
                    "presence_untold",
                    action="presence_untold",
                    error=str(error),
                    hint="nobody sees that this web process lives: grant its role INSERT, UPDATE"
                    " and DELETE on the table processes (deploy/RUNBOOK.md)",
                )
            self._told = True
        else:
            self._told = False

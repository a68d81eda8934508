"""Readiness: whether the web process can do its work, told at once whatever the database does."""

from __future__ import annotations

from redistill.streams.errors import StreamsError
from redistill.streams.store.database import Database
from redistill.times import utc
from redistill.workers.errors import WorkersError
from redistill.workers.releases import roles
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.store import opening
from redistill.workers.web.shared_call import SharedCall

__all__ = ["Readiness"]

ANSWER_SECONDS = 0.5
"""How long a question waits for a new verdict: probes give up after a second."""
SLOW_SECONDS = 3.0
"""For so long the verdict before is believed: a machine that is busy is no fault of the database's,
and a probe that fails takes clients away from the others."""


class Readiness:
    """The verdict on this process.

    Parameters
    ----------
    database, layout
        What it needs.
    """

    def __init__(self, database: Database, layout: RepositoryLayout) -> None:
        self._database, self._layout = database, layout
        self._call = SharedCall(self.look)
        self._last: list[str] | None = None

    async def problems(self) -> list[str]:
        """Why this process cannot do its work now; empty when it can."""
        try:
            self._last = await self._call.answer(within=ANSWER_SECONDS)
            return self._last
        except TimeoutError:
            waited = self._call.waiting_seconds()
            if waited < SLOW_SECONDS and self._last is not None:
                return self._last
            return [f"the database has not answered for {waited:.1f} s"]

    def look(self) -> list[str]:
        """The same, waiting for the database as long as it takes."""
        try:
            with self._database.read() as conn:
                opening.check(opening.revision(conn), self._database)
                until = roles.valid_until(conn)
        except (StreamsError, WorkersError) as error:
            return [str(error)]
        if until is None:
            return []  # nothing was published yet: an empty repository is a good one
        metadata = self._layout.metadata
        if not (metadata / "timestamp.json").is_file():
            return [f"{metadata} holds no timestamp.json: does the repair worker write elsewhere?"]
        if until < self._database.clock():
            when = utc(until)
            return [
                f"the signed metadata expired on {when:%Y-%m-%d %H:%M}Z: is a repair worker"
                " running?"
            ]
        return []

"""Room for versions that nobody registered: each that is watched has a state on every partition.

A service that puts a uuid into its version would make one without end. The first versions of a
model are watched at once; when there are many, a new one must first have shown rows enough, which
are counted among the unregistered ones: a version that is meant gets there soon.
"""

from __future__ import annotations

import sqlalchemy as sa
import structlog

from redistill.streams.store.batch import NameLimits
from redistill.streams.store.database import Database
from redistill.streams.store.tables import accuracy_states, input_states, unregistered

__all__ = ["VersionRoom"]

log = structlog.get_logger(__name__)

PROVEN_ROWS = 1_000
"""Unregistered rows after which a version is watched, however many others are."""


class VersionRoom:
    """Which versions of a model are watched though nobody registered them."""

    def __init__(self, database: Database, limits: NameLimits) -> None:
        self._database = database
        self._most = limits.versions
        self._watched: dict[str, set[str]] = {}
        self._full: set[str] = set()

    def has(self, model: str, version: str) -> bool:
        """Whether a version is watched; from now on it is, if there is room."""
        versions = self._watched.get(model)
        if versions is None:
            versions = self._watched[model] = self._stored(model)
        if version in versions:
            return True
        if len(versions) >= self._most:
            if model not in self._full:
                self._full.add(model)
                log.warning(
                    "versions_full",
                    action="versions_full",
                    model=model,
                    versions=len(versions),
                    reason=f"more than {self._most} versions; a new one is watched after"
                    f" {PROVEN_ROWS} rows",
                )
            return False
        versions.add(version)
        return True

    def refresh(self, conn: sa.Connection) -> None:
        """Let versions in that have shown rows enough."""
        if not self._full:
            return
        c = unregistered.c
        proven = sa.select(c.model, c.version).where(c.model.in_(self._full), c.rows >= PROVEN_ROWS)
        for model, version in conn.execute(proven):
            self._watched[model].add(version)

    def clear(self) -> None:
        """Forget what was not flushed."""
        self._watched.clear()
        self._full.clear()

    def _stored(self, model: str) -> set[str]:
        states = [sa.select(t.c.version).where(t.c.model == model) for t in _WITH_STATES]
        with self._database.read() as conn:
            return set(conn.execute(sa.union(*states)).scalars())


_WITH_STATES = (input_states, accuracy_states)

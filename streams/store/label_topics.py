"""Topics of bound sources, as far as SQL knows: which are bound, and from which records were
counted."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from redistill.streams.monitor.config import WatchConfig
from redistill.streams.store.database import Database
from redistill.streams.store.specs import revisions
from redistill.streams.store.tables import offsets, specs
from redistill.streams.wire.events import source_of, topic_name

__all__ = ["BoundSources", "bound_sources", "sources_read"]


class BoundSources:
    """Sources that some model binds, read anew where a specification changed: cheap to ask."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, int] | None = None
        self._sources: frozenset[str] = frozenset()

    def read(self) -> frozenset[str]:
        """The sources.

        Raises
        ------
        StoreUnavailable
            They are not known.
        """
        with self._database.read() as conn:
            current = revisions(conn)
            if current != self._known:
                self._sources, self._known = bound_sources(conn), current
        return self._sources


def bound_sources(conn: sa.Connection) -> frozenset[str]:
    """Sources that some registered model binds; of models that a newer program wrote nothing is
    known."""
    out: set[str] = set()
    for text in conn.execute(sa.select(specs.c.watch)).scalars():
        try:
            out |= set(WatchConfig.from_json(text).bound_sources)
        except msgspec.MsgspecError:
            continue  # whoever loads it logs it
    return frozenset(out)


def sources_read(conn: sa.Connection, namespace: str) -> frozenset[str]:
    """Sources whose topic was read some day, whether or not a model binds them now."""
    prefix = topic_name("", namespace)
    read = conn.execute(sa.select(offsets.c.topic).distinct()).scalars()
    sources = {source_of(t.removeprefix(prefix)) for t in read if t.startswith(prefix)}
    return frozenset(s for s in sources if s is not None)

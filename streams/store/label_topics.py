"""Topics of bound sources, as far as SQL knows: those from which records were counted."""

from __future__ import annotations

import sqlalchemy as sa

from redistill.streams.store.tables import offsets
from redistill.streams.wire.events import source_of, topic_name

__all__ = ["sources_read"]


def sources_read(conn: sa.Connection, namespace: str) -> frozenset[str]:
    """Sources whose topic was read some day, whether or not a model binds them now."""
    prefix = topic_name("", namespace)
    read = conn.execute(sa.select(offsets.c.topic).distinct()).scalars()
    sources = {source_of(t.removeprefix(prefix)) for t in read if t.startswith(prefix)}
    return frozenset(s for s in sources if s is not None)

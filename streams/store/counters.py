"""Counters in SQL, by model and name."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from redistill.streams.store.database import insert_ignore
from redistill.streams.store.tables import counters

__all__ = ["add_counters"]


def add_counters(conn: sa.Connection, counts: Mapping[tuple[str, str], int], *, now: int) -> None:
    """Add to the counters, in the order of their keys, so that two transactions never deadlock on
    them.

    Parameters
    ----------
    now
        Microseconds since 1970: a counter that no longer grows is not kept for ever.
    """
    c = counters.c
    for (model, name), n in sorted(counts.items()):
        if not n:
            continue
        grown = (
            sa.update(counters)
            .where(c.model == model, c.name == name)
            .values(value=c.value + n, updated_at=now)
        )
        if conn.execute(grown).rowcount:
            continue
        made = insert_ignore(counters).values(model=model, name=name, value=n, updated_at=now)
        if not conn.execute(made).rowcount:
            conn.execute(grown)  # another transaction made the row in between

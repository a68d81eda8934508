"""Counters in SQL, by model and name."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from redistill.streams.store.database import insert_ignore
from redistill.streams.store.tables import counters

__all__ = ["add_counters"]


def add_counters(conn: sa.Connection, counts: Mapping[tuple[str, str], int]) -> None:
    """Add to the counters, in the order of their keys, so that two transactions never deadlock on
    them.
    """
    statement = insert_ignore(counters)
    for (model, name), n in sorted(counts.items()):
        if not n:
            continue
        done = conn.execute(
            sa.update(counters)
            .where(counters.c.model == model, counters.c.name == name)
            .values(value=counters.c.value + n)
        )
        if (
            done.rowcount == 0
            and not conn.execute(statement.values(model=model, name=name, value=n)).rowcount
        ):
            # another transaction made the row in between
            conn.execute(
                sa.update(counters)
                .where(counters.c.model == model, counters.c.name == name)
                .values(value=counters.c.value + n)
            )

"""Deletion budget: at most a tenth of a table an hour, whoever deletes and however often it starts.

What a wrong clock, a wrong setting or a defect takes is noticed while nine tenths are still there.
The count is kept in SQL, in the transaction that deletes: restarts and several workers share it.
An allowance is measured anew an hour after the last deletion that it paid for, so that no sixty
minutes see more than one of them.
"""

from __future__ import annotations

import sqlalchemy as sa

from redistill.streams.store.database import insert_ignore
from redistill.streams.store.lease import AHEAD_US
from redistill.times import HOUR
from redistill.workers.store.tables import deletion_budgets

__all__ = ["left", "spend"]

PARTS = 10
"""A table is worth this many hours, at least."""

LEAST = 10
"""Rows that may always go in an hour, or a table of nine rows would never be empty."""


def left(conn: sa.Connection, table: sa.Table, model: str | None, *, now: int) -> int:
    """How many rows may be deleted now, of a model and of the whole table; locks both counts until
    the transaction ends.

    Parameters
    ----------
    conn
        The transaction that deletes.
    model
        ``None``: the table is not divided by models.
    now
        Microseconds since 1970 by the database's clock.
    """
    whole = _left(conn, table, "", now)
    return whole if model is None or not whole else min(whole, _left(conn, table, model, now))


def spend(conn: sa.Connection, table: sa.Table, model: str | None, rows: int, *, now: int) -> None:
    """Count rows that this transaction deleted."""
    b = deletion_budgets.c
    if rows:
        conn.execute(
            sa.update(deletion_budgets)
            .where(b.table_name == table.name, b.model.in_(("", model or "")))
            .values(deleted=b.deleted + rows, last_at=now)
        )


def _left(conn: sa.Connection, table: sa.Table, model: str, now: int) -> int:
    b = deletion_budgets.c
    mine = sa.and_(b.table_name == table.name, b.model == model)
    new = {"table_name": table.name, "model": model, "allowed": 0, "deleted": 0, "last_at": 0}
    conn.execute(insert_ignore(deletion_budgets).values(new))
    row = conn.execute(sa.select(deletion_budgets).where(mine).with_for_update()).one()
    # a count that was made in the future is one of a clock that was ahead: nobody waits for it
    if now - HOUR < row.last_at <= now + AHEAD_US:
        return int(max(0, row.allowed - row.deleted))
    rows = sa.select(sa.func.count()).select_from(table)
    if model:
        rows = rows.where(table.c.model == model)
    allowed = allowance(int(conn.execute(rows).scalar_one()))
    conn.execute(
        sa.update(deletion_budgets).where(mine).values(allowed=allowed, deleted=0, last_at=now)
    )
    return allowed


def allowance(rows: int) -> int:
    """How many of a table's rows may go in an hour.

    Examples
    --------
    >>> [allowance(n) for n in (0, 5, 100, 101, 1_200_000)]
    [10, 10, 10, 11, 120000]
    """
    return max(LEAST, -(-rows // PARTS))

"""Stored labels: of two labels with one key which one stays.

The key is the id, the source and the time observed, as they were sent. Sent again a label is the
same one, and changes nothing. But one that came from the topic of its source takes the place of one
that did not, or whoever guesses the key could keep it out; and a retraction takes the place of the
label that it names by its time, or a file that was imported could not be taken back by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from redistill.streams.store import ledger
from redistill.streams.store.bulk import insert_new
from redistill.streams.store.tables import labels

__all__ = ["StoredLabels", "store_labels"]

KEY = [c.name for c in labels.primary_key]


class StoredLabels(Counter[str]):
    """How many labels were decided about before another one took their place, by model."""

    new: int = 0
    """Labels whose key was not there."""


def store_labels(
    conn: sa.Connection, offered: Sequence[Mapping[str, Any]], *, now: int
) -> StoredLabels:
    """Insert labels, or put them in the place of those that they outdo.

    Parameters
    ----------
    offered
        Rows of ``labels`` without ``received_at``, in the order in which they stood in their log.
    now
        Microseconds since 1970, by the database's clock: a label is looked up at intervals that
        grow with its age, and a flush that waited for the database must not make it old.
    """
    found = StoredLabels()
    if not offered:
        return found
    names = [n for n in offered[0] if n != "received_at"]
    columns = {n: [row[n] for row in offered] for n in names}
    found.new = insert_new(conn, labels, columns, same={"received_at": now})
    if found.new == len(offered):
        return found
    c = labels.c
    values = [n for n in names if n not in KEY]
    bound = [row for row in offered if row["bound"]]
    _replace(conn, bound, c.bound.is_(False), values, now, found)
    back = [row for row in offered if row["op"] == "retract"]
    # of what a label brought besides, its prediction, an outcome may have been made
    said = ["op", "label", "confidence", "state", "check_at"]
    _replace(conn, [r for r in back if r["bound"]], c.op != "retract", said, now, found)
    unbound = sa.and_(c.op != "retract", c.bound.is_(False))
    _replace(conn, [r for r in back if not r["bound"]], unbound, said, now, found)
    return found


def _replace(
    conn: sa.Connection,
    rows: Sequence[Mapping[str, Any]],
    which: sa.ColumnElement[bool],
    names: Sequence[str],
    now: int,
    found: StoredLabels,
) -> None:
    """Overwrite columns of stored labels, which are then looked at anew."""
    if not rows:
        return
    c = labels.c
    found.update(_decided(conn, rows, which))
    conn.execute(
        sa.update(labels)
        .where(which, *(c[k] == sa.bindparam(f"k_{k}") for k in KEY))
        .values({n: sa.bindparam(f"v_{n}") for n in names} | {"received_at": now}),
        [{f"k_{k}": row[k] for k in KEY} | {f"v_{n}": row[n] for n in names} for row in rows],
    )


def _decided(
    conn: sa.Connection, rows: Sequence[Mapping[str, Any]], which: sa.ColumnElement[bool]
) -> Mapping[str, int]:
    """How many labels were decided about whose place others take, by model."""
    c = labels.c
    replaced = sa.and_(which, c.state.in_(ledger.DECIDED))
    some = replaced & c.model.in_({row["model"] for row in rows})
    if conn.execute(sa.select(c.model).where(some).limit(1)).first() is None:
        return {}  # as always for bound ones, but for a while after a model binds its first source
    query = sa.select(c.model).where(replaced, *(c[k] == sa.bindparam(f"k_{k}") for k in KEY))
    keys = {tuple(row[k] for k in KEY) for row in rows}
    found = (
        conn.execute(query, {f"k_{k}": v for k, v in zip(KEY, key, strict=True)}).first()
        for key in sorted(keys)
    )
    return Counter(row.model for row in found if row is not None)

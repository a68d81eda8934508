"""Tries: how many processes took records of a partition and did not come back, so that a record
that kills its worker is found instead of killing every worker that meets it.

A worker that is about to take its first record counts itself among the tries of that offset;
leaving in order takes it back. A flush that moves the offset begins anew. So what the next worker
finds is the number of deaths. Each write holds only while the offset is the one it knows: of a
partition that another worker has moved nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import sqlalchemy as sa

from redistill.streams.store.batch import Partition
from redistill.streams.store.database import Database
from redistill.streams.store.tables import offsets

__all__ = ["Mark", "StoredOffset", "mark", "stored_offsets", "take_back"]


class StoredOffset(NamedTuple):
    """What SQL knows of one partition."""

    next_offset: int
    tries: int = 0
    """Processes that took records from there on and are not heard of again."""
    alone: int | None = None
    """The offset whose record one of them held with no other in hand."""


class Mark(NamedTuple):
    """What SQL is told before records are taken."""

    partition: Partition
    next_offset: int
    tries: int | None
    """With this process; ``None``: it is counted already."""
    alone: bool
    """Nothing but the record at this offset will be in hand."""


def stored_offsets(
    conn: sa.Connection, partitions: Iterable[Partition]
) -> dict[Partition, StoredOffset]:
    """What is known of each partition that has a row."""
    out: dict[Partition, StoredOffset] = {}
    c = offsets.c
    for partition in partitions:
        row = conn.execute(
            sa.select(c.next_offset, c.tries, c.alone).where(*_of(partition))
        ).one_or_none()
        if row is not None:
            out[partition] = StoredOffset(int(row.next_offset), int(row.tries), row.alone)
    return out


def mark(database: Database, marks: Iterable[Mark]) -> list[Partition]:
    """Note that records are about to be taken. Doing it twice does no harm.

    Returns
    -------
    list of Partition
        Those that another worker has moved: nothing of them may be taken.

    Raises
    ------
    StoreUnavailable
        Nothing was noted, so nothing may be taken; try again.
    """
    moved: list[Partition] = []
    with database.begin() as conn:
        for m in sorted(marks):
            values: dict[str, object] = {} if m.tries is None else {"tries": m.tries}
            if m.alone:
                values["alone"] = m.next_offset
            if not _change(conn, m.partition, m.next_offset, values):
                moved.append(m.partition)
    return moved


def take_back(database: Database, standing: Mapping[Partition, int]) -> None:
    """A worker leaves in order, with nothing in hand: it was no death.

    Parameters
    ----------
    standing
        By partition, the offset at which its try is counted.

    Raises
    ------
    StoreUnavailable
        Nothing was changed.
    """
    if not standing:
        return
    c = offsets.c
    fewer = sa.case((c.tries > 0, c.tries - 1), else_=0)  # told twice where the answer was lost
    with database.begin() as conn:
        for partition, next_offset in sorted(standing.items()):
            _change(conn, partition, next_offset, {"tries": fewer})


def _change(
    conn: sa.Connection, partition: Partition, next_offset: int, values: Mapping[str, object]
) -> bool:
    there = sa.update(offsets).where(*_of(partition), offsets.c.next_offset == next_offset)
    return conn.execute(there.values(**values)).rowcount == 1


def _of(partition: Partition) -> tuple[sa.ColumnElement[bool], sa.ColumnElement[bool]]:
    c = offsets.c
    return c.topic_id == partition.topic_id, c.partition == partition.number

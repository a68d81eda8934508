"""Replaced topics: what of a topic nobody had read when it was deleted and made again is a gap.

Its records are gone, and the new topic has another id. How many they were follows from where its
log ended when a worker looked last (``offsets.log_end``).
"""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa

from redistill.streams.store.batch import Gap, Partition
from redistill.streams.store.database import Database, insert_ignore
from redistill.streams.store.tables import gaps, offsets

__all__ = ["close_replaced"]


def close_replaced(database: Database, ids: Mapping[str, str], *, now: int) -> list[Gap]:
    """Skip what is left of replaced topics, and write it down; doing it twice does it once.

    Parameters
    ----------
    ids
        Of the topics that are there, by their names at the broker.
    now
        Microseconds since 1970.

    Returns
    -------
    list of Gap
        What was lost, for whoever wrote it down: nobody is told twice.

    Raises
    ------
    StoreUnavailable
        Nothing was written.
    """
    c = offsets.c
    unread = sa.and_(c.topic.in_(sorted(ids)), c.log_end > c.next_offset)
    with database.read() as conn:  # mostly there are none, and nobody has to wait for us
        rows = [r for r in conn.execute(sa.select(offsets).where(unread)) if _replaced(r, ids)]
    if not rows:
        return []
    lost: list[Gap] = []
    with database.begin() as conn:
        for row in sorted(rows, key=lambda r: (r.topic_id, r.partition)):
            closed = (
                sa.update(offsets)
                .where(
                    c.topic_id == row.topic_id,
                    c.partition == row.partition,
                    c.next_offset == row.next_offset,
                    c.log_end == row.log_end,
                )
                .values(
                    next_offset=row.log_end,
                    fence=row.log_end,
                    skipped=c.skipped + row.log_end - row.next_offset,
                    updated_at=now,
                )
            )
            if conn.execute(closed).rowcount != 1:  # another worker was first
                continue
            gap = Gap(
                partition=Partition(row.topic_id, row.partition),
                topic=row.topic,
                first=row.next_offset,
                last=row.log_end - 1,
            )
            conn.execute(
                insert_ignore(gaps).values(
                    topic_id=row.topic_id,
                    partition=row.partition,
                    topic=row.topic,
                    first=gap.first,
                    last=gap.last,
                    found_at=now,
                )
            )
            lost.append(gap)
    return lost


def _replaced(row: sa.Row[tuple[object, ...]], ids: Mapping[str, str]) -> bool:
    return bool(ids[row.topic] != row.topic_id)

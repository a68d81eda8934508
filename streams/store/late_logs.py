"""Late logs: predictions that were logged after a label had brought them, and counted.

A label that brings its prediction waits a minute for the log, and then counts with what it brought.
What is logged later changes no outcome, for a detector has seen it; but whether both say the same
is looked at, as it would have been in time.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from redistill.streams.store.tables import counters, join_rows, labels, outcomes

__all__ = ["BROUGHT", "look_again"]

BROUGHT = "brought"
"""Outcomes of predictions that labels brought; the counter is ``labels_brought``."""
IDS_AT_ONCE = 5_000


def look_again(conn: sa.Connection, model: str, hashes: Sequence[int], *, now: int) -> int:
    """Let the join look again at labels whose prediction is logged just now.

    Parameters
    ----------
    hashes
        Of the ids that were stored at ``now`` (microseconds since 1970), and perhaps of others.

    Returns
    -------
    int
        How many labels that were decided about wait again.
    """
    c = counters.c
    brought = sa.select(c.value).where(c.model == model, c.name == f"labels_{BROUGHT}")
    if conn.execute(brought).scalar() is None:
        return 0  # mostly nobody brings predictions, and a flush has no time to look
    o, j, said = outcomes.c, join_rows.c, labels.c
    again = 0
    for start in range(0, len(hashes), IDS_AT_ONCE):
        late = (
            sa.select(o.id, o.source, o.observed_at)
            .join_from(outcomes, join_rows, sa.and_(j.model == o.model, j.id_hash == o.id_hash))
            .where(
                o.model == model,
                o.id_hash.in_(hashes[start : start + IDS_AT_ONCE]),
                o.topic_id.is_(None),
                j.stored_at == now,
            )
        )
        for row in conn.execute(late).all():
            again += conn.execute(
                sa.update(labels)
                .where(
                    said.model == model,
                    said.id == row.id,
                    said.source == row.source,
                    said.observed_at == row.observed_at,
                    said.state == "joined",
                )
                .values(state="waiting", check_at=0)
            ).rowcount
    return again

"""Conflicting rows: predictions offered with an id that the same version has used for another one.

The first row stays, since labels may have joined it. A record that was sent twice says the same
twice; an id that is used twice, or a forged row, says something else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from redistill.streams.store.tables import join_rows

__all__ = ["conflicting"]

PIECE = 2_000
"""Ids of one query."""

CONTENT = (
    *("prediction", "score", "slices", "served_at"),
    *("failed", "predicted_low", "predicted_high"),
)
"""What a row says; where it stood in the log may differ."""


def conflicting(conn: sa.Connection, columns: Mapping[str, Sequence[Any]]) -> int:
    """How many of the rows that were just offered differ from the stored row of their version and
    id.

    Parameters
    ----------
    columns
        Of rows of one model, as they were offered to ``join_rows``.
    """
    if not (hashes := columns["id_hash"]):
        return 0
    c, found = join_rows.c, 0
    names = ("version", *CONTENT)
    none = [None] * len(hashes)  # of a column that was not offered
    offered = list(zip(hashes, *(columns.get(n, none) for n in names), strict=True))
    for start in range(0, len(offered), PIECE):
        piece = offered[start : start + PIECE]
        query = sa.select(c.id_hash, *(c[n] for n in names)).where(
            c.model == columns["model"][0], c.id_hash.in_({row[0] for row in piece})
        )
        stored = {row[0]: tuple(row) for row in conn.execute(query)}
        found += sum(_differs(stored.get(row[0]), row) for row in piece)
    return found


def _differs(stored: tuple[Any, ...] | None, offered: tuple[Any, ...]) -> bool:
    """Whether they are of one version and say something else."""
    return stored is not None and stored[1] == offered[1] and stored != offered

"""Second labels: what another source says of labelled rows, since a change and before it."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pyarrow as pa
import sqlalchemy as sa

from redistill.rownames import Names
from redistill.streams.store.standing_label import standing_label
from redistill.streams.store.tables import labels, outcomes
from redistill.workers.jobs.training_window import WindowQuery

__all__ = ["differed_before", "with_second_labels"]

MAX_PAIRS = 5_000
"""Rows with two labels that are looked at, the newest."""


def with_second_labels(
    conn: sa.Connection, query: WindowQuery, sources: tuple[str, ...], table: pa.Table
) -> pa.Table:
    """A window's rows with the column ``second_label``.

    Parameters
    ----------
    query
        Of the window.
    sources
        Those that are believed; empty: all.
    table
        ``fresh.parquet``.
    """
    since = outcomes.c.served_at >= query.since if query.since is not None else sa.true()
    second = {h: other for h, _, other in _pairs(conn, query, sources, since)}
    found = [second.get(h) for h in table.column("id_hash").to_pylist()]
    return table.append_column("second_label", pa.array(found, pa.string()))


def differed_before(
    conn: sa.Connection, query: WindowQuery, sources: tuple[str, ...], classes: tuple[str, ...]
) -> tuple[int, int] | None:
    """On how many rows two sources differed, of how many that both labelled, before the change;
    ``None`` without a change, or without such rows."""
    if query.since is None:
        return None
    names = Names(classes)
    pairs = _pairs(conn, query, sources, outcomes.c.served_at < query.since)
    differ = sum(names.name(first) != names.name(second) for _, first, second in pairs)
    return (differ, len(pairs)) if pairs else None


def _pairs(
    conn: sa.Connection,
    query: WindowQuery,
    sources: tuple[str, ...],
    when: sa.ColumnElement[bool],
) -> list[tuple[int, str, str]]:
    """(Hash of the id, label that stands, label of another source), each row once."""
    o, c = outcomes.c, labels.c
    statement = (
        sa.select(
            o.id_hash,
            o.label.label("standing"),
            c.source,
            c.label,
            c.op,
            c.observed_at,
            c.received_at,
        )
        .join_from(
            outcomes,
            labels,
            (c.model == o.model)
            & (c.id_hash == o.id_hash)
            & (c.source != o.source)
            & (c.state == "superseded"),
        )
        .where(o.model == query.model, o.version == query.version, o.label.is_not(None), when)
        .order_by(o.seq.desc())
        .limit(MAX_PAIRS)
    )
    if sources:
        statement = statement.where(c.source.in_(sources))
    said: dict[int, list[Any]] = defaultdict(list)
    for row in conn.execute(statement):
        said[row.id_hash].append(row)
    standing = ((rows[0], standing_label(rows, sources)) for rows in said.values())
    return [(row.id_hash, row.standing, other.label) for row, other in standing if other]

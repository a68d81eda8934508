"""Requestable rows: predictions stored with their features, whose labels can be asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from redistill.streams.store.request_draws import in_slice
from redistill.streams.store.tables import feature_rows, join_rows, label_request_rows, outcomes
from redistill.streams.wire.block import Schema

__all__ = ["Requestable", "last_block", "newest", "since_block", "unlabelled"]

IDS_AT_ONCE = 5_000
"""Ids of one question: databases have limits, some of 32,766."""


@dataclass(frozen=True, slots=True)
class Requestable:
    """Rows of one version, in the order in which they were served."""

    table: pa.Table
    """As ``tables.feature_rows`` has them: ``id``, ``id_hash``, ``served_at``, ``prediction``."""
    features: tuple[dict[str, Any], ...]
    """Of each row, numbers as stored: ``NaN`` missing, categories as indices."""

    def __len__(self) -> int:
        return len(self.features)

    @property
    def hashes(self) -> NDArray[np.int64]:
        """``(n,)`` of the ids."""
        return np.asarray(self.table["id_hash"].to_numpy())

    @property
    def served_at(self) -> NDArray[np.int64]:
        """``(n,)`` microseconds since 1970."""
        return np.asarray(self.table["served_at"].cast(pa.int64()).to_numpy())

    @property
    def ids(self) -> list[str]:
        """Of each row."""
        return list(self.table["id"].to_pylist())

    @property
    def predictions(self) -> list[str]:
        """Of each row."""
        return list(self.table["prediction"].to_pylist())

    def some(self, rows: NDArray[Any]) -> Requestable:
        """Rows by their indices, or by a mask."""
        index = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        chosen = tuple(self.features[i] for i in index.tolist())
        return Requestable(self.table.take(pa.array(index)), chosen)

    def of_slice(self, conn: sa.Connection, model: str, name: str) -> Requestable:
        """Rows of the slice ``column=value``, as they are stored for their labels."""
        c = join_rows.c
        mine: set[int] = set()
        for part in _parts(self.hashes.tolist()):
            query = sa.select(c.id_hash, c.slices).where(c.model == model, c.id_hash.in_(part))
            mine |= {int(r.id_hash) for r in conn.execute(query) if in_slice(name, r.slices)}
        return self.some(np.array([h in mine for h in self.hashes.tolist()], np.bool_))

    def named(
        self, schema: Schema, allowed: Sequence[str] | None
    ) -> list[dict[str, float | str | None]]:
        """Features of each row as an event has them: categories by their names.

        Parameters
        ----------
        allowed
            Features that ``[privacy] store_features`` allows now, however many were allowed when
            the rows were stored; ``None``: all.
        """
        words = {f.name: f.values for f in schema.features if f.kind == "category"}
        return [
            {k: _value(v, words.get(k)) for k, v in row.items() if allowed is None or k in allowed}
            for row in self.features
        ]


def newest(conn: sa.Connection, model: str, version: str, rows: int) -> Requestable:
    """The rows served last, ``rows`` of them as far as they are stored."""
    c = feature_rows.c
    query = sa.select(c.data, c.rows).where(c.model == model, c.version == version)
    blocks: list[Any] = []
    n = 0
    ordered = query.order_by(c.block_id.desc())
    with conn.execute(ordered, execution_options={"yield_per": 20}) as stored:
        for data, stored_rows in stored:
            blocks.append(data)
            n += stored_rows
            # blocks come nearly in the order in which their rows were served
            if n >= 2 * rows:
                break
    found = _table(blocks)
    return found.some(np.arange(max(0, len(found) - rows), len(found)))


def last_block(conn: sa.Connection, model: str, version: str) -> int:
    """Number of the last block of rows; 0: there is none."""
    c = feature_rows.c
    query = sa.select(sa.func.max(c.block_id)).where(c.model == model, c.version == version)
    return int(conn.execute(query).scalar() or 0)


def since_block(
    conn: sa.Connection, model: str, version: str, block_id: int
) -> tuple[Requestable, int]:
    """Rows of the blocks behind ``block_id``, and the last of these blocks."""
    c = feature_rows.c
    query = (
        sa.select(c.block_id, c.data)
        .where(c.model == model, c.version == version, c.block_id > block_id)
        .order_by(c.block_id)
    )
    stored = conn.execute(query).all()
    return _table([r.data for r in stored]), int(stored[-1].block_id) if stored else block_id


def unlabelled(conn: sa.Connection, model: str, rows: Requestable) -> Requestable:
    """Rows without a label that nobody was asked for either."""
    known: set[int] = set()
    for table in (outcomes, label_request_rows):
        for part in _parts(rows.hashes.tolist()):
            query = sa.select(table.c.id_hash).where(
                table.c.model == model, table.c.id_hash.in_(part)
            )
            known |= set(map(int, conn.execute(query).scalars()))
    return rows.some(np.array([h not in known for h in rows.hashes.tolist()], np.bool_))


def _parts(hashes: Sequence[int]) -> Iterable[Sequence[int]]:
    return (hashes[i : i + IDS_AT_ONCE] for i in range(0, len(hashes), IDS_AT_ONCE))


COLUMNS = ("id", "id_hash", "served_at", "prediction")
EMPTY = pa.schema(
    [
        ("id", pa.string()),
        ("id_hash", pa.int64()),
        ("served_at", pa.timestamp("us", "UTC")),
        ("prediction", pa.string()),
    ]
)


def _table(blocks: Sequence[bytes]) -> Requestable:
    """Blocks as one table, in the order in which rows were served."""
    parts, features = [EMPTY.empty_table()], []
    for data in blocks:
        with pa.ipc.open_stream(data) as reader:
            table = reader.read_all()
        names = json.loads((table.schema.metadata or {}).get(b"features", b"[]"))
        parts.append(table.select(COLUMNS).replace_schema_metadata(None))
        features += [dict(zip(names, row, strict=True)) for row in table["features"].to_pylist()]
    whole = pa.concat_tables(parts)
    order = np.argsort(whole["served_at"].cast(pa.int64()).to_numpy(), kind="stable")
    return Requestable(whole, tuple(features)).some(order)


def _value(value: float, words: Sequence[str] | None) -> float | str | None:
    if value != value:  # NaN
        return None
    if words is None:
        return value
    return words[int(value)] if 0 <= value < len(words) else None

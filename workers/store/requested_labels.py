"""Requested labels: what became of each request, and the rows whose labels are still wanted."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from redistill.streams.store.tables import (
    feature_rows,
    label_request_rows,
    label_requests,
    outcomes,
)
from redistill.streams.wire.block import Schema
from redistill.times import DAY

__all__ = ["RequestProgress", "open_rows", "progress"]


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestProgress:
    """One request, and how many of its labels came."""

    request_id: str
    version: str
    why: str
    slice: str | None
    asked_at: int
    """Microseconds since 1970."""
    p_include: float
    rows: int
    answered: int
    expired: int
    """Without a label for longer than one may take."""
    cost: float
    budget: int
    budget_left: int

    @property
    def open(self) -> int:
        """Rows whose labels are still wanted."""
        return self.rows - self.answered - self.expired


def progress(
    conn: sa.Connection, model: str, *, wait_days: float, now: int
) -> list[RequestProgress]:
    """The requests for labels of a model, newest first.

    Parameters
    ----------
    wait_days
        How long a label may take: later it would join nothing.
    now
        Microseconds since 1970.
    """
    r, rows, o = label_requests.c, label_request_rows.c, outcomes.c
    answered = sa.func.count(o.seq)
    query = (
        sa.select(label_requests, answered.label("answered"))
        .outerjoin(label_request_rows, rows.request_id == r.request_id)
        .outerjoin(outcomes, sa.and_(o.model == rows.model, o.id_hash == rows.id_hash))
        .where(r.model == model)
        .group_by(*r)
        .order_by(r.asked_at.desc(), r.request_id)
    )
    names = ("request_id", "version", "why", "slice", "asked_at", "p_include", "rows", "cost")
    return [
        RequestProgress(
            **{n: getattr(row, n) for n in names},
            budget=row.budget,
            budget_left=row.budget_left,
            answered=int(row.answered),
            expired=row.rows - int(row.answered) if row.asked_at < now - wait_days * DAY else 0,
        )
        for row in conn.execute(query)
    ]


def open_rows(
    conn: sa.Connection,
    model: str,
    schema: Schema,
    *,
    allowed: Collection[str] | None,
    wait_days: float,
    now: int,
) -> pa.Table:
    """Rows whose labels are wanted, oldest first: ``id``, ``served_at``, ``prediction``,
    ``request_id``, ``p_include``, and their features as far as they are still stored.

    Parameters
    ----------
    allowed
        Features that ``[privacy] store_features`` allows now, however many were allowed when the
        rows were stored; ``None``: all.
    """
    r, rows, o = label_requests.c, label_request_rows.c, outcomes.c
    query = (
        sa.select(rows.id, rows.id_hash, rows.served_at, r.request_id, r.version, r.p_include)
        .join(label_requests, rows.request_id == r.request_id)
        .outerjoin(outcomes, sa.and_(o.model == rows.model, o.id_hash == rows.id_hash))
        .where(rows.model == model, o.seq.is_(None), r.asked_at >= now - round(wait_days * DAY))
        .order_by(rows.served_at, rows.id)
    )
    wanted = conn.execute(query).all()
    stored: dict[int, dict[str, Any]] = {}
    for version in {row.version for row in wanted}:
        mine = {row.id_hash: row.served_at for row in wanted if row.version == version}
        stored |= _stored(conn, model, version, mine)
    known = [stored.get(row.id_hash, {}) for row in wanted]
    columns: dict[str, Any] = {
        "id": pa.array([row.id for row in wanted], pa.string()),
        "served_at": pa.array([row.served_at for row in wanted], pa.timestamp("us", "UTC")),
        "prediction": pa.array([k.get("prediction") for k in known], pa.string()),
        "request_id": pa.array([row.request_id for row in wanted], pa.string()),
        "p_include": pa.array([row.p_include for row in wanted], pa.float64()),
    }
    for f in schema.features:
        if allowed is not None and f.name not in allowed:
            continue
        values = [k.get("features", {}).get(f.name) for k in known]
        if all(v is None for v in values):
            continue  # it is not stored
        if f.kind == "category":
            texts = [_text(v, f.values) for v in values]
            columns[_free(f.name, columns)] = pa.array(texts, pa.string())
        else:
            columns[_free(f.name, columns)] = pa.array(values, pa.float32(), from_pandas=True)
    return pa.table(columns)


def _stored(
    conn: sa.Connection, model: str, version: str, wanted: Mapping[int, int]
) -> dict[int, dict[str, Any]]:
    """Predictions and features of rows by the hashes of their ids.

    Parameters
    ----------
    wanted
        Hash of an id -> when the row was served.
    """
    c = feature_rows.c
    query = sa.select(c.data).where(
        c.model == model,
        c.version == version,
        c.last_served_at >= min(wanted.values()),
        c.first_served_at <= max(wanted.values()),
    )
    hashes = pa.array(wanted, pa.int64())
    found: dict[int, dict[str, Any]] = {}
    with conn.execute(query, execution_options={"yield_per": 20}) as blocks:
        for (data,) in blocks:
            with pa.ipc.open_stream(data) as reader:
                table = reader.read_all()
            names = json.loads((table.schema.metadata or {}).get(b"features", b"[]"))
            mine = table.filter(pc.is_in(table["id_hash"], hashes))
            for row in mine.select(["id_hash", "prediction", "features"]).to_pylist():
                features = dict(zip(names, row["features"], strict=True))
                found[row["id_hash"]] = {"prediction": row["prediction"], "features": features}
    return found


def _free(name: str, columns: dict[str, Any]) -> str:
    """A feature's column beside those that every file has."""
    return f"feature.{name}" if name in columns else name


def _text(value: float | None, words: tuple[str, ...]) -> str | None:
    if value is None or not 0 <= value < len(words):  # NaN is neither
        return None
    return words[int(value)]

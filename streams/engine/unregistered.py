"""Unregistered models and versions: their rows are counted, and a capped sample is kept for
``register``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import sqlalchemy as sa
from numpy.typing import NDArray

from redistill.streams.errors import WireError
from redistill.streams.store.batch import FlushBatch, Unregistered
from redistill.streams.store.database import Database
from redistill.streams.store.tables import unregistered
from redistill.streams.wire.arrow_encode import encode_batch
from redistill.streams.wire.block import PredictionBlock
from redistill.streams.wire.codec import ARROW
from redistill.streams.wire.columns import infer_schema, times
from redistill.streams.wire.envelope import open_envelope
from redistill.streams.wire.faults import Faults, as_float
from redistill.streams.wire.rows import ANY, lenient
from redistill.textform import category_text

__all__ = ["UnregisteredRows"]

SAMPLE_ROWS = 1_000
MOST = 200
"""Model versions with a sample in memory: names come from the wire, memory must not grow with them.
"""


@dataclass(slots=True)
class _Seen:
    sampled: int
    """Rows in the sample, here and in SQL."""
    stored: int
    rows: list[dict[str, Any]] = field(default_factory=list)


class UnregisteredRows:
    """Counts and samples between two flushes.

    Parameters
    ----------
    database
        Read once for each new name: a sample that is there already is continued only while it is
        small.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._asked: set[tuple[str, str]] = set()
        self._counts: dict[tuple[str, str], Unregistered] = {}

    def is_new(self, model: str, version: str) -> bool:
        """Whether it was not met since the last flush."""
        key = (model, version)
        if key in self._asked:
            return False
        self._asked.add(key)
        return True

    def add(
        self, block: PredictionBlock, records: Sequence[Any], record_of: NDArray[np.int64], now: int
    ) -> None:
        """Count a block; ``record_of`` says from which of the records each row came."""
        key = (block.model, block.version)
        count = self._counts.get(key)
        if count is None:
            count = self._counts[key] = Unregistered(rows=0, first_seen_at=now, last_seen_at=now)
        count.rows += len(block)
        count.last_seen_at = now
        seen = self._seen.get(key)
        if seen is None:
            if len(self._seen) >= MOST:
                return
            seen = self._seen[key] = self._begun(*key)
        if seen.sampled < SAMPLE_ROWS:
            for i in np.unique(record_of).tolist():
                rows = _rows_of(records[i])[: SAMPLE_ROWS - seen.sampled]
                seen.rows += rows
                seen.sampled += len(rows)
                if seen.sampled >= SAMPLE_ROWS:
                    break

    def close(self, batch: FlushBatch) -> None:
        """Move the counts into a batch, with a sample where it has grown four times."""
        for key, count in self._counts.items():
            seen = self._seen.get(key)
            if (
                seen is not None
                and seen.rows
                and (len(seen.rows) >= 4 * seen.stored or seen.sampled >= SAMPLE_ROWS)
                and len(seen.rows) > seen.stored
            ):
                count.sample = _encode(*key, seen.rows)
                seen.stored = len(seen.rows)
            batch.unregistered[key] = count
            if seen is not None and seen.stored >= SAMPLE_ROWS:
                seen.rows = []  # it is in SQL now
        self._counts = {}
        self._asked.clear()

    def clear(self) -> None:
        """Forget everything that was not flushed."""
        self._counts.clear()
        self._asked.clear()
        self._seen.clear()

    def _begun(self, model: str, version: str) -> _Seen:
        """A sample that an earlier worker stored is continued, unless it is full."""
        c = unregistered.c
        with self._database.read() as conn:
            data = conn.execute(
                sa.select(c.sample).where(c.model == model, c.version == version)
            ).scalar_one_or_none()
        if data is None:
            return _Seen(0, 0)
        try:
            rows = _batch_rows(bytes(data))
        except (WireError, pa.ArrowException, ValueError, KeyError):
            return _Seen(0, 0)
        if len(rows) >= SAMPLE_ROWS:
            return _Seen(len(rows), len(rows))
        return _Seen(len(rows), len(rows), rows)


def _rows_of(record: Any) -> list[dict[str, Any]]:
    """The rows of one record as they stood on the wire; none if it cannot be read.

    As tolerant as the decoder that counts them: a model whose every row has one odd value would
    else be counted without end, and never be learned.
    """
    try:
        envelope = open_envelope(record)
        if envelope.content_type == ARROW:
            return _batch_rows(envelope.data)
        row = ANY.tolerant(lenient(envelope.data), Faults())
        times_us, wrong = times([row.served_at])
    except (WireError, pa.ArrowException, ValueError, KeyError):
        return []
    if wrong:
        return []
    return [
        {
            "id": row.id,
            "served_at": int(times_us[0]),
            "prediction": row.prediction,
            "scores": row.scores,
            "features": {k: v for k, v in (row.features or {}).items() if _is_value(v)},
            "segment": row.segment or {},
        }
    ]


def _is_value(value: Any) -> bool:
    """Whether a feature may hold it: lists and objects are of a wrong type, and name no column."""
    return value is None or isinstance(value, float | int | str)


def _batch_rows(data: bytes) -> list[dict[str, Any]]:
    """Rows of an Arrow batch in the layout of the wire, at most a sample's worth."""
    with pa.ipc.open_stream(data) as reader:
        table = reader.read_all().slice(0, SAMPLE_ROWS)
    names = json.loads((table.schema.metadata or {}).get(b"redistill.features", b"[]"))
    times = table["served_at"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_pylist()
    out = []
    for row, at in zip(table.to_pylist(), times, strict=True):
        features: dict[str, Any] = dict(zip(names, row.get("features") or (), strict=False))
        segment = {}
        for name, value in row.items():
            if name.startswith("feature."):
                features[name[8:]] = value
            elif name.startswith("segment.") and value is not None:
                segment[name[8:]] = value
        out.append(
            {
                "id": row["id"],
                "served_at": at,
                "prediction": row["prediction"],
                "scores": row.get("scores"),
                "features": features,
                "segment": segment,
            }
        )
    return out


def _encode(model: str, version: str, rows: list[dict[str, Any]]) -> bytes:
    """The sample in the layout of the wire, so that the codec reads it."""
    features = [r["features"] for r in rows]
    schema = infer_schema(features)
    numeric = [f.name for f in schema.features if f.kind != "category"]
    matrix = np.array([[_number(f.get(n)) for n in numeric] for f in features], np.float32)
    words = {
        f.name: [_word(r.get(f.name)) for r in features]
        for f in schema.features
        if f.kind == "category"
    }
    width = max((len(r["scores"] or ()) for r in rows), default=0)
    scores = np.full((len(rows), width), np.nan, np.float32)
    for i, r in enumerate(rows):
        if r["scores"] is not None and len(r["scores"]) == width:
            scores[i] = [_number(s) for s in r["scores"]]
    predictions = [r["prediction"] for r in rows]
    numbers = {type(p) for p in predictions} <= {int, float}
    keys = sorted({k for r in rows for k in r["segment"]})[:50]
    return encode_batch(
        model=model,
        version=version,
        ids=[r["id"] for r in rows],
        served_at=np.array([r["served_at"] for r in rows], np.int64),
        feature_names=numeric,
        features=matrix.reshape(len(rows), len(numeric)),
        categories=words,
        prediction=(
            np.array([_number(p) for p in predictions])
            if numbers
            else [_word(p) or "" for p in predictions]
        ),
        scores=scores if width else None,
        segments={k: [r["segment"].get(k) for r in rows] for k in keys},
    )


def _number(value: Any) -> float:
    return as_float(value) if isinstance(value, int | float) else float("nan")


def _word(value: Any) -> str | None:
    try:
        return category_text(value)
    except ValueError:  # a whole float that could be two numbers names nothing
        return str(value)

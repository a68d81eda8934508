"""Sample of the traffic of a model that nobody registered, for ``register --from-traffic``.

Names and texts come from strangers, so a sample has bounds of its own: rows, columns, cells (rows
times columns), bytes in memory, characters of a text. What does not fit is left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from redistill.streams.errors import WireError
from redistill.streams.wire.arrow_encode import encode_batch
from redistill.streams.wire.arrow_open import open_batch
from redistill.streams.wire.arrow_rows import rows_of_batch
from redistill.streams.wire.columns import MAX_TEXT, infer_schema, times
from redistill.streams.wire.envelope import ARROW, open_envelope
from redistill.streams.wire.faults import Faults, as_float
from redistill.streams.wire.rows import ANY, lenient
from redistill.textform import NoText, category_text

__all__ = ["TrafficSample"]

SAMPLE_ROWS = 1_000
SAMPLE_COLUMNS = 10_000
"""Features, those of all rows together: as many as a batch may have."""
SAMPLE_CELLS = 500_000
"""Rows times features: a sample is stored as a table, 4 bytes each."""
SAMPLE_BYTES = 2 * 1024 * 1024
"""Rows as they are kept in memory."""
SAMPLE_SEGMENTS = 50
"""Segment keys, those of all rows together."""

_DAMAGED = (WireError, pa.ArrowException, ValueError, LookupError)


class TrafficSample:
    """Rows of one model version, kept as JSON until they are stored."""

    def __init__(self) -> None:
        self.full = False
        self.bytes = 0
        self.stored = 0
        """Rows of it in SQL."""
        self._rows: list[bytes] = []
        self._features: set[str] = set()
        self._segments: set[str] = set()
        self._scores = 0

    @classmethod
    def of(cls, data: bytes | None) -> TrafficSample:
        """The sample that an earlier worker stored; empty if there is none, or none is readable."""
        sample = cls()
        try:
            for row in () if data is None else rows_of_batch(open_batch(data), SAMPLE_ROWS):
                sample.add(row)
        except _DAMAGED:
            return cls()
        sample.stored = len(sample._rows)
        if sample.full:
            sample.taken()
        return sample

    @property
    def due(self) -> bool:
        """Whether it is so much larger than what is in SQL that it should be stored."""
        rows = len(self._rows)
        return rows > self.stored and (rows >= 4 * self.stored or self.full)

    def extend(self, record: Any) -> int:
        """Take the rows of a record while there is room; how many values were left out."""
        left_out = 0
        try:
            for row in _rows_of(record, SAMPLE_ROWS - len(self._rows)):
                left_out += self.add(row)
                if self.full:
                    break
        except _DAMAGED:
            pass  # the rest of the record
        return left_out

    def add(self, row: dict[str, Any]) -> int:
        """Take a row, or what of it has room; how many of its values were left out. What failed
        shows nothing of a model."""
        if self.full or row["failed"] is not None:
            return 0
        rows = len(self._rows)
        given = [(k, _value(v)) for k, v in row["features"].items()]
        features = {k: v for k, v in given if _fits(k) and _fits(v)}
        # An Arrow batch may name a segment whose values are no texts: that is no slice.
        words = {k: v for k, v in row["segment"].items() if v is None or isinstance(v, str)}
        segment = {k: v for k, v in words.items() if _fits(k) and _fits(v)}
        left_out = len(given) + len(row["segment"]) - len(features) - len(segment)
        room = min(SAMPLE_COLUMNS, SAMPLE_CELLS // (rows + 1))
        left_out += _keep_known(features, self._features, room)
        left_out += _keep_known(segment, self._segments, SAMPLE_SEGMENTS)
        scores = row["scores"]
        if scores is not None and len(scores) > room:
            scores = None
            left_out += 1
        row = {k: v for k, v in row.items() if k != "failed"} | {
            "prediction": _value(row["prediction"]),
            "features": features,
            "segment": segment,
            "scores": scores,
        }
        kept = msgspec.json.encode(row)
        if self.bytes + len(kept) > SAMPLE_BYTES:
            self.full = rows > 0
            return left_out + len(features)
        self._features.update(features)
        self._segments.update(segment)
        self._rows.append(kept)
        self.bytes += len(kept)
        self._scores = max(self._scores, len(scores or ()))
        widest = max(len(self._features), self._scores)
        self.full = rows + 1 >= SAMPLE_ROWS or (rows + 2) * widest > SAMPLE_CELLS
        return left_out

    def taken(self) -> None:
        """All of it is on its way to SQL: a full one is needed here no longer."""
        self.stored = len(self._rows)
        if self.full:
            self._rows, self.bytes = [], 0

    def encode(self, model: str, version: str) -> bytes:
        """In the layout of the wire, so that the codec reads it."""
        rows = [msgspec.json.decode(row) for row in self._rows]
        features = [r["features"] for r in rows]
        schema = infer_schema(features)
        numeric = [f.name for f in schema.features if f.kind != "category"]
        wide = np.array([[_number(f.get(n)) for n in numeric] for f in features], np.float64)
        words = {
            f.name: [_word(r.get(f.name)) for r in features]
            for f in schema.features
            if f.kind == "category"
        }
        width = max((len(r["scores"] or ()) for r in rows), default=0)
        scores = np.full((len(rows), width), np.nan)
        for i, r in enumerate(rows):
            if r["scores"] is not None and len(r["scores"]) == width:
                scores[i] = [_number(s) for s in r["scores"]]
        predictions = [r["prediction"] for r in rows]
        numbers = {type(p) for p in predictions} <= {int, float}
        return encode_batch(
            model=model,
            version=version,
            ids=[r["id"] for r in rows],
            served_at=np.array([r["served_at"] for r in rows], np.int64),
            feature_names=numeric,
            features=_narrow(wide.reshape(len(rows), len(numeric))),
            categories=words,
            prediction=(
                np.array([_number(p) for p in predictions])
                if numbers
                else [_word(p) or "" for p in predictions]
            ),
            scores=_narrow(scores) if width else None,
            segments={k: [r["segment"].get(k) for r in rows] for k in sorted(self._segments)},
        )


def _rows_of(record: Any, most: int) -> Iterator[dict[str, Any]]:
    """The first rows of one record as they stood on the wire.

    As tolerant as the decoder that counts them: a model whose every row has one odd value would
    else be counted without end, and never be learned.
    """
    envelope = open_envelope(record)
    if envelope.content_type == ARROW:
        yield from rows_of_batch(open_batch(envelope.data), most)
        return
    row = ANY.tolerant(lenient(envelope.data), Faults())
    times_us, wrong = times([row.served_at])
    if not wrong:
        yield {
            "id": row.id,
            "served_at": int(times_us[0]),
            "prediction": row.prediction,
            "scores": row.scores,
            "features": row.features or {},
            "segment": row.segment or {},
            "failed": row.failed,
        }


def _keep_known(values: dict[str, Any], known: set[str], most: int) -> int:
    """Drop names for which there is no room beside the known ones; returns how many."""
    room = max(0, most - len(known))
    new = [name for name in values if name not in known]
    for name in new[room:]:
        del values[name]
    return len(new[room:])


def _value(given: Any) -> Any:
    """A feature's value; lists and objects are of a wrong type, and name no column: ``...``."""
    if isinstance(given, int) and given.bit_length() > 63:
        return as_float(given)
    return given if given is None or isinstance(given, str | int | float) else ...


def _fits(text: Any) -> bool:
    """Whether a sample has room for a name or a value."""
    return text is not ... and (not isinstance(text, str) or len(text) <= MAX_TEXT)


def _narrow(wide: NDArray[np.float64]) -> NDArray[np.float32]:
    """As float32; what is beyond it is infinite, as the codec has it."""
    with np.errstate(over="ignore"):
        return wide.astype(np.float32)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _word(value: Any) -> str | None:
    try:
        return category_text(value)
    except NoText:  # it could be two numbers, and names nothing
        return str(value)

"""Batcher: logged predictions -> records. Rows of one kind are gathered, and written as one Arrow
batch.

No threads and no clock here: the logger's encoding thread feeds rows in and takes records out.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import numpy as np

from redistill.streams.client.values import (
    ENCODER,
    answer,
    answers,
    are_numbers,
    inexact,
    json_value,
    kind_of,
    minority,
    named_texts,
    plain,
    unanswered,
)
from redistill.streams.errors import WireError
from redistill.streams.wire.arrow_encode import encode_batch
from redistill.streams.wire.envelope import ARROW, JSON, MAX_EVENT_BYTES, checked_names, headers_of
from redistill.streams.wire.events import (
    TEXT_CHARACTERS,
    TOPICS,
    Event,
    LabelObserved,
    PredictionMade,
)
from redistill.streams.wire.failures import FAILURES
from redistill.streams.wire.messages import encode
from redistill.textform import text_of

__all__ = ["MIN_BATCH_ROWS", "Batcher", "BoundLabel", "Logged", "Outgoing", "warm_up"]

MIN_BATCH_ROWS = 20
"""Fewer rows go as single JSON events: a tiny Arrow batch costs its reader more than they do."""
_MAX_GROUPS = 1_000
"""Open groups; a service whose rows all have other features must not gather for ever."""
_MAX_ID = 200


class BoundLabel(NamedTuple):
    """A label for the topic of its own source."""

    label: LabelObserved


class Logged(NamedTuple):
    """One call of ``log``, as it was made."""

    model: Any
    version: Any
    id: Any
    served_at: int  # microseconds since 1970
    prediction: Any
    scores: Sequence[Any] | None
    features: Mapping[str, Any] | None
    segment: Mapping[str, Any] | None
    latency_ms: Any
    sample_rate: Any
    failed: Any = None
    prediction_interval: Any = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to send, and how many rows are in it."""

    topic: str
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]]
    rows: int

    @property
    def size(self) -> int:
        """Bytes that it occupies, roughly."""
        return len(self.value) + 400


@dataclass(slots=True)
class _Group:
    opened: float
    names: tuple[str, ...]
    rows: list[Logged] = field(default_factory=list)
    bytes: int = 0


class Batcher:
    """Gathers rows by (model, version, names of the features, number of scores, failure).

    Parameters
    ----------
    source
        CloudEvents' ``source`` of everything written.
    invalid
        Called with (reason, rows) for what cannot be written.
    batch_rows, batch_bytes, batch_seconds
        When a batch is closed: whichever comes first.
    """

    def __init__(
        self,
        source: str,
        invalid: Callable[[str, int], None],
        *,
        batch_rows: int = 500,
        batch_bytes: int = 524_288,
        batch_seconds: float = 0.2,
    ) -> None:
        self.source = source
        self.invalid = invalid
        self.batch_rows = batch_rows
        self.batch_bytes = batch_bytes
        self.batch_seconds = batch_seconds
        self._groups: dict[tuple[Any, ...], _Group] = {}

    def add(self, row: Logged, now: float) -> list[Outgoing]:
        """Take a row in; returns the records of a batch that this closed.

        Parameters
        ----------
        row
            As logged: anything may be in it.
        now
            Seconds on any clock that only grows.
        """
        if (fault := _fault(row)) is not None:
            self.invalid(fault, 1)
            return []
        names = tuple(row.features) if row.features is not None else ()
        width = len(row.scores) if row.scores is not None else -1
        key = (row.model, row.version, names, width, row.failed)  # answers may be of another kind
        if (group := self._groups.get(key)) is None:
            if (fault := _group_fault(row)) is not None:
                self.invalid(fault, 1)
                return []
            group = self._groups[key] = _Group(now, names)
        group.rows.append(row)
        group.bytes += 64 + 4 * len(names) + 2 * len(row.id)
        if len(group.rows) >= self.batch_rows or group.bytes >= self.batch_bytes:
            return self._close(key)
        if len(self._groups) > _MAX_GROUPS:
            return self._close(next(iter(self._groups)))
        return []

    def due(self, now: float) -> list[Outgoing]:
        """Records of the batches that have been open long enough."""
        late = [k for k, g in self._groups.items() if now >= g.opened + self.batch_seconds]
        return [out for key in late for out in self._close(key)]

    def drain(self) -> list[Outgoing]:
        """Records of all open batches."""
        return [out for key in list(self._groups) for out in self._close(key)]

    def next_due(self) -> float | None:
        """When the oldest batch has to be closed; ``None`` if none is open."""
        first = next(iter(self._groups.values()), None)
        return None if first is None else first.opened + self.batch_seconds

    def event(self, event: Event, *, bound: bool = False) -> list[Outgoing]:
        """Record of a small event; an event that nobody could read is reported as invalid.

        Parameters
        ----------
        bound
            A label goes to the topic of its own source.
        """
        try:
            made = encode(event, source=self.source, bound=bound)
        except (WireError, TypeError, ValueError, msgspec.MsgspecError) as exc:
            self.invalid(f"{type(event).__name__}: {exc}", 1)
            return []
        return [Outgoing(made.topic, made.key, made.value, made.headers, 1)]

    def _close(self, key: tuple[Any, ...]) -> list[Outgoing]:
        group = self._groups.pop(key)
        return list(self._write(group.rows, group.names))

    def _write(self, rows: list[Logged], names: tuple[str, ...]) -> Iterable[Outgoing]:
        if len(rows) < MIN_BATCH_ROWS:
            yield from self._singles(rows)
            return
        try:
            value, odd = self._batch(rows, names)
        except Exception:  # values are the caller's: whatever no column can hold
            yield from self._singles(rows)
            return
        if len(value) > self.batch_bytes and len(rows) > 1:
            half = len(rows) // 2
            yield from self._write(rows[:half], names)
            yield from self._write(rows[half:], names)
            return
        if value:
            headers = self._headers(ARROW)
            key = rows[0].model.encode()
            yield Outgoing(_TOPIC, key, value, headers, len(rows) - len(odd))
        yield from self._singles(odd)

    def _batch(self, rows: list[Logged], names: tuple[str, ...]) -> tuple[bytes, list[Logged]]:
        """The Arrow batch, and the rows that do not fit into it (a string among numbers, ...)."""
        columns: list[Sequence[Any]]
        columns = list(zip(*(r.features.values() for r in rows if r.features), strict=True))
        kinds = [kind_of(column) for column in columns]
        for j, kind in enumerate(kinds):
            if kind is None:  # scalars of some library, or several kinds
                columns[j] = list(map(plain, columns[j]))
                kinds[j] = kind_of(columns[j])
        if None in kinds:
            odd_at = {
                i
                for column, kind in zip(columns, kinds, strict=True)
                if kind is None
                for i in minority(column)
            }
            good = [r for i, r in enumerate(rows) if i not in odd_at]
            odd = [rows[i] for i in sorted(odd_at)]
            if len(good) < MIN_BATCH_ROWS:
                return b"", rows
            return self._batch(good, names)[0], odd
        numbers = [j for j, kind in enumerate(kinds) if kind == "number"]
        wide = np.array([np.array(columns[j], np.float64) for j in numbers])
        wide = wide.reshape(len(numbers), len(rows))
        with np.errstate(over="ignore"):
            features = wide.astype(np.float32)
        apart = [numbers[i] for i in inexact(wide)]
        if apart:
            kept = [i for i, j in enumerate(numbers) if j not in apart]
            numbers, features = [numbers[i] for i in kept], features[kept]
        first = rows[0]
        scores = None
        if first.scores is not None:
            if not all(are_numbers(r.scores or ()) for r in rows):
                raise TypeError("scores that are no numbers")
            scores = np.array([r.scores for r in rows], np.float64).astype(np.float32)
        segments: dict[str, list[str | None]] = {}
        for key in {k: None for r in rows if r.segment for k in r.segment}:
            segments[key] = [text_of((r.segment or {}).get(key)) for r in rows]
        intervals = [r.prediction_interval for r in rows]
        latency = [r.latency_ms for r in rows]
        rates = [r.sample_rate for r in rows]
        value = encode_batch(
            model=first.model,
            version=first.version,
            ids=[r.id for r in rows],
            served_at=np.array([r.served_at for r in rows], np.int64),
            feature_names=[names[j] for j in numbers],
            features=features.T,
            categories={
                names[j]: columns[j] if kind == "words" else list(map(plain, columns[j]))
                for j, kind in enumerate(kinds)
                if kind != "number" or j in apart
            },
            prediction=answers([r.prediction for r in rows]),
            scores=scores,
            segments=segments,
            latency_ms=None
            if latency.count(None) == len(rows)
            else np.array(latency, np.float64).astype(np.float32),
            sample_rate=None if rates.count(1.0) == len(rows) else np.array(rates, np.float32),
            failed=None if first.failed is None else [first.failed] * len(rows),
            prediction_interval=None
            if intervals.count(None) == len(rows)
            else np.array([_UNKNOWN if i is None else i for i in intervals], np.float64),
        )
        return value, []

    def _singles(self, rows: Iterable[Logged]) -> Iterable[Outgoing]:
        for row in rows:
            body = {k: v for k, v in row._asdict().items() if v is not None}
            body["served_at"] = np.datetime64(row.served_at, "us").item().isoformat() + "Z"
            try:
                body["prediction"] = answer(row.prediction)
                if row.features:
                    body["features"] = {k: json_value(v) for k, v in row.features.items()}
                if isinstance(row.scores, (list, tuple)):
                    body["scores"] = list(map(json_value, row.scores))
                if row.segment:
                    body["segment"] = named_texts("segment", row.segment)
                value = ENCODER.encode(body)
            except Exception as exc:  # values are the caller's: even their text may raise
                self.invalid(f"a row cannot be written as JSON: {exc}", 1)
                continue
            if len(value) > MAX_EVENT_BYTES:
                self.invalid(f"a row is larger than {MAX_EVENT_BYTES} bytes", 1)
                continue
            yield Outgoing(_TOPIC, row.model.encode(), value, self._headers(JSON), 1)

    def _headers(self, content_type: bytes) -> list[tuple[str, bytes]]:
        return headers_of(
            PredictionMade, source=self.source, event_id=uuid.uuid4().hex, content_type=content_type
        )


_TOPIC = TOPICS[PredictionMade]
_UNKNOWN = (np.nan, np.nan)


def _fault(row: Logged) -> str | None:
    """Why nobody could read this row."""
    if not isinstance(row.model, str) or not isinstance(row.version, str):
        return "the name or the version of the model is missing or no string"
    if not isinstance(row.id, str) or not 0 < len(row.id) <= _MAX_ID or "\0" in row.id:
        return f"id {str(row.id)[:80]!r}: 1 to {_MAX_ID} characters without NUL"
    if not row.id.isascii() and any("\ud800" <= c <= "\udfff" for c in row.id):
        return "id contains half a character (a lone surrogate)"
    if (prediction := row.prediction) is None:
        return "prediction is missing"
    if type(prediction) is str and len(prediction) > TEXT_CHARACTERS:
        return f"prediction {prediction[:40]!r}... has more than {TEXT_CHARACTERS} characters"
    if type(prediction) is not str and (fault := unanswered(prediction)) is not None:
        return f"prediction {fault}"
    if not isinstance(row.sample_rate, (int, float, np.number)):
        return f"sample_rate is a {type(row.sample_rate).__name__}"
    if row.latency_ms is not None and not isinstance(row.latency_ms, (int, float, np.number)):
        return f"latency_ms is a {type(row.latency_ms).__name__}"
    if row.failed is not None and row.failed not in FAILURES:
        return f"failed is {str(row.failed)[:80]!r}: {' or '.join(FAILURES)}, or None"
    if row.prediction_interval is not None:
        return _interval_fault(row.prediction_interval)
    return None


def _interval_fault(ends: tuple[Any, ...]) -> str | None:
    if len(ends) != 2 or not are_numbers(ends) or None in ends:
        return "prediction_interval: two numbers, the lower end first"
    try:
        low, high = map(float, ends)
    except OverflowError:
        return "prediction_interval: a whole number that no float holds"
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        return f"prediction_interval is {low:g} to {high:g}: finite, the lower end first"
    return None


def _group_fault(row: Logged) -> str | None:
    """Why nobody could read rows of this kind."""
    try:
        checked_names(row.model, row.version)
    except WireError as exc:
        return str(exc)
    if row.features is not None and not all(isinstance(name, str) for name in row.features):
        return "a feature's name is no string"
    return None


def warm_up() -> None:
    """Encode what a service may log, and forget it.

    numpy and pyarrow import parts of themselves when they are first used. In a thread that would be
    a trap: a process that is forked meanwhile waits for that thread's lock for ever.
    """
    batcher = Batcher("/", lambda why, rows: None)
    for number in range(MIN_BATCH_ROWS):
        features = {"number": 0.5, "words": "x"}
        for prediction, scores in (("x", [0.5]), (0.5, None)):
            batcher.add(
                Logged(
                    "m", "v", f"{number}", 0, prediction, scores, features, {"s": "x"}, 1.0, 1.0
                ),
                0.0,
            )  # fmt: skip
    batcher.drain()

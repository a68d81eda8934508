"""Arrow batches of predictions -> blocks. The layout is described in ``arrow_encode``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from redistill.rowvalues import float32, is_number, is_single, numbers, texts
from redistill.streams.errors import WireError
from redistill.streams.wire.arrow_columns import (
    MAX_ID_CHARACTERS,
    bad_ids,
    bad_predictions,
    bad_times,
    codes_of,
    exact,
    floats,
    is_text,
    is_words,
    lists,
    pairs,
)
from redistill.streams.wire.arrow_encode import FORMAT, TIME
from redistill.streams.wire.block import (
    MAX_CELLS,
    Codes,
    Feature,
    PredictionBlock,
    Schema,
    bare,
)
from redistill.streams.wire.columns import (
    MAX_SEGMENTS,
    MAX_TEXT,
    MAX_UNKNOWN,
    Category,
    class_codes,
    clean,
    count,
    finite,
    intervals,
    of_both_classes,
    printable,
    rates,
    storable,
)
from redistill.streams.wire.envelope import checked_names
from redistill.streams.wire.failures import failure_codes, failure_of, without_answers
from redistill.streams.wire.ids import Ids
from redistill.textform import category_text

__all__ = ["decode_batches", "numeric_names"]

MAX_FEATURES = 10_000
_REMEMBERED_TEXT = 65_536
"""Lists of names up to this size are remembered."""
_TO_MICROSECONDS = pc.CastOptions(TIME, allow_time_truncate=True)
_DAMAGED = (pa.ArrowException, ValueError, TypeError, LookupError, OverflowError)
"""What pyarrow raises where a stream is damaged in a way that its checks let through."""


def decode_batches(
    batches: Sequence[Any], schema_of: Callable[[str], Schema | None]
) -> PredictionBlock:
    """Make a block of batches that have one Arrow schema, and so one model version.

    Rows without an id, a time or a prediction are left out and counted in ``invalid``; a feature of
    another type than the schema's is missing in all rows and counted in ``wrong_type``.

    Parameters
    ----------
    batches
        As ``open_batch`` gives them.
    schema_of
        Schema of a model; ``None`` if nobody registered it: then its rows are told apart and
        counted, and nothing else of them is read.

    Raises
    ------
    WireError
        They cannot be read, or none of their rows can.
    """
    try:
        whole = batches[0] if len(batches) == 1 else pa.concat_batches(batches)
        return _decode(whole, schema_of)
    except _DAMAGED as exc:
        why = f"damaged Arrow stream: {type(exc).__name__}: {str(exc)[:200]}"
        raise WireError("malformed", why) from None


def _decode(batch: Any, schema_of: Callable[[str], Schema | None]) -> PredictionBlock:
    metadata = {k: v.decode("utf-8", "replace") for k, v in (batch.schema.metadata or {}).items()}
    if (given := metadata.get(b"redistill.format", FORMAT)) != FORMAT:
        raise WireError("unknown_version", f"batch format {given[:20]!r}; {FORMAT} is read")
    model, version = (metadata.get(key) for key in (b"redistill.model", b"redistill.version"))
    if not model or not version:
        raise WireError(
            "missing_field",
            "the metadata of the Arrow schema lack redistill.model or redistill.version: they name"
            " the model and its version",
        )
    checked_names(model, version)
    names = numeric_names(metadata.get(b"redistill.features", "[]"))
    invalid: dict[str, int] = {}
    batch, ids, served_at = _usable(batch, invalid)
    if not len(ids):
        raise WireError("invalid_field", f"a batch without a usable row (left out: {invalid})")
    if (schema := schema_of(model)) is None:
        return bare(model, version, ids, served_at, _prediction(batch.column("prediction"), ()))
    if (cells := len(ids) * len(schema.features)) > MAX_CELLS:
        raise WireError(
            "oversized",
            f"{len(ids)} rows of {len(schema.features)} features are {cells} values; at most"
            f" {MAX_CELLS} of one batch are read: log fewer rows at once",
        )
    columns = _Features(schema)
    columns.read_numbers(names, lists(batch, "features", len(names)))
    for column in batch.schema.names:
        if column.startswith("feature."):
            columns.read_column(column.removeprefix("feature."), batch.column(column))
    latency, rate = (floats(batch, name, invalid) for name in ("latency_ms", "sample_rate"))
    prediction = _prediction(batch.column("prediction"), schema.classes)
    scores = _scores(batch, len(schema.classes), invalid)
    if (failed := _failed(batch, invalid)) is not None:
        prediction, scores = without_answers(prediction, scores, failed)
    interval = pairs(batch, "prediction_interval", invalid)
    return PredictionBlock(
        model=model,
        version=version,
        ids=ids,
        served_at=served_at,
        feature_names=schema.names,
        features=columns.out,
        prediction=prediction,
        scores=scores,
        segments=_segments(batch, schema.divisions, invalid),
        latency_ms=None if latency is None else finite(latency, "latency_ms", invalid),
        sample_rate=None if rate is None else rates(rate, invalid),
        failed=failed,
        prediction_interval=None if interval is None else intervals(interval, invalid),
        wrong_type=columns.wrong,
        invalid=invalid,
        unseen=columns.unseen,
        unknown_features=columns.unknown,
    )


class _Features:
    """The feature columns of a batch on their way into the schema's order."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.at = {f.name: (j, f) for j, f in enumerate(schema.features)}
        self.out = np.empty((0, 0), np.float32)  # (n, F), made by read_numbers
        self.wrong: dict[str, int] = {}
        self.unseen: dict[str, dict[str, int]] = {}
        self.unknown: dict[str, int] = {}
        self.met: set[str] = set()

    def read_numbers(self, names: Sequence[str], values: NDArray[np.float32]) -> None:
        """The numeric features, ``(n, len(names)) float32``."""
        if tuple(names) == self.schema.names and self.numeric(names):
            self.met.update(names)
            self.out = values
            if np.isinf(values).any():
                self.out = values.copy()
                clean(self.out, names, self.wrong)
            return
        self.out = np.full((len(values), len(self.at)), np.nan, np.float32)
        for i, name in enumerate(names):
            if (position := self._position(name, len(values))) is None:
                continue
            j, feature = position
            self.out[:, j] = values[:, i]
            if feature.kind == "category":
                self.out[:, j] = self._coded(Category(feature), *_number_codes(values[:, i]))
        known = [f.name for f in self.schema.features]
        clean(self.out, known, self.wrong)

    def numeric(self, names: Sequence[str]) -> bool:
        """Whether all are numeric in the schema."""
        return all(self.at[name][1].kind != "category" for name in names)

    def read_column(self, name: str, column: Any) -> None:
        """A feature with a column of its own: words, booleans, numbers that float32 cannot hold."""
        if name in self.met:
            raise WireError("invalid_field", f"feature {name[:80]!r} occurs twice")
        if (position := self._position(name, len(column))) is None:
            return
        j, feature = position
        if feature.kind != "category" and is_number(column.type):
            self.out[:, j], infinite = float32(numbers(column)[0])
            if infinite is not None:
                count(self.wrong, name, int(infinite.sum()))
            return
        if feature.kind != "category" or not is_single(column.type):
            if there := len(column) - column.null_count:
                count(self.wrong, name, there)
            return
        if pa.types.is_floating(column.type):
            found = _number_codes(np.asarray(column.to_numpy(zero_copy_only=False)))
        else:
            codes, values = codes_of(column, f"feature.{name}")
            found = [*values, None], codes
        self.out[:, j] = self._coded(Category(feature), *found)

    def _position(self, name: str, rows: int) -> tuple[int, Feature] | None:
        self.met.add(name)
        if (position := self.at.get(name)) is None and len(self.unknown) < MAX_UNKNOWN:
            count(self.unknown, printable(name), rows)
        return position

    def _coded(
        self, category: Category, values: Sequence[str | None], codes: NDArray[Any]
    ) -> NDArray[np.float64]:
        """Values by code -> indices by row; only values that occur are judged, all of them once."""
        rows = np.bincount(codes, minlength=len(values)) if codes.min(initial=0) >= 0 else None
        if rows is None:
            codes = np.where(codes < 0, len(values) - 1, codes)
            rows = np.bincount(codes, minlength=len(values))
        table = np.full(len(values), np.nan)
        for i in np.flatnonzero(rows).tolist():
            table[i] = category.encode_many(values[i], int(rows[i]), self.unseen)
        coded: NDArray[np.float64] = table[codes]
        return coded


def _number_codes(values: NDArray[Any]) -> tuple[list[str | None], NDArray[np.int64]]:
    """Numbers of a category as texts and codes."""
    distinct, where = np.unique(values, return_inverse=True)
    return list(map(category_text, distinct)), where.astype(np.int64)


def numeric_names(text: str) -> tuple[str, ...]:
    """Names of the numeric features, from the metadata of a batch."""
    return (_read_names if len(text) <= _REMEMBERED_TEXT else _read_names.__wrapped__)(text)


@lru_cache(maxsize=256)
def _read_names(text: str) -> tuple[str, ...]:
    try:
        names = msgspec.json.decode(text, type=list[str])
    except (msgspec.MsgspecError, UnicodeError) as exc:
        raise WireError("invalid_field", f"metadata redistill.features: {exc}") from None
    if len(names) > MAX_FEATURES or len(set(names)) != len(names):
        raise WireError(
            "invalid_field", f"redistill.features: {len(names)} names; distinct, ≤ {MAX_FEATURES}"
        )
    return tuple(names)


def _usable(batch: Any, invalid: dict[str, int]) -> tuple[Any, Ids, NDArray[np.int64]]:
    """Rows that have an id, a time and a prediction."""
    for name, good in _NEEDED.items():
        if (at := batch.schema.get_field_index(name)) < 0:
            raise WireError("missing_field", f"column {name} is missing")
        if good(kind := batch.schema.field(at).type):
            continue
        if name == "served_at":
            raise WireError(
                "invalid_field", f"column {name} is of type {kind}; a timestamp with a zone is read"
            )
        if not is_single(kind):
            raise WireError("invalid_field", f"column {name} is of type {kind}")
        if name == "prediction" and (found := exact(batch.column(at))) is not None:
            batch = batch.set_column(at, name, found)
            continue
        words = texts(batch.column(at)).mapped(partial(_short, _LONGEST[name]))
        batch = batch.set_column(at, name, pa.array(words.strings(), pa.string()))
    bad = {
        "id": bad_ids(batch.column("id")),
        "served_at": bad_times(batch.column("served_at")),
        "prediction": bad_predictions(batch.column("prediction")),
    }
    left_out = np.zeros(batch.num_rows, np.bool_)
    for name, mask in bad.items():
        if mask is not None and mask.any():
            count(invalid, name, int(mask.sum()))
            left_out |= mask
    if left_out.any():
        batch = batch.filter(pa.array(~left_out))
    moments = batch.column("served_at")
    if moments.type != TIME:
        try:
            moments = moments.cast(options=_TO_MICROSECONDS)
        except pa.ArrowInvalid as exc:
            raise WireError("invalid_field", f"column served_at: {exc}") from None
    return batch, _ids(batch.column("id")), moments.view(pa.int64()).to_numpy()


_LONGEST = {"id": MAX_ID_CHARACTERS, "prediction": MAX_TEXT}


def _short(most: int, text: str) -> str | None:
    """A text before it is written out, perhaps thousands of times."""
    return text if len(text) <= most else None


def _ids(column: Any) -> Ids:
    """A column of texts without a null, as it lies in the batch."""
    kind = np.int64 if pa.types.is_large_string(column.type) else np.int32
    _, offsets, data = column.buffers()
    if offsets is None or data is None or not len(column):
        return Ids.of([])
    ends = np.frombuffer(offsets, kind)[column.offset : column.offset + len(column) + 1]
    return Ids(np.frombuffer(data, np.uint8), ends.astype(np.int64))


_NEEDED: dict[str, Callable[[Any], bool]] = {
    "id": is_text,
    "served_at": lambda kind: pa.types.is_timestamp(kind) and kind.tz is not None,
    "prediction": lambda kind: is_words(kind) or pa.types.is_floating(kind),
}


def _prediction(column: Any, classes: tuple[str, ...]) -> Codes | NDArray[np.float64]:
    if not is_words(column.type):
        given = np.asarray(column.to_numpy(zero_copy_only=False))
        if given.dtype != np.float64:  # .1 is .1, whatever held it
            given = np.array([float(str(v)) for v in given])
        return class_codes(given.tolist(), classes) if classes else given
    codes, values = codes_of(column, "prediction")
    used = np.unique(codes).tolist()
    table = np.zeros(len(values), np.int32)
    coded = class_codes([values[c] for c in used], classes)
    table[used] = coded.codes
    return Codes(table[codes], coded.values)


def _scores(batch: Any, width: int, invalid: dict[str, int]) -> NDArray[np.float32] | None:
    at = batch.schema.get_field_index("scores")
    if at < 0 or batch.schema.field(at).type == pa.null():
        return None
    try:
        values = lists(batch, "scores", -1)
    except WireError:
        count(invalid, "scores", batch.num_rows - batch.column(at).null_count)
        return None
    if width == 2 and values.shape[1] == 1:
        return finite(of_both_classes(values, invalid), "scores", invalid)
    if width and values.shape[1] != width:
        count(invalid, "scores", len(values))
        return None
    return finite(values, "scores", invalid)


def _failed(batch: Any, invalid: dict[str, int]) -> Codes | None:
    if (at := batch.schema.get_field_index("failed")) < 0:
        return None
    column = batch.column(at)
    if column.null_count == len(column):
        return None
    if is_single(column.type):
        codes, values = codes_of(column, "failed")
        found = list(map(failure_of, values))
    else:
        codes, found = np.where(column.is_valid(), 0, -1), [failure_of(...)]
    found.append((None, True))  # code -1 = not given = the last one
    rows = [found[code] for code in codes.tolist()]
    if wrong := sum(not good for _, good in rows):
        count(invalid, "failed", wrong)
    return failure_codes([failure for failure, _ in rows])


def _segments(batch: Any, slices: tuple[str, ...], invalid: dict[str, int]) -> dict[str, Codes]:
    have = {n.removeprefix("segment.") for n in batch.schema.names if n.startswith("segment.")}
    for key in [k for k in have if len(k) > MAX_TEXT]:
        have.remove(key)
        count(invalid, "segment", batch.num_rows)
    keys = [k for k in slices if k in have] if slices else sorted(have)[:MAX_SEGMENTS]
    out = {}
    for key in keys:
        column = batch.column(f"segment.{key}")
        if not is_single(column.type):
            if there := len(column) - column.null_count:
                count(invalid, "segment", there)
            continue
        codes, values = codes_of(column, f"segment.{key}")
        if too_long := [i for i, value in enumerate(values) if len(value) > MAX_TEXT]:
            hit = np.isin(codes, too_long)
            if hit.any():
                count(invalid, "segment", int(hit.sum()))
                codes = np.where(hit, -1, codes)
            values = ["" if len(v) > MAX_TEXT else v for v in values]
        if (codes >= 0).any():
            out[key] = Codes(codes.astype(np.int32), tuple(map(storable, values)))
    return out

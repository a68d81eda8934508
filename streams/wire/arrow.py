"""Arrow batches of predictions -> blocks. The layout is described in ``arrow_encode``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from redistill.rowvalues import float32, is_number, is_single, numbers, texts
from redistill.streams.errors import WireError
from redistill.streams.wire.arrow_encode import FORMAT, TIME
from redistill.streams.wire.block import Codes, Feature, PredictionBlock, Schema
from redistill.streams.wire.columns import (
    MAX_SEGMENTS,
    MAX_UNKNOWN,
    MAX_VALUES,
    Category,
    class_codes,
    clean,
    count,
    finite,
    of_both_classes,
    printable,
    rates,
)
from redistill.streams.wire.envelope import checked_names
from redistill.streams.wire.ids import Ids
from redistill.textform import category_text

__all__ = ["decode_batches"]

MAX_FEATURES = 10_000
_MAX_ID_CHARACTERS = 200
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
        Schema of a model; ``None`` if nobody registered it: then it is inferred from the batches.

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
    model, version = checked_names(
        metadata.get(b"redistill.model"), metadata.get(b"redistill.version")
    )
    names = _names(metadata.get(b"redistill.features", "[]"))
    invalid: dict[str, int] = {}
    batch, ids, served_at = _usable(batch, invalid)
    if not len(ids):
        raise WireError("invalid_field", f"a batch without a usable row (left out: {invalid})")
    schema = schema_of(model) or _infer(batch, names)
    columns = _Features(schema)
    columns.read_numbers(names, _list_column(batch, "features", len(names)))
    for column in batch.schema.names:
        if column.startswith("feature."):
            columns.read_column(column.removeprefix("feature."), batch.column(column))
    latency, rate = (_float_column(batch, name) for name in ("latency_ms", "sample_rate"))
    return PredictionBlock(
        model=model,
        version=version,
        ids=ids,
        served_at=served_at,
        feature_names=schema.names,
        features=columns.out,
        prediction=_prediction(batch.column("prediction"), schema.classes),
        scores=_scores(batch, len(schema.classes), invalid),
        segments=_segments(batch, schema.slices),
        latency_ms=None if latency is None else finite(latency, "latency_ms", invalid),
        sample_rate=None if rate is None else rates(rate, invalid),
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
            codes, values = _codes(column, f"feature.{name}")
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


@lru_cache(maxsize=256)
def _names(text: str) -> tuple[str, ...]:
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
        if name == "served_at" or not is_single(kind):
            raise WireError("invalid_field", f"column {name} is of type {kind}")
        words = pa.array(texts(batch.column(at)).strings(), pa.string())
        batch = batch.set_column(at, name, words)
    bad = {
        "id": _bad_ids(batch.column("id")),
        "served_at": _bad_times(batch.column("served_at")),
        "prediction": _bad_predictions(batch.column("prediction")),
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


def _ids(column: Any) -> Ids:
    """A column of texts without a null, as it lies in the batch."""
    kind = np.int64 if pa.types.is_large_string(column.type) else np.int32
    _, offsets, data = column.buffers()
    if offsets is None or data is None or not len(column):
        return Ids.of([])
    ends = np.frombuffer(offsets, kind)[column.offset : column.offset + len(column) + 1]
    return Ids(np.frombuffer(data, np.uint8), ends.astype(np.int64))


def _bad_ids(column: Any) -> NDArray[np.bool_] | None:
    """Rows whose id is missing, empty, too long or contains NUL; ``None``: none."""
    kind = np.int64 if pa.types.is_large_string(column.type) else np.int32
    _, offsets, data = column.buffers()
    if offsets is None or not len(column):
        return None
    ends = np.frombuffer(offsets, kind)[column.offset : column.offset + len(column) + 1]
    sizes = np.diff(ends)
    nul = data is not None and b"\0" in bytes(data)
    if not column.null_count and not nul and sizes.min() >= 1 and sizes.max() <= _MAX_ID_CHARACTERS:
        return None  # no more bytes than characters are allowed
    lengths = pc.utf8_length(column)
    wrong = pc.or_kleene(pc.less(lengths, 1), pc.greater(lengths, _MAX_ID_CHARACTERS))
    return _mask(wrong) | _mask(pc.match_substring(column, "\0"))


def _bad_times(column: Any) -> NDArray[np.bool_] | None:
    return _mask(pc.is_null(column)) if column.null_count else None


def _bad_predictions(column: Any) -> NDArray[np.bool_] | None:
    if not _is_words(column.type):
        return ~np.isfinite(column.to_numpy(zero_copy_only=False))  # type: ignore[no-any-return]
    if pa.types.is_dictionary(column.type) and column.dictionary.null_count:
        column = column.dictionary_decode()
    return _mask(pc.is_null(column)) if column.null_count else None


def _is_text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_words(kind: Any) -> bool:
    return _is_text(kind.value_type if pa.types.is_dictionary(kind) else kind)


_NEEDED: dict[str, Callable[[Any], bool]] = {
    "id": _is_text,
    "served_at": lambda kind: pa.types.is_timestamp(kind) and kind.tz is not None,
    "prediction": lambda kind: _is_words(kind) or pa.types.is_floating(kind),
}


def _mask(column: Any) -> NDArray[np.bool_]:
    """A boolean column; null counts as true."""
    return pc.fill_null(column, True).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def _codes(column: Any, name: str) -> tuple[NDArray[np.int64], list[str]]:
    """A column as codes (-1 = missing, or without a text) and values."""
    if not is_single(column.type):
        raise WireError("invalid_field", f"column {name[:80]} is of type {column.type}")
    if not _is_words(column.type):
        found = texts(column)
        return found.codes.astype(np.int64), list(found.values)
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    values = column.dictionary.to_pylist()
    indices = column.indices
    if indices.null_count:
        indices = pc.fill_null(indices.cast(pa.int64()), -1)
    codes: NDArray[np.int64] = indices.to_numpy().astype(np.int64)
    if None in values:
        missing = np.array([v is None for v in values])
        codes = np.where((codes >= 0) & missing[codes], -1, codes)
    return codes, ["" if v is None else v for v in values]


def _list_column(batch: Any, name: str, width: int) -> NDArray[np.float32]:
    """A FixedSizeList<float32>[width] column as ``(n, width)``, null as NaN."""
    n = batch.num_rows
    at = batch.schema.get_field_index(name)
    if at < 0:
        if width:
            raise WireError("missing_field", f"column {name} is missing")
        return np.empty((n, 0), np.float32)
    column = batch.column(at)
    kind = column.type
    if not pa.types.is_fixed_size_list(kind) or kind.value_type != pa.float32():
        raise WireError("invalid_field", f"column {name} is of type {kind}")
    if width not in (kind.list_size, -1):
        raise WireError("invalid_field", f"{width} names, but {name} is of type {kind}")
    width = kind.list_size
    child = column.values.slice(column.offset * width, n * width)
    out = child.to_numpy(zero_copy_only=False).reshape(n, width)
    if column.null_count:
        out = np.where(_mask(pc.is_null(column))[:, None], np.float32(np.nan), out)
    return out  # type: ignore[no-any-return]


def _float_column(batch: Any, name: str) -> NDArray[Any] | None:
    """A float column with NaN for null; ``None`` if it is not there."""
    if (at := batch.schema.get_field_index(name)) < 0:
        return None
    column = batch.column(at)
    if not pa.types.is_floating(column.type):
        raise WireError("invalid_field", f"column {name} is of type {column.type}")
    out: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return out


def _prediction(column: Any, classes: tuple[str, ...]) -> Codes | NDArray[np.float64]:
    if not _is_words(column.type):
        given = np.asarray(column.to_numpy(zero_copy_only=False))
        if given.dtype != np.float64:  # .1 is .1, whatever held it
            given = np.array([float(str(v)) for v in given])
        return class_codes(given.tolist(), classes) if classes else given
    codes, values = _codes(column, "prediction")
    used = np.unique(codes).tolist()
    table = np.zeros(len(values), np.int32)
    coded = class_codes([values[c] for c in used], classes)
    table[used] = coded.codes
    return Codes(table[codes], coded.values)


def _scores(batch: Any, width: int, invalid: dict[str, int]) -> NDArray[np.float32] | None:
    if batch.schema.get_field_index("scores") < 0:
        return None
    values = _list_column(batch, "scores", -1)
    if width == 2 and values.shape[1] == 1:
        return finite(of_both_classes(values, invalid), "scores", invalid)
    if width and values.shape[1] != width:
        count(invalid, "scores", len(values))
        return None
    return finite(values, "scores", invalid)


def _segments(batch: Any, slices: tuple[str, ...]) -> dict[str, Codes]:
    have = {n.removeprefix("segment.") for n in batch.schema.names if n.startswith("segment.")}
    keys = [k for k in slices if k in have] if slices else sorted(have)[:MAX_SEGMENTS]
    out = {}
    for key in keys:
        codes, values = _codes(batch.column(f"segment.{key}"), f"segment.{key}")
        if (codes >= 0).any():
            out[key] = Codes(codes.astype(np.int32), tuple(map(printable, values)))
    return out


def _infer(batch: Any, names: Sequence[str]) -> Schema:
    """As ``infer_schema`` would from the same rows."""
    features = [Feature(name=name) for name in names]
    for column in batch.schema.names:
        if column.startswith("feature."):
            name = column.removeprefix("feature.")
            kind = batch.column(column).type
            if is_number(kind) or not is_single(kind):
                features.append(Feature(name=name))
                continue
            codes, values = _codes(batch.column(column), column)
            _, first = np.unique(codes[codes >= 0], return_index=True)
            order = codes[codes >= 0][np.sort(first)].tolist()[:MAX_VALUES]
            kept = tuple(sorted(values[c] for c in order))
            features.append(
                Feature(name=name, kind="category", values=kept) if kept else Feature(name=name)
            )
    return Schema(features=tuple(sorted(features, key=lambda f: f.name)))

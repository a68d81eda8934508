"""Columns of an Arrow batch as arrays and words, each of the type that the layout gives it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from redistill.rowvalues import is_number, is_single, numbers, plain, texts
from redistill.streams.errors import WireError
from redistill.streams.wire.columns import MAX_TEXT, count
from redistill.textform import EXACT

__all__ = [
    "MAX_ID_CHARACTERS",
    "bad_ids",
    "bad_predictions",
    "bad_times",
    "codes_of",
    "exact",
    "floats",
    "is_text",
    "is_words",
    "lists",
    "pairs",
]

MAX_ID_CHARACTERS = 200


def is_text(kind: Any) -> bool:
    """Whether a type is one of texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_words(kind: Any) -> bool:
    """Whether a type is one of texts, or of numbers of texts in a dictionary."""
    return is_text(kind.value_type if pa.types.is_dictionary(kind) else kind)


def _is_true(column: Any) -> NDArray[np.bool_]:
    """A boolean column; null counts as true."""
    return pc.fill_null(column, True).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


def codes_of(column: Any, name: str) -> tuple[NDArray[np.int64], list[str]]:
    """A column as codes (-1 = missing, or without a text) and values."""
    if not is_single(column.type):
        raise WireError("invalid_field", f"column {name[:80]} is of type {column.type}")
    if not is_words(column.type):
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


def lists(batch: Any, name: str, width: int) -> NDArray[np.float32]:
    """A FixedSizeList<float32>[width] column as ``(n, width)``, null as NaN; so are lists of
    other numbers, if all are of one length."""
    n = batch.num_rows
    at = batch.schema.get_field_index(name)
    if at < 0:
        if width:
            raise WireError("missing_field", f"column {name} is missing")
        return np.empty((n, 0), np.float32)
    column = batch.column(at)
    if column.type == pa.null():  # what pandas and polars write where nothing is known
        return np.full((n, max(width, 0)), np.nan, np.float32)
    if not pa.types.is_fixed_size_list(column.type) or column.type.value_type != pa.float32():
        column = _of_one_length(column, name, width, pa.float32())
    kind = column.type
    if width not in (kind.list_size, -1):
        raise WireError("invalid_field", f"{width} names, but {name} is of type {kind}")
    width = kind.list_size
    child = column.values.slice(column.offset * width, n * width)
    out = child.to_numpy(zero_copy_only=False).reshape(n, width)
    if column.null_count:
        out = np.where(_is_true(pc.is_null(column))[:, None], np.float32(np.nan), out)
    return out  # type: ignore[no-any-return]


def pairs(batch: Any, name: str, invalid: dict[str, int]) -> NDArray[np.float64] | None:
    """A column of pairs of numbers as ``(n, 2) float64``, null as NaN; ``None`` if it is not there,
    or holds something else: that is counted in ``invalid``."""
    if (at := batch.schema.get_field_index(name)) < 0:
        return None
    column = batch.column(at)
    if column.null_count == len(column):
        return None
    try:
        column = _of_one_length(column, name, 2, pa.float64())
    except WireError:
        count(invalid, name, len(column) - column.null_count)
        return None
    if column.type.list_size != 2:
        count(invalid, name, len(column) - column.null_count)
        return None
    child = column.values.slice(2 * column.offset, 2 * len(column))
    out: NDArray[np.float64] = child.to_numpy(zero_copy_only=False).reshape(-1, 2)
    if column.null_count:
        out = np.where(_is_true(pc.is_null(column))[:, None], np.nan, out)
    return out


def _of_one_length(column: Any, name: str, width: int, of: Any) -> Any:
    """Lists of numbers as FixedSizeList<of>."""
    if isinstance(column.type, pa.BaseExtensionType):  # a tensor
        column = column.storage
    kind, t = column.type, pa.types
    is_list = t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind)
    if not is_list or not is_number(kind.value_type):
        layout = f"fixed_size_list<float>[{'n' if width < 0 else width}]"
        raise WireError(
            "invalid_field", f"column {name} is of type {kind}; lists of numbers are read: {layout}"
        )
    sizes = pc.unique(pc.list_value_length(column)).drop_null().to_pylist()
    if len(sizes) > 1:
        raise WireError(
            "invalid_field", f"column {name} has lists of {min(sizes)} and of {max(sizes)} numbers"
        )
    size = sizes[0] if sizes else max(width, 0)
    return column.cast(pa.list_(of, size), safe=False)


def floats(batch: Any, name: str, invalid: dict[str, int]) -> NDArray[Any] | None:
    """A column of numbers with NaN for null; ``None`` if it is not there, or holds something else:
    that is counted in ``invalid``."""
    if (at := batch.schema.get_field_index(name)) < 0:
        return None
    column = batch.column(at)
    if pa.types.is_floating(column.type):
        out: NDArray[Any] = column.to_numpy(zero_copy_only=False)
        return out
    if is_number(column.type) and not pa.types.is_boolean(column.type):
        return numbers(column)[0]
    if there := len(column) - column.null_count:
        count(invalid, name, there)
    return None


def bad_ids(column: Any) -> NDArray[np.bool_] | None:
    """Rows whose id is missing, empty, too long or contains NUL; ``None``: none."""
    kind = np.int64 if pa.types.is_large_string(column.type) else np.int32
    _, offsets, data = column.buffers()
    if offsets is None or not len(column):
        return None
    ends = np.frombuffer(offsets, kind)[column.offset : column.offset + len(column) + 1]
    sizes = np.diff(ends)
    nul = data is not None and b"\0" in bytes(data)
    if not column.null_count and not nul and sizes.min() >= 1 and sizes.max() <= MAX_ID_CHARACTERS:
        return None  # no more bytes than characters are allowed
    lengths = pc.utf8_length(column)
    wrong = pc.or_kleene(pc.less(lengths, 1), pc.greater(lengths, MAX_ID_CHARACTERS))
    return _is_true(wrong) | _is_true(pc.match_substring(column, "\0"))


def bad_times(column: Any) -> NDArray[np.bool_] | None:
    """Rows without a time; ``None``: none."""
    return _is_true(pc.is_null(column)) if column.null_count else None


def bad_predictions(column: Any) -> NDArray[np.bool_] | None:
    """Rows without a prediction, or with one that is too long. A word may stand in many rows: it
    is judged once, and never written out."""
    if not is_words(column.type):
        return ~np.isfinite(column.to_numpy(zero_copy_only=False))  # type: ignore[no-any-return]
    if not pa.types.is_dictionary(column.type):
        return _bad_words(column)
    bad = _bad_words(column.dictionary)
    missing = _is_true(pc.is_null(column.indices)) if column.null_count else None
    if bad is None:
        return missing
    of_row: NDArray[np.bool_] = bad[pc.fill_null(column.indices, 0).to_numpy()]
    return of_row if missing is None else of_row | missing


def _bad_words(column: Any) -> NDArray[np.bool_] | None:
    """Texts that are missing or too long; ``None``: none."""
    if not column.null_count:
        data = column.buffers()[2]
        if data is None or data.size <= MAX_TEXT or not len(column):
            return None
        kind = np.int64 if pa.types.is_large_string(column.type) else np.int32
        ends = np.frombuffer(column.buffers()[1], kind)[column.offset :][: len(column) + 1]
        if np.diff(ends).max() <= MAX_TEXT:  # bytes, so no more characters either
            return None
    return _is_true(pc.greater(pc.utf8_length(column), MAX_TEXT))


def exact(column: Any) -> Any | None:
    """Whole and decimal numbers as floats, as JSON has them, if those hold them."""
    if not is_number(column.type) or pa.types.is_boolean(plain(column).type):
        return None
    values = numbers(column)[0]
    return pa.array(values) if np.nanmax(np.abs(values), initial=0) < EXACT[8] else None

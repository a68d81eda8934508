"""Columns of an Arrow batch as arrays and words, each of the type that the layout gives it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from redistill.rowvalues import is_single, texts
from redistill.streams.errors import WireError

__all__ = ["codes_of", "floats", "is_text", "is_true", "is_words", "lists"]


def is_text(kind: Any) -> bool:
    """Whether a type is one of texts."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_words(kind: Any) -> bool:
    """Whether a type is one of texts, or of numbers of texts in a dictionary."""
    return is_text(kind.value_type if pa.types.is_dictionary(kind) else kind)


def is_true(column: Any) -> NDArray[np.bool_]:
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
        out = np.where(is_true(pc.is_null(column))[:, None], np.float32(np.nan), out)
    return out  # type: ignore[no-any-return]


def floats(batch: Any, name: str) -> NDArray[Any] | None:
    """A float column with NaN for null; ``None`` if it is not there."""
    if (at := batch.schema.get_field_index(name)) < 0:
        return None
    column = batch.column(at)
    if not pa.types.is_floating(column.type):
        raise WireError("invalid_field", f"column {name} is of type {column.type}")
    out: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return out

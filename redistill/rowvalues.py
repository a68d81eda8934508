"""Values of a column as texts and numbers, by one set of rules whatever type a file gave them.

- A *text* names a value, by the rules of ``textform``; what could name two values is refused.
- A *number* is what float64 makes of it; texts are read, booleans are 1 and 0.

Missing are null, NaN, and an empty text where a number is wanted.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from redistill.rownames import Names, number_of
from redistill.textform import NoText, text_of

__all__ = [
    "Texts",
    "float32",
    "is_number",
    "is_single",
    "is_text",
    "is_time",
    "joined",
    "numbers",
    "plain",
    "positions",
    "texts",
]


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of this type holds numbers (bool counts)."""
    kind, t = _value_type(kind), pa.types
    return bool(
        t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind) or t.is_boolean(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds strings."""
    kind, t = _value_type(kind), pa.types
    return bool(t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind))


def is_time(kind: pa.DataType) -> bool:
    """Whether a column of this type holds moments or days."""
    kind = _value_type(kind)
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def is_single(kind: pa.DataType) -> bool:
    """Whether a column of this type has one value a row: lists and structures have no text."""
    return not pa.types.is_nested(_value_type(kind))


def _value_type(kind: pa.DataType) -> pa.DataType:
    while isinstance(kind, pa.BaseExtensionType) or pa.types.is_dictionary(kind):
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind.value_type
    return kind


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """A column of ``n`` texts."""

    codes: NDArray[np.int32]  # (n,) index into values; -1 = missing or refused
    values: tuple[str, ...]
    """Distinct ones that occur, in the order in which they first do."""
    refused: dict[int, str]
    """Row -> why its value has no text."""

    def strings(self) -> list[str | None]:
        """The column as Python strings, ``None`` where missing or refused."""
        return [self.values[c] if c >= 0 else None for c in self.codes.tolist()]

    def mapped(self, function: Callable[[str], str | None]) -> Texts:
        """Every value replaced; those that become equal are one, ``None`` is missing."""
        made = [function(v) for v in self.values]
        if made == list(self.values):
            return self
        distinct: dict[str, int] = {}
        table = [-1 if v is None else distinct.setdefault(v, len(distinct)) for v in made]
        codes = np.array([*table, -1], np.int32)[self.codes]
        return Texts(codes, tuple(distinct), self.refused)

    def index_in(self, names: Names) -> NDArray[np.int32]:
        """``(n,)`` index of the name that each stands for; -1 = none."""
        return np.array([*map(names.find, self.values), -1], np.int32)[self.codes]

    def wrong(self) -> NDArray[np.bool_] | None:
        """``(n,)`` where values were refused; ``None`` if none was."""
        if not self.refused:
            return None
        mask = np.zeros(len(self.codes), np.bool_)
        mask[list(self.refused)] = True
        return mask


def texts(array: pa.Array | pa.ChunkedArray) -> Texts:
    """A column of single values as texts.

    A dictionary is never decoded: one long text that stands in many rows is held once.
    """
    array = plain(array)
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    used = encoded.indices.unique().drop_null()  # a dictionary may hold more than occurs
    position = np.full(len(encoded.dictionary) + 1, -1, np.int32)
    distinct: dict[str, int] = {}
    reasons: dict[int, str] = {}
    for k, value in zip(
        used.to_pylist(), _python_values(encoded.dictionary.take(used)), strict=True
    ):
        try:
            text = text_of(value)
        except NoText as why:
            reasons[k] = str(why)
            continue
        if text is not None:
            position[k] = distinct.setdefault(text, len(distinct))
    rows = positions(encoded)
    refused = {
        int(row): why for k, why in reasons.items() for row in np.flatnonzero(rows == k).tolist()
    }
    return Texts(position[rows], tuple(distinct), refused)


def _python_values(array: pa.Array) -> list[Any]:
    """Values for ``text_of``; times are in UTC, floats below 64 bits keep their precision."""
    kind = array.type
    if pa.types.is_floating(kind) and kind.bit_width < 64:
        return list(array.to_numpy(zero_copy_only=False))
    if is_time(kind):
        unit = "M8[D]" if pa.types.is_date(kind) else "M8[us]"
        found = array.to_numpy(zero_copy_only=False).astype(unit).tolist()
        if pa.types.is_timestamp(kind) and kind.tz is not None:
            found = [x.replace(tzinfo=UTC) if isinstance(x, datetime) else x for x in found]
        return [x if isinstance(x, date) else None for x in found]  # numpy's years have no end
    if pa.types.is_time(kind) or pa.types.is_duration(kind):
        array = array.cast(
            pa.time64("us") if pa.types.is_time(kind) else pa.duration("us"), safe=False
        )
    return array.to_pylist()  # type: ignore[no-any-return]


def numbers(
    array: pa.Array | pa.ChunkedArray,
) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
    """A column as numbers, NaN where missing.

    Returns
    -------
    tuple
        ``(n,) float64``, and ``(n,)`` whether a value was there but is no number (its place is NaN,
        too); ``None`` where there is no such value.
    """
    array = plain(array)
    kind = array.type
    if pa.types.is_dictionary(kind):
        values, bad = numbers(array.dictionary)
        rows = positions(array)
        wrong = None if bad is None else np.append(bad, False)[rows]
        return np.append(values, np.nan)[rows], None if wrong is None or not wrong.any() else wrong
    if pa.types.is_boolean(kind):
        array = array.cast(pa.uint8())
    if is_number(kind) or pa.types.is_null(kind):
        cast = array.cast(pa.float64(), safe=False)
        return np.asarray(cast.to_numpy(zero_copy_only=False), np.float64), None
    if not is_text(kind):
        there = ~np.asarray(array.is_null().to_numpy(zero_copy_only=False))
        return np.full(len(array), np.nan), there if there.any() else None
    try:
        cast = array.cast(pa.float64())
        return np.asarray(cast.to_numpy(zero_copy_only=False), np.float64), None
    except pa.ArrowInvalid:
        pass
    encoded = array.dictionary_encode()
    read = [math.nan if x is None else number_of(x) for x in encoded.dictionary.to_pylist()]
    rows = positions(encoded)
    values = np.array([*(math.nan if x is None else x for x in read), math.nan], np.float64)[rows]
    wrong = np.array([*(x is None for x in read), False])[rows]
    return values, wrong if wrong.any() else None


def float32(
    values: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
    """Numbers as a model takes them: what is infinite or beyond float32 becomes NaN.

    Returns
    -------
    tuple
        ``(n,) float32``, and ``(n,)`` where that was so; ``None`` where it never was.
    """
    with np.errstate(over="ignore"):
        out = values.astype(np.float32)
    infinite = np.isinf(out)
    if not infinite.any():
        return out, None
    out[infinite] = np.nan
    return out, infinite


def joined(arrays: Sequence[pa.Array], *, as_numbers: bool) -> pa.Array:
    """Arrays of one column as one, where parts of a file may differ in its type.

    Parameters
    ----------
    as_numbers
        What arrays of different types become: numbers, else texts.
    """
    flat = [plain(a) for a in arrays]
    if len({str(a.type) for a in flat}) == 1:
        return plain(pa.chunked_array(flat))
    if as_numbers:
        return pa.array(np.concatenate([numbers(a)[0] for a in flat]), from_pandas=True)
    return pa.chunked_array(
        [pa.array(texts(a).strings(), pa.string()) for a in flat]
    ).combine_chunks()


def plain(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One array without extension types; a dictionary stays one."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # several chunks of a type that cannot be joined
        array = pa.concat_arrays(array.chunks)
    if isinstance(array.type, pa.BaseExtensionType):
        if array.type.extension_name == "arrow.uuid":
            ids = [
                None if x is None else str(uuid.UUID(bytes=x)) for x in array.storage.to_pylist()
            ]
            return pa.array(ids, pa.string())
        return plain(array.storage)
    if pa.types.is_string_view(array.type):  # little can be done with it yet
        return array.cast(pa.string())
    return array


def positions(encoded: pa.DictionaryArray) -> NDArray[np.int64]:
    """Rows of a dictionary array as positions in its values; missing is behind the last."""
    codes = encoded.indices.cast(pa.int64()).fill_null(len(encoded.dictionary))
    return np.asarray(codes.to_numpy(zero_copy_only=False), np.int64)

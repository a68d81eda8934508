"""Files as blocks: Parquet and CSV read in batches, columns of any type made into what the monitor
counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from redistill.streams.errors import FileError
from redistill.streams.wire.block import Codes, Feature

BATCH_ROWS = 8_000
"""Rows that are read at a time; what bounds the memory, together with the file's pages."""
MAX_VALUES = 1_000
"""Values of a category that are told apart; rarer ones count as one."""
LATEST = 1e11
"""Seconds since 1970 that are no time of ours (the year 5138) but milliseconds or finer."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file of rows, or a table in memory."""

    name: str
    schema: pa.Schema
    rows: int | None
    """``None`` where only reading tells (CSV)."""
    _path: Path | None = None
    _table: pa.Table | None = None

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows in order, exactly ``BATCH_ROWS`` at a time but for the last, with these columns
        only: what is made of a file must not depend on its row groups."""
        kept: list[pa.RecordBatch] = []
        rows = 0
        try:
            for batch in self._raw(list(columns)):
                kept.append(batch)
                rows += batch.num_rows
                while rows >= BATCH_ROWS:
                    table = pa.Table.from_batches(kept)
                    yield _one(table.slice(0, BATCH_ROWS))
                    rows -= BATCH_ROWS
                    kept = table.slice(BATCH_ROWS).to_batches()
            if rows:
                yield _one(pa.Table.from_batches(kept))
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise FileError(f"{self.name} cannot be read: {error}") from error

    def _raw(self, wanted: list[str]) -> Iterator[pa.RecordBatch]:
        """The rows as the file has them."""
        if self._table is not None:
            yield from self._table.select(wanted).to_batches(max_chunksize=BATCH_ROWS)
        elif self.rows is not None:
            with pq.ParquetFile(self._path) as file:
                yield from file.iter_batches(batch_size=BATCH_ROWS, columns=wanted)
        else:
            with _csv(self._path) as reader:
                for batch in reader:
                    yield _without_blanks(batch.select(wanted))

    def require(self, columns: Sequence[str], option: str, *, numbers: bool = False) -> None:
        """Check that columns are there, and hold values and not lists or structures of them; or
        numbers only.

        Raises
        ------
        FileError
            Naming the missing ones, those that are there, and the option to mend it with.
        """
        missing = [c for c in columns if c not in self.schema.names]
        if missing:
            there = ", ".join(self.schema.names[:40]) + (" ..." if len(self.schema) > 40 else "")
            raise FileError(
                f"{self.name} has no column {', '.join(map(repr, missing))} (option {option});"
                f" its columns are: {there or 'none'}"
            )
        for column in columns:
            if not has_text(kind := self.schema.field(column).type):
                raise FileError(
                    f"column {column!r} of {self.name} (option {option}) is {kind}: one value per row"
                    " was expected"
                )
            if numbers and not (is_number(kind) or pa.types.is_null(kind)):
                raise FileError(
                    f"column {column!r} of {self.name} (option {option}) is {kind}: numbers were"
                    " expected"
                )


def _one(table: pa.Table) -> pa.RecordBatch:
    return table.combine_chunks().to_batches()[0]


def _csv(path: Path | None) -> pa.csv.CSVStreamingReader:
    """A reader whose types hold for the whole file: they are guessed from its beginning, where
    numbers may be whole and a column may be empty."""
    with pa.csv.open_csv(path) as reader:
        guessed = reader.schema
    wider = {f.name: pa.float64() for f in guessed if pa.types.is_integer(f.type)}
    wider |= {f.name: pa.string() for f in guessed if pa.types.is_null(f.type)}
    return pa.csv.open_csv(path, convert_options=pa.csv.ConvertOptions(column_types=wider))


def _without_blanks(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch of a CSV file: there an empty cell is a missing value, of a column of texts, too."""
    for i, field in enumerate(batch.schema):
        if is_text(field.type):
            column = batch.column(i)
            batch = batch.set_column(i, field, pc.if_else(pc.equal(column, ""), None, column))
    return batch


def open_source(source: str | Path | pa.Table, name: str = "table") -> Source:
    """Open a Parquet or CSV file, or wrap a table.

    Raises
    ------
    FileError
        If there is no such file, or it is neither.
    """
    if isinstance(source, pa.Table):
        return _checked(Source(name, source.schema, source.num_rows, None, source))
    path = Path(source)
    if not path.is_file():
        raise FileError(f"there is no file {path}")
    try:
        with path.open("rb") as file:
            parquet = file.read(4) == b"PAR1"
        if parquet:
            with pq.ParquetFile(path) as opened:
                rows = opened.metadata.num_rows
                return _checked(Source(str(path), opened.schema_arrow, rows, path))
        if path.suffix.lower() in (".csv", ".txt"):
            with _csv(path) as reader:
                return _checked(Source(str(path), reader.schema, None, path))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path} cannot be read: {error}") from error
    raise FileError(f"{path} is neither Parquet nor CSV")


def _checked(source: Source) -> Source:
    names = source.schema.names
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise FileError(f"{source.name} has the column {twice[0]!r} more than once")
    return source


def plain(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One array without dictionary or extension type."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # several chunks of a type that cannot be joined
        array = pa.concat_arrays(array.chunks)
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of this type holds numbers (bool counts)."""
    if pa.types.is_dictionary(kind):
        return is_number(kind.value_type)
    t = pa.types
    return bool(
        t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind) or t.is_boolean(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds strings."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    t = pa.types
    return bool(t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind))


def has_text(kind: pa.DataType) -> bool:
    """Whether ``texts`` can read a column of this type; lists and structures it cannot."""
    if isinstance(kind, pa.BaseExtensionType):
        return has_text(kind.storage_type)
    return not pa.types.is_nested(kind)


def numbers(array: pa.Array) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
    """A column as numbers, NaN where missing.

    Returns
    -------
    tuple
        ``(n,) float64``, and ``(n,)`` whether a value was there but is no number (its place is NaN,
        too); ``None`` where there is no such value.
    """
    array = plain(array)
    kind = array.type
    if pa.types.is_boolean(kind):
        array = array.cast(pa.uint8())
    if is_number(kind):
        cast = array.cast(pa.float64(), safe=False)
        return np.asarray(cast.to_numpy(zero_copy_only=False), np.float64), None
    if not is_text(kind):
        there = ~np.asarray(array.is_null().to_numpy(zero_copy_only=False))
        return np.full(len(array), np.nan), there if there.any() else None
    out, wrong = np.full(len(array), np.nan), np.zeros(len(array), np.bool_)
    for i, text in enumerate(array.to_pylist()):
        if text is not None and text.strip():
            try:
                out[i] = float(text)
            except ValueError:
                wrong[i] = True
    return out, wrong if wrong.any() else None


def texts(array: pa.Array, *, canonical: bool = False) -> Codes:
    """A column as strings: whole numbers without a point, booleans as ``true`` and ``false``.

    Parameters
    ----------
    canonical
        Write strings that look like numbers or booleans in the same way, to compare them with such
        columns.
    """
    array = plain(array)
    encoded = array.dictionary_encode()
    values = [_text(v, canonical) for v in encoded.dictionary.to_pylist()]
    distinct: dict[str, int] = {}
    table = np.array(
        [-1 if v is None else distinct.setdefault(v, len(distinct)) for v in values] + [-1],
        np.int32,
    )
    codes = encoded.indices.fill_null(len(values)).to_numpy(zero_copy_only=False)
    return Codes(table[codes], tuple(distinct))


def _text(value: Any, canonical: bool) -> str | None:
    if value is None or value != value:  # NaN is missing
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _canonical(value) if canonical else value
    if isinstance(value, int):
        return str(value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return str(int(number)) if number.is_integer() else repr(number)


def _canonical(text: str) -> str:
    low = text.strip().lower()
    if low in ("true", "false"):
        return low
    try:
        number = float(low)
    except ValueError:
        return text
    return str(int(number)) if number.is_integer() else repr(number)


def answers(columns: Sequence[pa.Array | pa.ChunkedArray]) -> list[Codes]:
    """Columns of labels and predictions as strings that can be compared: of one type as they are,
    else written in the same way. Blank text is missing."""
    flat = [plain(c) for c in columns]
    canonical = len({str(c.type) for c in flat}) > 1
    return [_unblank(texts(c, canonical=canonical)) for c in flat]


def _unblank(codes: Codes) -> Codes:
    """Blank values are missing ones."""
    if all(value.strip() for value in codes.values):
        return codes
    kept = [i for i, value in enumerate(codes.values) if value.strip()]
    new = np.full(len(codes.values) + 1, -1, np.int32)
    new[kept] = np.arange(len(kept))
    return Codes(new[codes.codes], tuple(codes.values[i] for i in kept))


def wrong_rows(
    label: pa.Array, prediction: pa.Array
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Compare labels with predictions, as strings; numbers with numbers as numbers (1 equals 1.0
    and true).

    Returns
    -------
    tuple
        ``(n,)`` 1 where they differ, and ``(n,)`` whether both are known.
    """
    label, prediction = plain(label), plain(prediction)
    if is_number(label.type) and is_number(prediction.type):
        a, b = numbers(label)[0], numbers(prediction)[0]
        known = ~(np.isnan(a) | np.isnan(b))
        return ((a != b) & known).astype(np.uint8), known
    x, y = answers([label, prediction])
    index = {value: i for i, value in enumerate(y.values)}
    same = np.array([index.get(v, -2) for v in x.values] + [-2], np.int64)[x.codes]
    known = (x.codes >= 0) & (y.codes >= 0)
    return ((same != y.codes) & known).astype(np.uint8), np.asarray(known)


def indices(codes: Codes, feature: Feature) -> NDArray[np.float32]:
    """A category column as indices into the feature's values: unseen -1, missing NaN."""
    index = {value: i for i, value in enumerate(feature.values)}
    table = np.array([index.get(v, -1) for v in codes.values] + [np.nan], np.float32)
    return table[codes.codes]


def times(array: pa.Array, name: str) -> NDArray[np.int64]:
    """A time column as microseconds since 1970 (numbers are seconds); -1 where missing.

    Raises
    ------
    FileError
        If it is not a time.
    """
    array = plain(array)
    kind = array.type
    try:
        if is_number(kind):
            seconds = numbers(array)[0]
            seconds = np.where(np.isfinite(seconds), seconds, -1e-6)
            if (seconds > LATEST).any():
                raise FileError(
                    f"column {name!r} (option --time) holds {seconds.max():.15g}: seconds since 1970"
                    " were expected"
                )
            return np.maximum(seconds * 1e6, -1).astype(np.int64)
        if pa.types.is_date(kind):
            array = array.cast(pa.timestamp("us"))
        elif is_text(kind):
            array = _moments(array)
        if pa.types.is_timestamp(array.type):
            array = array.cast(pa.timestamp("us", array.type.tz), safe=False).cast(pa.int64())
            return np.asarray(pc.fill_null(array, -1).to_numpy(zero_copy_only=False), np.int64)
    except pa.ArrowException as error:
        raise FileError(f"column {name!r} (option --time) is not a time: {error}") from error
    raise FileError(f"column {name!r} (option --time) is {kind}, not a time")


def _moments(texts: pa.Array) -> pa.Array:
    """ISO 8601 as times, all with a zone or all without one (which is UTC then)."""
    try:
        return texts.cast(pa.timestamp("us"))
    except pa.ArrowInvalid:
        return texts.cast(pa.timestamp("us", "UTC"))

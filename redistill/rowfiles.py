"""Files of rows: Parquet, CSV and folders of part files as batches of columns, in bounded memory.

One reader for all who read rows of other people, so that they agree on what a file holds. A column
is asked for by its name and kind; what its values mean is said by ``rowvalues`` and ``rowtimes``.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from redistill.rowcells import Kind, Survey, are_whole_floats, read_cells, whole_floats
from redistill.rowcsv import RowFileError, unreadable
from redistill.rowparquet import BATCH_BYTES
from redistill.rowparts import (
    Part,
    part_of_file,
    part_of_table,
    parts_of_folder,
)
from redistill.rowvalues import is_number, is_single, is_text, is_time, plain

BATCH_ROWS = 8_000
"""Rows of a batch, but for the last: what is made of a file must not depend on its row groups."""
BATCH_CELLS = 8_000_000
"""Cells of a batch: of very wide files fewer rows are read at a time."""
FEWEST_ROWS = 500
"""Rows of a batch of however many columns; batches are multiples of it."""
__all__ = ["BATCH_ROWS", "Batch", "RowFile", "open_rows"]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """``n`` rows that follow each other; ``batch[name]`` is a column."""

    columns: Mapping[str, pa.Array]
    rows: int
    first: int
    """Rows before them."""
    spans: tuple[tuple[int, str, float, int], ...]
    """Where files begin: row of the batch, name and time of the file, number of that row in it."""

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, name: str) -> pa.Array:
        return self.columns[name]

    def where(self, row: int) -> str:
        """A row as a person finds it: counted from 1, without a header."""
        start, name, _, number = self._span(row)
        place = f"row {number + row - start:,}"
        return f"{place} of {name}" if name else place

    def modified(self, row: int) -> float:
        """When the file of a row was last changed, in seconds since 1970."""
        return self._span(row)[2]

    def _span(self, row: int) -> tuple[int, str, float, int]:
        return self.spans[bisect_right(self.spans, row, key=lambda s: s[0]) - 1]


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Rows of one file as they stand in it, or several such stretches joined."""

    arrays: list[pa.Array]
    rows: int
    spans: tuple[tuple[int, str, float, int], ...]

    @property
    def types(self) -> list[pa.DataType]:
        return [a.type for a in self.arrays]

    def cut(self, at: int) -> tuple[_Rows, _Rows]:
        """The first ``at`` rows of a stretch of one file, and the others."""
        if at >= self.rows:
            return self, _Rows([], 0, ())
        ((_, name, modified, number),) = self.spans
        return (
            _Rows([a.slice(0, at) for a in self.arrays], at, self.spans),
            _Rows(
                [a.slice(at) for a in self.arrays],
                self.rows - at,
                ((0, name, modified, number + at),),
            ),
        )

    @classmethod
    def joined(cls, several: Sequence[_Rows]) -> _Rows:
        """Stretches with columns of the same types as one."""
        if len(several) == 1:
            return several[0]
        arrays = [
            plain(pa.chunked_array(list(column)))
            for column in zip(*(s.arrays for s in several), strict=True)
        ]
        spans: list[tuple[int, str, float, int]] = []
        rows = 0
        for stretch in several:
            ((_, name, modified, number),) = stretch.spans
            if not spans or spans[-1][1] != name:
                spans.append((rows, name, modified, number))
            rows += stretch.rows
        return cls(arrays, rows, tuple(spans))


class RowFile:
    """A file, a folder of part files, or a table: ``open_rows`` makes it."""

    def __init__(self, name: str, parts: Sequence[Part]) -> None:
        self.name = name
        self._parts = tuple(parts)
        self._types: dict[str, list[pa.DataType]] = {}
        self._untyped: set[str] = set()
        for part in parts:
            keys = dict.fromkeys(part.keys, pa.string())
            for column, kind in (*part.types.items(), *keys.items()):
                known = self._types.setdefault(column, [])
                if kind not in known and not pa.types.is_null(kind):
                    known.append(kind)
                if column in keys or not part.typed:
                    self._untyped.add(column)
        for column, types in self._types.items():
            if any(map(is_text, types)) and any(map(is_number, types)):
                self._untyped.add(column)  # a bad cell made it a text in some part
        self._written = {
            "comma": any(part.comma for part in parts),
            "grouped": any(part.grouped for part in parts),
        }
        self._surveys: dict[str, Survey] = {}

    @property
    def columns(self) -> tuple[str, ...]:
        """Names, as they stand in the first file that has them."""
        return tuple(self._types)

    @property
    def rows(self) -> int | None:
        """Their number; ``None`` where only reading tells (CSV)."""
        counts = [part.rows for part in self._parts]
        return None if None in counts else sum(n for n in counts if n is not None)

    @property
    def keys(self) -> frozenset[str]:
        """Columns that stand in names of folders."""
        return frozenset(key for part in self._parts for key in part.keys)

    def type_of(self, column: str) -> pa.DataType:
        """Type of a column: of its first part where they differ, a string where it has none."""
        return next(iter(self._types[column]), pa.null())

    def is_single(self, column: str) -> bool:
        """Whether a column has one value a row, and not a list or a structure of them."""
        return all(is_single(kind) for kind in self._types[column])

    def gaps(self, columns: Iterable[str]) -> list[str]:
        """What to say of columns that some of the files lack: they are missing there."""
        held = [part for part in self._parts if part.rows != 0]
        found = []
        for name in columns:
            without = [p.name for p in held if name not in p.types and name not in p.keys]
            if 0 < len(without) < len(held):
                first = os.path.relpath(without[0], self.name)
                files = f"{len(without):,} of {len(held):,} files"
                found.append(f"column {name!r} is missing in {files}, the first {first}")
        return found

    def kinds(self, columns: Iterable[str]) -> dict[str, Kind | None]:
        """What columns hold, by their types; where they have none, by all of their cells.

        Returns
        -------
        dict
            ``None`` for what is neither number, text nor time. A column of nulls is one of numbers.
        """
        columns = list(columns)
        unseen = [c for c in columns if c in self._untyped and c not in self._surveys]
        if unseen:
            surveys = {c: Survey() for c in unseen}
            first = 0
            for rows in self._raw(unseen, BATCH_ROWS):
                for survey, array in zip(surveys.values(), rows.arrays, strict=True):
                    survey.add(array, first, **self._written)
                first += rows.rows
            self._surveys |= surveys
        return {c: self._kind(c) for c in columns}

    def _kind(self, column: str) -> Kind | None:
        if column in self._untyped:
            return self._surveys[column].kind
        types = self._types[column]
        tests: dict[Kind, Callable[[pa.DataType], bool]] = {
            "number": is_number,
            "text": is_text,
            "time": is_time,
        }
        return next((kind for kind, test in tests.items() if all(map(test, types))), None)

    def is_blank(self, column: str) -> bool:
        """Whether a column has neither a type nor, where it was surveyed, a value."""
        survey = self._surveys.get(column)
        return survey.known == 0 if survey else not self._types[column]

    def strays(self, column: str) -> str:
        """In a column of numbers without a type: how many cells are none, and the first; or
        nothing."""
        survey = self._surveys.get(column)
        if survey is None or survey.first_odd is None or survey.kind != "number":
            return ""
        return (
            f"{survey.odd:,} (the first, in row {survey.first_odd + 1:,}: {survey.example[:40]!r})"
        )

    def batches(self, kinds: Mapping[str, Kind], size: int = BATCH_ROWS) -> Iterator[Batch]:
        """The rows in order, ``size`` at a time but for the last (and where the type of a column
        changes between files), with these columns only.

        Cells without a type become numbers where all of a batch are, and null where they are words
        for a missing value and the column is not one of texts; in all else columns are as the file
        has them.

        Raises
        ------
        RowFileError
            The file cannot be read, or has a column more than once.
        """
        if twice := sorted(n for part in self._parts for n in part.twice & kinds.keys()):
            raise RowFileError(self.name, f"has the column {twice[0]!r} more than once")
        fits = BATCH_CELLS // max(1, len(kinds)) // FEWEST_ROWS * FEWEST_ROWS
        size = min(size, max(fits, FEWEST_ROWS))
        floats = self._floats([n for n, kind in kinds.items() if kind == "id"])
        first = 0
        for rows in _even(self._raw(list(kinds), size), size):
            columns = {
                name: self._read(name, array, kinds[name], floats)
                for name, array in zip(kinds, rows.arrays, strict=True)
            }
            yield Batch(columns, rows.rows, first, rows.spans)
            first += rows.rows

    def _read(self, name: str, array: pa.Array, kind: Kind, floats: set[str]) -> pa.Array:
        if name not in self._untyped:
            return array
        if name in floats:
            return whole_floats(array)
        return read_cells(array, kind, **self._written)

    def _floats(self, ids: Sequence[str]) -> set[str]:
        """Columns of ids, without a type, that were written as floats to the last cell."""
        asked = [name for name in ids if name in self._untyped]
        left = set(asked)
        for rows in self._raw(asked, BATCH_ROWS) if asked else ():
            left -= {n for n, a in zip(asked, rows.arrays, strict=True) if not are_whole_floats(a)}
            if not left:
                break
        return left

    def _raw(self, names: Sequence[str], size: int) -> Iterator[_Rows]:
        """The columns as the files have them; one that a file lacks is null there."""
        for part in self._parts:
            own = [n for n in names if n in part.types] or list(part.types)[:1]
            label = "" if len(self._parts) == 1 else os.path.relpath(part.name, self.name)
            number = 1
            try:
                for batch in part.read(own, size):
                    n = batch.num_rows
                    there = dict(zip(own, batch.columns, strict=True))
                    arrays = [there.get(name) for name in names]
                    filled = [
                        self._absent(part, name, n) if a is None else a
                        for name, a in zip(names, arrays, strict=True)
                    ]
                    if n:
                        yield _Rows(filled, n, ((0, label, part.modified, number),))
                    number += n
            except (pa.ArrowException, OSError, UnicodeError) as error:
                kind = "Parquet" if part.typed else "CSV"
                raise unreadable(part.name, kind, error) from error

    def _absent(self, part: Part, name: str, rows: int) -> pa.Array:
        if name in part.keys:
            return pa.repeat(pa.scalar(part.keys[name], pa.string()), rows)
        return pa.nulls(rows, self.type_of(name))


def _even(stretches: Iterable[_Rows], size: int) -> Iterator[_Rows]:
    """Rows cut and joined so that ``size`` come at a time, as long as types stay and they fit."""
    kept: list[_Rows] = []
    held = weight = 0
    for stretch in stretches:
        rest = stretch
        if kept and kept[0].types != rest.types:
            yield _Rows.joined(kept)
            kept, held, weight = [], 0, 0
        while rest.rows:
            taken, rest = rest.cut(size - held)
            kept.append(taken)
            held += taken.rows
            weight += sum(a.nbytes for a in taken.arrays if not is_number(a.type))
            if held == size or weight > BATCH_BYTES:
                yield _Rows.joined(kept)
                kept, held, weight = [], 0, 0
    if kept:
        yield _Rows.joined(kept)


def open_rows(source: str | Path | pa.Table, name: str = "table") -> RowFile:
    """Open a Parquet or CSV file (packed or not), a folder of such files, or wrap a table.

    Parameters
    ----------
    name
        What a table is called in messages.

    Raises
    ------
    RowFileError
        There is no such file, or it is none of these.
    """
    if isinstance(source, pa.Table):
        return RowFile(name, [part_of_table(source, name)])
    path = Path(source)
    if path.is_dir():
        return RowFile(str(path), parts_of_folder(path))
    if not path.exists():
        raise RowFileError(str(path), "cannot be read: there is no file of this name")
    return RowFile(str(path), [part_of_file(path)])

"""Parts of a table: Parquet and CSV files, tables in memory, and what lies in a folder of such
files."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from redistill.rowcsv import CsvFile, EmptyFile, RowFileError, unreadable
from redistill.rowforeign import foreign
from redistill.rowparquet import ParquetTable

__all__ = ["Part", "part_of_file", "part_of_table", "parts_of_folder"]

NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
TABLE_LOGS = {"_delta_log": "Delta", ".hoodie": "Hudi", "metadata": "Iceberg"}
"""Folders that say which files of a table are still valid."""


_PARQUET_SUFFIXES = (".parquet", ".pq", ".parq")
_CSV_SUFFIXES = (".csv", ".tsv")
_PARQUET = b"PAR1"
HEAD = 4_096
"""Bytes that tell what a file is."""
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bz2",
    b"\x04\x22\x4d\x18": "lz4",
}
_PACKED_SUFFIX = re.compile(r"\.(gz|zst|bz2|lz4)$", re.I)


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One file, or a table in memory."""

    name: str
    """Path, or what the table is called."""
    types: Mapping[str, pa.DataType]
    twice: frozenset[str]
    """Names of several columns."""
    read: Callable[[Sequence[str], int], Iterator[pa.RecordBatch]]
    """Batches of the columns named, of at most so many rows."""
    rows: int | None = None
    """``None`` where only reading tells."""
    modified: float = 0.0
    """Seconds since 1970."""
    typed: bool = True
    """Whether columns have types; else they are texts as they stand in the file."""
    comma: bool = False
    """Whether ``1,5`` is a number."""
    grouped: bool = False
    """Whether ``1.234`` is a thousand and more."""
    keys: Mapping[str, str | None] = field(default_factory=dict)
    """Columns of which the part's folders say the one value."""


def part_of_file(path: Path, keys: Mapping[str, str | None] | None = None) -> Part:
    """Open one file.

    Raises
    ------
    RowFileError
        It is neither Parquet nor CSV, or cannot be read.
    """
    kind = "a file"
    if path.exists() and not path.is_file():
        raise RowFileError(
            str(path), "cannot be read: it is no file of its own; a pipe can be read once only"
        )
    try:
        with path.open("rb") as file:
            start = file.read(HEAD)
        if not start:
            raise EmptyFile(str(path), f"cannot be read as {_expected(path)}: it is empty")
        packed = next((codec for magic, codec in _PACKED.items() if start.startswith(magic)), None)
        kind = "Parquet" if start[:4] == _PARQUET else _expected(path)
        if start[:4] == _PARQUET:
            return _parquet(path, keys or {})
        if kind == "Parquet":
            what = foreign(start) or "it does not begin as one; if it is CSV, name it so"
            raise RowFileError(str(path), f"cannot be read as Parquet: {what}")
        table = CsvFile.opened(path, packed)
        return Part(
            name=str(path),
            read=table.read,
            modified=path.stat().st_mtime,
            typed=False,
            comma=table.comma,
            grouped=table.grouped,
            keys=keys or {},
            **_columns(pa.schema([(n, pa.string()) for n in table.names])),
        )
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise unreadable(str(path), kind, error) from error


def _expected(path: Path) -> str:
    return "Parquet" if path.suffix.lower() in _PARQUET_SUFFIXES else "CSV"


def part_of_table(table: pa.Table, name: str) -> Part:
    """A table in memory."""

    def read(names: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        yield from table.select(list(names)).to_batches(max_chunksize=size)

    return Part(name=name, read=read, rows=table.num_rows, **_columns(table.schema))


def _columns(schema: pa.Schema) -> dict[str, Any]:
    counted = Counter(schema.names)
    return {
        "types": dict(zip(schema.names, schema.types, strict=True)),
        "twice": frozenset(name for name, n in counted.items() if n > 1),
    }


def _parquet(path: Path, keys: Mapping[str, str | None]) -> Part:
    table = ParquetTable.opened(path)
    return Part(
        name=str(path),
        read=table.read,
        rows=table.metadata.num_rows,
        modified=path.stat().st_mtime,
        keys=keys,
        **_columns(table.schema),
    )


def parts_of_folder(path: Path) -> list[Part]:
    """Its files in natural order; names that begin with ``_`` or ``.`` are the writer's own."""
    found: dict[str, list[Path]] = {"Parquet": [], "CSV": []}
    for folder, folders, files in os.walk(path):
        for log, table in TABLE_LOGS.items():
            if log in folders and (log != "metadata" or _is_iceberg(Path(folder, log))):
                raise RowFileError(
                    str(path),
                    f"is a table of {table}, whose files need not all be valid: write its rows"
                    " to a file",
                )
        folders[:] = [f for f in folders if not f.startswith(("_", "."))]
        for file in (Path(folder, f) for f in files if not f.startswith(("_", "."))):
            suffix = _suffix(file)
            if suffix in _PARQUET_SUFFIXES or (not suffix and _begins_like_parquet(file)):
                found["Parquet"].append(file)
            elif suffix in _CSV_SUFFIXES:
                found["CSV"].append(file)
    if all(found.values()):
        raise RowFileError(str(path), "is a folder of Parquet and CSV files: keep one kind in it")
    parts = []
    for file in sorted(found["Parquet"] or found["CSV"], key=lambda f: _natural(str(f))):
        try:
            parts.append(part_of_file(file, _keys(file.relative_to(path))))
        except EmptyFile:  # a writer had no rows for it
            continue
    if not parts:
        raise RowFileError(str(path), "is a folder without Parquet or CSV files that hold anything")
    for part in parts[1:]:
        if not parts[0].types.keys() & part.types.keys():
            raise RowFileError(
                part.name,
                f"has no column of {os.path.relpath(parts[0].name, path)}, beside which it lies:"
                " every CSV file needs the header, and a folder holds one table",
            )
    return parts


def _suffix(path: Path) -> str:
    """The suffix, in lower case, without that of a compression."""
    return Path(_PACKED_SUFFIX.sub("", path.name)).suffix.lower()


def _is_iceberg(folder: Path) -> bool:
    return any(folder.glob("*.metadata.json"))


def _begins_like_parquet(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(4) == _PARQUET


def _natural(name: str) -> list[int | str]:
    """``part-2`` comes before ``part-10``."""
    return [int(piece) if piece.isdecimal() else piece for piece in re.split(r"(\d+)", name)]


def _keys(path: Path) -> dict[str, str | None]:
    """What folders such as ``country=DE`` say of the rows below them."""
    pairs = [name.split("=", 1) for name in path.parts[:-1] if "=" in name]
    return {unquote(k): None if v == NO_PARTITION else unquote(v) for k, v in pairs}

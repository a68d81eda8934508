"""CSV as people have it: packed or not, with any usual delimiter, its cells as they stand in the
file."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv

from redistill.rowforeign import foreign

__all__ = ["CsvFile", "EmptyFile", "RowFileError", "unreadable"]

HEAD_BYTES = 1 << 20
"""Read of a file to see what it is; a header is not longer."""
BLOCK_BYTES = 4 << 20
"""Of a CSV file read at a time, or 32 times its header: every row must fit in."""


_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_DELIMITERS = ",;\t|"
_LOOK = 1 << 16
"""Characters in which numbers are looked for."""
_NUMBER = re.compile(r'(?:^|(?<=[;"]))[+-]?[0-9][0-9.,]*(?=$|[;"\r])', re.M)
_GROUPED = re.compile(r"[+-]?[1-9][0-9]{0,2}([.][0-9]{3})+(,[0-9]*)?")
_SEP = re.compile(r'"?sep=(.)"?(\r\n|\n|\r)', re.I)
"""What Excel reads and writes above the header."""


class RowFileError(Exception):
    """A file of rows cannot be used.

    Parameters
    ----------
    name
        The file.
    reason
        What is wrong with it and what to do, to follow the name.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} {reason}")
        self.name = name
        self.reason = reason


class EmptyFile(RowFileError):
    """A file has no bytes."""


def unreadable(name: str, kind: str, error: Exception, above: int = 1) -> RowFileError:
    """What a library says of a file that it cannot read, in a line, and what may help; with so many
    lines above its rows."""
    said = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    if isinstance(error, UnicodeError) or "invalid UTF8" in said:
        said += "; save it as UTF-8"
    elif "straddling" in said:
        said = (
            f"a row is longer than {BLOCK_BYTES >> 20} MB; a quote that is never closed may be why"
        )
    elif "columns, got" in said:
        told = said.removeprefix("CSV parse error: ")[:120]
        said = f"{told}; a cell that holds the delimiter needs quotes"
    said = re.sub(r"Row #(\d+)", lambda row: f"row {int(row[1]) - above:,}", said)
    return RowFileError(name, f"cannot be read as {kind}: {said}")


@dataclass(frozen=True, slots=True)
class CsvFile:
    """A CSV file with a header."""

    path: Path
    packed: str | None
    """How it is compressed."""
    encoding: str
    delimiter: str
    block: int
    """Bytes that are read at a time; 0: there is nothing but a header."""
    names: tuple[str, ...]
    grouped: bool = False
    """Whether ``1.234`` is a thousand and more: its numbers have decimal commas, none a point."""
    told: bool = False
    """Whether its first line says the delimiter, as Excel has it: ``sep=;``."""

    @classmethod
    def opened(cls, path: Path, packed: str | None) -> CsvFile:
        """Look at the header, and whether every quote is closed.

        Raises
        ------
        RowFileError
            It is no CSV; errors of pyarrow and of the system come as they are.
        """
        with pa.input_stream(str(path), compression=packed) as stream:
            head = stream.read(HEAD_BYTES)
        if not head.strip():
            raise EmptyFile(str(path), "cannot be read as CSV: it is empty")
        encoding = "utf-16" if head.startswith(_UTF16) else "utf8"
        text = head.decode(encoding, errors="replace")
        text = text.lstrip("\ufeff\r\n")
        told = _SEP.match(text)
        text = text[told.end() :] if told else text
        header = (text.lstrip("\r\n").splitlines() or [""])[0]
        if what := foreign(head) or ("it is no text" if "\0" in header else ""):
            raise RowFileError(str(path), f"is neither Parquet nor CSV: {what}")
        delimiter = told[1] if told else _delimiter(header)
        if text.strip("\r\n") == header and len(head) < HEAD_BYTES:  # no rows at all
            names = next(csv.reader([header], delimiter=delimiter))
            return cls(path, packed, encoding, delimiter, 0, tuple(names))
        block = max(BLOCK_BYTES, 32 * len(header))
        grouped = delimiter == ";" and _has_groups(text)
        found = cls(path, packed, encoding, delimiter, block, (), grouped, told is not None)
        if encoding != "utf8" or found._has_lone_quotes():
            found._check_quotes()
        try:
            with found._reader() as reader:
                return dataclasses.replace(found, names=tuple(reader.schema.names))
        except pa.ArrowInvalid as error:
            one = len(next(csv.reader([header], delimiter=delimiter))) == 1
            if "columns, got" not in str(error) or not (one or header.startswith("#")):
                raise unreadable(str(path), "CSV", error, 1 + found.told) from error
            raise RowFileError(
                str(path),
                f"cannot be read as CSV: its first line, {header[:60]!r}, does not name the columns"
                " of the rows below: take titles and comments away, the first line is the header",
            ) from error

    @property
    def comma(self) -> bool:
        """Whether ``1,5`` is a number."""
        return self.delimiter == ";"

    def read(self, names: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        """Batches of the columns named, of at most so many rows, as texts."""
        if not self.block:
            return
        texts = {n: pa.string() for n in names}
        try:
            with self._reader(column_types=texts, include_columns=list(names)) as reader:
                for batch in reader:
                    for start in range(0, batch.num_rows, size):
                        yield batch.slice(start, size)
        except pa.ArrowInvalid as error:
            raise unreadable(str(self.path), "CSV", error, 1 + self.told) from error

    def _reader(self, **options: Any) -> pcsv.CSVStreamingReader:
        return pcsv.open_csv(
            pa.input_stream(str(self.path), compression=self.packed),
            # One thread: errors then name the row.
            pcsv.ReadOptions(
                use_threads=False,
                encoding=self.encoding,
                block_size=self.block,
                skip_rows=int(self.told),
            ),
            pcsv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
            pcsv.ConvertOptions(**options),
        )

    def _has_lone_quotes(self) -> bool:
        """Whether a line has an odd number of quotes: a cell of several lines, or never closed."""
        odd = 0
        with pa.input_stream(str(self.path), compression=self.packed) as stream:
            while chunk := stream.read(BLOCK_BYTES):
                quotes = chunk.count(b'"')
                if quotes or odd:
                    data = np.frombuffer(chunk, np.uint8)
                    before = np.cumsum(data == ord('"'), dtype=np.uint8)  # only its parity counts
                    if ((before[data == ord("\n")] + odd) & 1).any():
                        return True
                odd = (odd + quotes) & 1
        return bool(odd)

    def _check_quotes(self) -> None:
        """A quote that is never closed would swallow the rows behind it."""
        row = -int(self.told)
        with pa.input_stream(str(self.path), compression=self.packed) as stream:
            text = io.TextIOWrapper(stream, self.encoding, errors="replace", newline="")
            try:
                for _ in csv.reader(text, delimiter=self.delimiter, strict=True):
                    row += 1
            except csv.Error as error:
                place = f"row {row:,}" if row > 0 else "the header"
                raise RowFileError(
                    str(self.path),
                    f"cannot be read as CSV: {place} opens a quote that is not closed as it"
                    f" should be ({error}); a quote within a quoted cell is written twice",
                ) from error


def _delimiter(header: str) -> str:
    """What stands between names: a comma, unless there is none and something else."""
    outside = re.sub(r'"[^"]*"', "", header)
    return next((d for d in _DELIMITERS if d in outside), ",")


def _has_groups(text: str) -> bool:
    """Whether points stand between thousands, as far as the beginning of a file tells."""
    cells = _NUMBER.findall(text[:_LOOK])
    points = any(c.count(".") == 1 and not _GROUPED.fullmatch(c) for c in cells)
    return not points and any(c.count(",") == 1 for c in cells)

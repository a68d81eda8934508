"""Parquet in bounded memory, whatever a small file asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from redistill.rowcsv import RowFileError
from redistill.rowvalues import is_text

__all__ = ["BATCH_BYTES", "ParquetTable"]

BATCH_BYTES = 16 << 20
"""Of the texts and bytes of a batch: where they are long, fewer rows are read at a time."""
LONG_VALUE = 1_024
"""Bytes of a value of fixed size beyond which it is no id and no class of anything."""
LARGEST_PIECE = 512 << 20
"""Bytes that a column of texts or bytes may ask for at once, where it is hardly any in the file."""


@dataclass(frozen=True, slots=True)
class ParquetTable:
    """A Parquet file of which the footer was read."""

    path: Path
    metadata: pq.FileMetaData
    schema: pa.Schema
    sizes: _Sizes

    @classmethod
    def opened(cls, path: Path) -> ParquetTable:
        """Read the footer; errors of pyarrow and of the system come as they are."""
        with pq.ParquetFile(path) as opened:
            metadata, schema = opened.metadata, opened.schema_arrow
        return cls(path, metadata, schema, _Sizes.of(metadata, schema))

    def read(self, names: Sequence[str], size: int) -> Iterator[pa.RecordBatch]:
        """Batches of the columns named, of at most so many rows.

        Raises
        ------
        RowFileError
            A column would fill the memory before its first row is read.
        """
        # A long text that stands in every row is held once: a kilobyte can ask for gigabytes.
        texts = [f.name for f in self.schema if is_text(f.type) or pa.types.is_binary(f.type)]
        fits = min(size, self.sizes.rows(self.path, names))
        with pq.ParquetFile(self.path, metadata=self.metadata, read_dictionary=texts) as file:
            for batch in file.iter_batches(batch_size=fits, columns=list(names)):
                yield batch.select(list(names))  # a name may be the beginning of others


def _is_bytes(kind: pa.DataType) -> bool:
    t = pa.types
    return any(
        test(kind) for test in (is_text, t.is_binary, t.is_large_binary, t.is_fixed_size_binary)
    )


@dataclass(frozen=True, slots=True)
class _Sizes:
    """What columns of texts and bytes take once they are unpacked, as their file says."""

    row: Mapping[str, int]
    """Bytes of a row, by column."""
    pieces: Mapping[str, int]
    """Bytes of the largest piece that is unpacked at once and was packed to a hundredth."""

    @classmethod
    def of(cls, metadata: pq.FileMetaData, schema: pa.Schema) -> _Sizes:
        fixed = pa.types.is_fixed_size_binary
        row = {
            f.name: f.type.byte_width if fixed(f.type) else 0 for f in schema if _is_bytes(f.type)
        }
        pieces = dict.fromkeys(row, 0)
        for i in range(metadata.num_row_groups):
            group = metadata.row_group(i)
            for j in range(group.num_columns):
                column = group.column(j)
                name, size = column.path_in_schema, column.total_uncompressed_size
                if name in row:
                    if row[name] > LONG_VALUE:  # of fixed size: a dictionary is written out
                        size = row[name] * group.num_rows
                    row[name] = max(row[name], size // max(1, group.num_rows))
                    if size > 100 * column.total_compressed_size:
                        pieces[name] = max(pieces[name], size)
        return cls(row, pieces)

    def rows(self, path: Path, names: Sequence[str]) -> int:
        """How many rows fit into a batch.

        Raises
        ------
        RowFileError
            A column would fill the memory before its first row is read.
        """
        for name in names:
            if (size := self.pieces.get(name, 0)) > LARGEST_PIECE:
                raise RowFileError(
                    str(path),
                    f"has the column {name!r}, whose {size >> 20:,} MB in one row group are packed"
                    " to next to nothing: write smaller row groups, with a dictionary",
                )
        return max(1, BATCH_BYTES // max(1, sum(self.row.get(n, 0) for n in names)))

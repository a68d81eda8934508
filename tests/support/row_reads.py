"""Files of rows as tests write them, and what the one reader of rows makes of a column."""

from __future__ import annotations

import gzip
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from redistill.rowcells import Kind
from redistill.rowfiles import RowFile
from redistill.rowtimes import times
from redistill.rowvalues import numbers, texts

WRONG = "wrong"
"""Stands for a value that is not of its kind."""


def values_of(file: RowFile, column: str, kind: Kind) -> list[Any]:
    """A column of a file: texts, numbers (``None``: missing) or ISO times, ``WRONG`` where refused."""
    out: list[Any] = []
    for batch in file.batches({column: kind}):
        if kind in ("text", "id", "code"):
            found = texts(batch[column])
            read: list[Any] = found.strings()
            wrong = found.refused
        elif kind == "number":
            made, mask = numbers(batch[column])
            read = [None if math.isnan(x) else x for x in made.tolist()]
            wrong = {} if mask is None else dict.fromkeys(np.flatnonzero(mask).tolist(), "")
        else:
            when = times(batch[column])
            read = [
                datetime.fromtimestamp(us / 1e6, UTC).isoformat()[:19] if known else None
                for us, known in zip(when.us.tolist(), when.known.tolist(), strict=True)
            ]
            wrong = when.refused
        out += [WRONG if i in wrong else x for i, x in enumerate(read)]
    return out


def csv_file(folder: Path, text: str | bytes, name: str = "f.csv") -> Path:
    data = text if isinstance(text, bytes) else text.encode()
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def parquet_file(folder: Path, columns: dict[str, Any], name: str = "f.parquet") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path

"""Columns of a small file, and what a replay learns from it and makes of its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv

from redistill.rowfiles import open_rows
from redistill.streams.replay.blocks import ReplayRows, stream_blocks
from redistill.streams.replay.options import ReplayOptions
from redistill.streams.replay.table import Table

N = 400


def columns(**more: Any) -> dict[str, Any]:
    return {
        "x": np.arange(float(N)),
        "label": [0, 1] * (N // 2),
        "prediction": [0, 1] * (N // 2),
    } | more


def learned(stream: Any, reference: Any, **options: Any) -> tuple[Table, list[ReplayRows]]:
    asked = ReplayOptions(**options)
    rows = open_rows(stream)
    table = Table.learn(open_rows(reference), rows, asked)
    return table, list(stream_blocks(rows, table.kinds, table.layout, asked, 100))


def csv_of(folder: Path, table: dict[str, Any], name: str = "s.csv") -> Path:
    pyarrow.csv.write_csv(pa.table(table), folder / name)
    return folder / name

"""Blocks of a replay: rows as the live decoder would have them, with times in order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from replay_columns import N, columns, csv_of, learned

from redistill.streams.errors import FileError


def test_infinity_is_a_wrong_type_as_the_live_decoder_counts_it() -> None:
    x = np.arange(float(N))
    x[[3, 5]] = np.inf, 1e39
    table, blocks = learned(pa.table(columns(x=x)), pa.table(columns(x=x)))
    assert [b.block.wrong_type for b in blocks] == [{"x": 2}, {}, {}, {}]
    assert not np.isinf(table.reference.features).any()


def test_a_time_that_is_none_is_said_with_its_row(tmp_path: Path) -> None:
    at = ["2026-03-01T10:00:00"] * N
    at[250] = "soon"
    with pytest.raises(
        FileError, match=r"'at' .option --time. holds 'soon', .*\(row 251 of table\)"
    ):
        learned(pa.table(columns(at=at)), pa.table(columns()), time="at")


def test_a_stream_with_a_header_only_has_no_blocks(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("x,label,prediction\n")
    _, blocks = learned(tmp_path / "s.csv", csv_of(tmp_path, columns(), "r.csv"))
    assert blocks == []

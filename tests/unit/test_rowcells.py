"""Cells without a type: what a column of them is read as, and its values."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pcsv
import pytest
from row_reads import WRONG, csv_file, values_of

from redistill.rowcells import Kind, guarded, read_cells
from redistill.rowfiles import open_rows
from redistill.rowvalues import texts

TEN = "2026-03-01T10:00:00"
CELLS: list[tuple[str, str, Kind, list[Any]]] = [
    ("leading zeros", "01 1 007", "id", ["01", "1", "007"]),
    ("words are ids", "NULL nan NA", "id", ["NULL", "nan", "NA"]),
    ("floats of pandas", '1001.0 "" 143349558619.0', "id", ["1001", None, "143349558619"]),
    ("some are floats", "1001.0 1002", "id", ["1001", "1002"]),
    ("not all are numbers", "1001.0 A2", "id", ["1001.0", "A2"]),
    ("repr of a float", "1e+16 1.0", "id", [WRONG, "1"]),
    ("what Excel shows is lost", "1.43E+11", "id", ["1.43E+11"]),
    ("texts stay", "1.0 2.0 True", "text", ["1.0", "2.0", "True"]),
    ("empty is missing", 'a "" b', "text", ["a", None, "b"]),
    ("numbers", "1 2.5 -3e2 +4 .5", "number", [1.0, 2.5, -300.0, 4.0, 0.5]),
    ("null words", "NA nan NULL None N/A <NA> NaT \\N #N/A 1", "number", [None] * 9 + [1.0]),
    ("infinities", "inf -Infinity 1e400", "number", [math.inf, -math.inf, math.inf]),
    ("booleans", "True FALSE true 0 1", "number", [1.0, 0.0, 1.0, 0.0, 1.0]),
    ("a bad cell", "1 n/a? 3", "number", [1.0, WRONG, 3.0]),
    ("codes stay", "01 1.0 NA True", "code", ["01", "1.0", None, "True"]),
    ("times", "2026-03-01T10:00 1772359200 NaT soon", "time", [TEN, TEN, None, WRONG]),
]


@pytest.mark.parametrize(
    ("cells", "kind", "expected"), [c[1:] for c in CELLS], ids=[f"{c[0]}-{c[2]}" for c in CELLS]
)
def test_cells_of_a_csv_have_these_values(
    tmp_path: Path, cells: str, kind: Kind, expected: list[Any]
) -> None:
    text = "c,d\n" + "".join(f"{cell},1\n" for cell in cells.split())
    assert values_of(open_rows(csv_file(tmp_path, text)), "c", kind) == expected


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1"] * 30_000 + ["x"], "number"),
        (["1"] * 50 + ["x"], "text"),
        (["x"] * 30_000 + ["1"], "text"),
        (["NA", "1.5", "TRUE"], "number"),
        (["2026-03-01", "2026-03-02T10:00"], "time"),
        (["2026-03-01", "later"], "text"),
        (["01", "02"], "number"),
        (['""', "NA"], "number"),
    ],
)
def test_all_cells_of_a_column_say_what_it_is(tmp_path: Path, cells: list[str], kind: str) -> None:
    text = "pad,c\n" + "".join(f"{'-' * 60},{cell}\n" for cell in cells)
    assert open_rows(csv_file(tmp_path, text)).kinds(["c"]) == {"c": kind}


def test_cells_that_are_no_numbers_among_numbers_are_counted_with_the_first(tmp_path: Path) -> None:
    text = "c,d\n" + "".join(f"{i},1\n" for i in range(5_000)) + "n/a?,1\nbad,1\n"
    file = open_rows(csv_file(tmp_path, text))
    file.kinds(["c", "d"])
    assert file.strays("c") == "2 (the first, in row 5,001: 'n/a?')"
    assert file.strays("d") == ""


def test_each_column_of_ids_is_judged_by_itself(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "a,b\n1.0,1.0\n2.0,x\n")
    (batch,) = open_rows(path).batches({"a": "id", "b": "id"})
    assert texts(batch["a"]).strings() == ["1", "2"]
    assert texts(batch["b"]).strings() == ["1.0", "x"]


def test_text_that_a_spreadsheet_would_run_is_guarded_and_read_back(tmp_path: Path) -> None:
    hostile = ['=HYPERLINK("http://x","y")', "+1+cmd|' /C calc'!A0", "@SUM(1)", "-2+3", "\t=1"]
    plain = ["row-1", 'say "so"', "-5", "+49.5", "a\nb", ""]
    table = pa.table({"id": [*hostile, *plain], "score": [0.5] * 11})
    shown = guarded(table)
    assert shown["id"].to_pylist()[5:] == plain
    assert all(text.startswith('="') for text in shown["id"].to_pylist()[:5])
    file = tmp_path / "rows.csv"
    pcsv.write_csv(shown, file)
    options = pcsv.ParseOptions(newlines_in_values=True)
    written = pcsv.read_csv(file, parse_options=options)["id"].combine_chunks()
    assert read_cells(written, "id").to_pylist() == [*hostile, *plain[:-1], None]

"""Files, folders and tables as one table: kinds of its columns, and its batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from row_reads import WRONG, csv_file, parquet_file, values_of

from redistill.rowcells import Kind
from redistill.rowfiles import open_rows
from redistill.rowvalues import numbers, texts


def test_other_columns_of_the_same_name_do_not_matter(tmp_path: Path) -> None:
    assert values_of(open_rows(csv_file(tmp_path, "c,d,d\n1,2,3\n")), "c", "number") == [1.0]


# --- types that a file does not say ---


def test_kinds_of_typed_columns_are_those_of_their_types() -> None:
    table = pa.table(
        {
            "number": pa.array([1], pa.int8()),
            "flag": [True],
            "text": ["1"],
            "time": pa.array([1], pa.date32()),
            "nothing": pa.nulls(1),
            "bytes": [b"1"],
            "list": [[1]],
        }
    )
    file = open_rows(table)
    kinds = ("number", "number", "text", "time", "number", None, None)
    assert tuple(file.kinds(file.columns).values()) == kinds
    assert [c for c in file.columns if not file.is_single(c)] == ["list"]
    assert str(file.type_of("list")).startswith("list<")


# --- folders ---


@pytest.mark.parametrize(
    ("parts", "ids", "numbers_", "kind"),
    [
        ([[1, 2], [3.0, None]], ["1", "2", "3", None], [1, 2, 3, None], "number"),
        ([[1], pa.nulls(1)], ["1", None], [1, None], "number"),
        ([[2**60], ["x1"], [2.5]], [str(2**60), "x1", "2.5"], [2.0**60, WRONG, 2.5], "text"),
        ([[1.5] * 200, ["n/a"]], ["1.5"] * 200 + ["n/a"], [1.5] * 200 + [None], "number"),
        ([["a"], pa.array(["b"]).dictionary_encode()], ["a", "b"], [WRONG, WRONG], "text"),
        ([pa.array([1], pa.int32()), [2.0**53 + 2]], ["1", WRONG], [1, 2.0**53 + 2], "number"),
    ],
)
def test_types_that_differ_between_parts_lose_nothing(
    tmp_path: Path, parts: list[Any], ids: list[Any], numbers_: list[Any], kind: str
) -> None:
    for i, column in enumerate(parts):
        parquet_file(tmp_path, {"c": column, "other": [1] * len(column)}, f"s/{i}.parquet")
    file = open_rows(tmp_path / "s")
    assert values_of(file, "c", "number") == numbers_
    assert values_of(file, "c", "id") == ids
    assert file.kinds(["c"]) == {"c": kind}


def test_a_column_that_parts_lack_is_said(tmp_path: Path) -> None:
    for i, names in enumerate(("ab", "a", "ab", "a")):
        parquet_file(tmp_path, {name: [i] for name in names}, f"s/p{i}.parquet")
    parquet_file(tmp_path, {"b": pa.array([], pa.int64())}, "s/p9.parquet")
    said = "column 'b' is missing in 2 of 4 files, the first p1.parquet"
    assert open_rows(tmp_path / "s").gaps(["a", "b"]) == [said]


def test_a_column_that_a_part_lacks_is_missing_there(tmp_path: Path) -> None:
    csv_file(tmp_path, "a,c\n1,2\n", "s/1.csv")
    csv_file(tmp_path, "c,b\n3,x\n", "s/2.csv.gz")
    csv_file(tmp_path, "", "s/3.csv")
    file = open_rows(tmp_path / "s")
    assert file.columns == ("a", "c", "b")
    assert values_of(file, "a", "number") == [1.0, None]
    assert values_of(file, "b", "text") == [None, "x"]
    assert values_of(file, "c", "number") == [2.0, 3.0]


@pytest.mark.parametrize("kind", ["number", "text", "id", "code", "time"])
def test_a_file_with_a_header_only_has_no_rows(tmp_path: Path, kind: Kind) -> None:
    file = open_rows(csv_file(tmp_path, "c,d\n"))
    assert values_of(file, "c", kind) == []
    assert file.kinds(["c"]) == {"c": "number"}
    empty = open_rows(pa.table({"c": pa.array([], pa.float64())}))
    assert list(empty.batches({"c": kind})) == []
    assert empty.rows == 0


# --- batches ---


@pytest.mark.parametrize("size", [7, 100, 1_000])
def test_batches_do_not_depend_on_how_the_rows_are_stored(tmp_path: Path, size: int) -> None:
    table = pa.table({"c": np.arange(1_000.0), "t": [f"v{i % 9}" for i in range(1_000)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=333)
    pyarrow.csv.write_csv(table, tmp_path / "b.csv")
    for i in range(0, 1_000, 250):
        pq.write_table(table.slice(i, 250), tmp_path / f"x{i}.parquet")
    (tmp_path / "s").mkdir()
    for i in range(0, 1_000, 250):
        (tmp_path / f"x{i}.parquet").rename(tmp_path / "s" / f"{i}.parquet")
    for source in (table, tmp_path / "a.parquet", tmp_path / "b.csv", tmp_path / "s"):
        batches = list(open_rows(source).batches({"c": "number", "t": "text"}, size))
        assert [len(b) for b in batches] == [min(size, 1_000 - i) for i in range(0, 1_000, size)]
        assert [b.first for b in batches] == list(range(0, 1_000, size))
        assert np.concatenate([numbers(b["c"])[0] for b in batches]).tolist() == list(range(1_000))
        assert [t for b in batches for t in texts(b["t"]).strings()] == table["t"].to_pylist()


def test_very_wide_files_are_read_fewer_rows_at_a_time() -> None:
    table = pa.table({f"c{i}": np.zeros(3_000, np.int8) for i in range(5_000)})
    batches = list(open_rows(table).batches(dict.fromkeys(table.column_names, "number")))
    assert [len(b) for b in batches] == [1_500, 1_500]


def test_a_long_text_in_every_row_of_a_small_file_is_held_once(tmp_path: Path) -> None:
    path = tmp_path / "bomb.parquet"
    one = pa.DictionaryArray.from_arrays(pa.array([0] * 5_000, pa.int32()), ["x" * 1_000_000])
    pq.write_table(pa.table({"c": one}), path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 2_000
    before = pa.total_allocated_bytes()
    (batch,) = open_rows(path).batches({"c": "text"})
    assert texts(batch["c"]).values == ("x" * 1_000_000,)
    assert pa.total_allocated_bytes() - before < 100e6

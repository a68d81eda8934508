"""Folders of part files: their order, their names as columns, and what is no table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from row_reads import csv_file, parquet_file, values_of

from redistill.rowcells import Kind
from redistill.rowcsv import RowFileError
from redistill.rowfiles import open_rows


def test_a_folder_of_part_files_is_one_table_in_natural_order(tmp_path: Path) -> None:
    for i in (10, 2, 1):
        parquet_file(tmp_path, {"c": [i, i]}, f"s.parquet/part-{i}.parquet")
    for name in ("_SUCCESS", "._x.crc", "_temporary/part-9.parquet", ".hidden/a.parquet", "x.txt"):
        csv_file(tmp_path, b"", f"s.parquet/{name}")
    csv_file(tmp_path, b"", "s.parquet/part-3.parquet")  # a writer without rows
    file = open_rows(tmp_path / "s.parquet")
    assert values_of(file, "c", "number") == [1, 1, 2, 2, 10, 10]
    assert file.rows == 6
    (batch,) = file.batches({"c": "number"})
    assert [batch.where(i) for i in (0, 3, 5)] == [
        "row 1 of part-1.parquet", "row 2 of part-2.parquet", "row 2 of part-10.parquet",
    ]  # fmt: skip
    assert batch.modified(5) == (tmp_path / "s.parquet" / "part-10.parquet").stat().st_mtime


def test_a_part_without_a_header_is_no_part(tmp_path: Path) -> None:
    csv_file(tmp_path, b"x,label\n1,yes\n", "s/p0.csv")
    csv_file(tmp_path, b"2,no\n3,yes\n", "s/p1.csv")
    with pytest.raises(RowFileError, match=r"p1.csv has no column of p0.csv"):
        open_rows(tmp_path / "s")


def test_names_of_folders_are_columns(tmp_path: Path) -> None:
    folders = ("land=DE/day=2", "land=a%2Fb/day=10", "land=__HIVE_DEFAULT_PARTITION__/day=3")
    for c, folder in enumerate(folders, 1):
        parquet_file(tmp_path, {"c": [c]}, f"s/{folder}/part.parquet")
    file = open_rows(tmp_path / "s")
    assert file.keys == {"land", "day"}
    kinds: dict[str, Kind] = {"c": "number", "land": "text", "day": "number"}
    found = zip(*(values_of(file, name, kind) for name, kind in kinds.items()), strict=True)
    assert sorted(found) == [(1, "DE", 2), (2, "a/b", 10), (3, None, 3)]
    assert file.kinds(["land", "day"]) == {"land": "text", "day": "number"}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda f: None, "without Parquet or CSV files that hold anything"),
        (lambda f: csv_file(f, "", "_SUCCESS"), "without Parquet or CSV files that hold anything"),
        (lambda f: (csv_file(f, "a\n1\n", "a.csv"), parquet_file(f, {"a": [1]})), "keep one kind"),
        (lambda f: csv_file(f, "{}", "_delta_log/0.json"), "is a table of Delta"),
        (lambda f: csv_file(f, "{}", "metadata/v1.metadata.json"), "is a table of Iceberg"),
        (lambda f: csv_file(f, b"PAR1?", "p.parquet"), r"p\.parquet cannot be read as Parquet"),
    ],
)
def test_a_folder_that_cannot_be_read_is_said(
    tmp_path: Path, make: Callable[[Path], object], said: str
) -> None:
    make(tmp_path)
    with pytest.raises(RowFileError, match=said):
        open_rows(tmp_path)

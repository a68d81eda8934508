"""CSV in every dress, and what is said of one that cannot be read."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from row_reads import csv_file, values_of

from redistill.rowcsv import RowFileError
from redistill.rowfiles import open_rows


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"\xef\xbb\xbfid,x\r\n01,2.5\r\nb,3\r\n", "f.csv"),
        ("id,x\n01,2.5\nb,3\n".encode("utf-16"), "f.csv"),
        (b"id;x\n01;2,5\nb;3\n", "f.csv"),
        (b"id\tx\n01\t2.5\nb\t3\n", "f.tsv"),
        (b"id,x\n01,2.5\nb,3\n", "f.csv.gz"),
        (gzip.compress(b"id,x\n01,2.5\nb,3\n", mtime=0), "f.csv"),
        (b'"id","x"\n"01","2.5"\n"b","3"', "f.txt"),
        (b"id,x\n01,2.5\nb,3\n", "no_suffix"),
        (b"sep=;\r\nid;x\r\n01;2,5\r\nb;3\r\n", "f.csv"),
        (b'\xef\xbb\xbf"sep=,"\n"id","x"\n"01",2.5\nb,3\n', "f.csv"),
        ("sep=\t\nid\tx\n01\t2.5\nb\t3\n".encode("utf-16"), "f.csv"),
    ],
)
def test_csv_comes_in_many_dresses(tmp_path: Path, content: bytes, name: str) -> None:
    file = open_rows(csv_file(tmp_path, content, name))
    assert file.columns == ("id", "x")
    assert values_of(file, "id", "id") == ["01", "b"]
    assert values_of(file, "x", "number") == [2.5, 3.0]


def test_a_quoted_cell_holds_delimiters_lines_and_quotes(tmp_path: Path) -> None:
    path = csv_file(tmp_path, 'c,d\n"a,b",1\n"two\nlines",2\n"say ""hi""",3\n5" pipe,4\n')
    assert values_of(open_rows(path), "c", "text") == ["a,b", "two\nlines", 'say "hi"', '5" pipe']


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        (None, "gone.csv", "cannot be read: there is no file of this name"),
        (b"", "f.csv", "cannot be read as CSV: it is empty"),
        (b"\n \n", "f.csv", "cannot be read as CSV: it is empty"),
        (b"", "f.parquet", "cannot be read as Parquet: it is empty"),
        (b"PAR1 and more", "f.parquet", "cannot be read as Parquet: "),
        (b"no magic", "f.parquet", "cannot be read as Parquet: "),
        (b"\0\1", "f.bin", "is neither Parquet nor CSV"),
        (b'{"a": 1}\n', "f.json", "is neither Parquet nor CSV: it is JSON"),
        ("größe\n1\n".encode("latin-1"), "f.csv", "cannot be read as CSV: 'utf-8' codec .*; save it as UTF-8"),
        ("c,d\ngröße,1\n".encode("latin-1"), "f.csv", "cannot be read as CSV: .*row 1.*; save it as UTF-8"),
        (b"c,d\n1,2\n3\n", "f.csv", "row 2: Expected 2 columns, got 1: 3; a cell that holds the delimiter"),
        (b'c,d\n1,2\n3,"4\n5,6\n', "f.csv", "row 2 opens a quote that is not closed as it should be"),
        (b'c,d\n1,"2\n3,4\n5,"6\n', "f.csv", "row 1 opens a quote that is not closed as it should be"),
        (b'c,"d\n1,2\n', "f.csv", "the header opens a quote that is not closed"),
        (b"sep=;\nc;d\n1;2\n3\n", "f.csv", "row 2: Expected 2 columns, got 1: 3;"),
        (b"# made today\nc,d\n1,2\n", "f.csv", "its first line, '# made today', does not name the columns"),
        (b"Report\nc,d\n1,2\n", "f.csv", "take titles and comments away"),
        (b"c,c\n1,2\n", "f.csv", "has the column 'c' more than once"),
        (gzip.compress(b"c,d\n" + b"1,2\n" * 9_000, mtime=0)[:-9], "f.csv.gz", "cannot be read as CSV: Truncated"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_said_in_a_line(
    tmp_path: Path, content: bytes | None, name: str, said: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RowFileError, match=said) as caught:
        values_of(open_rows(path), "c", "number")
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_row_that_no_block_holds_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redistill.rowcsv.BLOCK_BYTES", 1_000)
    path = csv_file(tmp_path, "c,d\n" + f"{'x' * 5_000},1\n" * 3)
    with pytest.raises(RowFileError, match="a row is longer than"):
        values_of(open_rows(path), "c", "text")


@pytest.mark.parametrize("content", ["c,d", "c,d\n", '"c",d\r\n', "\ufeffc,d", "\nc,d\n\n"])
def test_a_header_alone_is_a_file_without_rows(tmp_path: Path, content: str) -> None:
    file = open_rows(csv_file(tmp_path, content))
    assert file.columns == ("c", "d")
    assert values_of(file, "c", "number") == []
    assert file.kinds(["c"]) == {"c": "number"}


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["1.234", "999,5", "1.234.567,25", "-2.000"], [1234, 999.5, 1234567.25, -2000]),
        (["1.234", "12.5", "999,5"], [1.234, 12.5, 999.5]),
        (["1.234", "0.125"], [1.234, 0.125]),
        (["1.234", "2.345"], [1.234, 2.345]),
    ],
    ids=["decimal commas", "both", "points", "nobody knows"],
)
def test_points_are_thousands_where_numbers_have_decimal_commas(
    tmp_path: Path, cells: list[str], expected: list[float]
) -> None:
    text = "day;x\n" + "".join(f"01.03.2026;{cell}\n" for cell in cells)
    assert values_of(open_rows(csv_file(tmp_path, text)), "x", "number") == expected

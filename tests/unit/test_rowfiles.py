"""What files hold, read by the one reader of rows: (content of a file, kind of column) -> values or an error."""

from __future__ import annotations

import gzip
import math
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from redistill import rowparts
from redistill.rowfiles import Kind, RowFile, RowFileError, open_rows
from redistill.rownames import Names, by_value, number_of
from redistill.rowtimes import times
from redistill.rowvalues import float32, joined, numbers, text_of, texts

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


BIG = 2.0**53
TEN = "2026-03-01T10:00:00"
TYPED: list[tuple[str, Any, Kind, list[Any]]] = [
    # texts and ids
    ("int64", [1, -2, None], "id", ["1", "-2", None]),
    ("uint64", pa.array([2**64 - 1], pa.uint64()), "id", ["18446744073709551615"]),
    ("float ids of pandas", [1001.0, 143349558619.0, None], "id", ["1001", "143349558619", None]),
    ("float beyond 2^53", [BIG, BIG + 2, -BIG - 2], "id", ["9007199254740992", WRONG, WRONG]),
    ("float32", pa.array([0.1, 2.0**24, 2.0**24 + 2], pa.float32()), "id", ["0.1", "16777216", WRONG]),
    ("half", pa.array(np.array([0.1, 2048, 2050], np.float16)), "id", ["0.1", "2048", WRONG]),
    ("fractions", [0.5, 1e-7, -0.0], "text", ["0.5", "1e-07", "0"]),
    ("infinite, NaN", [math.inf, math.nan], "text", [WRONG, None]),
    ("booleans", [True, None, False], "text", ["true", None, "false"]),
    ("decimal", [Decimal("1.50"), Decimal("2.00"), None], "id", ["1.5", "2", None]),
    ("decimal ids", [Decimal("12345678901234567890")], "id", ["12345678901234567890"]),
    ("decimal256", pa.array([Decimal("7.10")], pa.decimal256(60, 4)), "text", ["7.1"]),
    ("bytes", [b"caf\xc3\xa9", b"\xff"], "id", ["café", WRONG]),
    ("fixed bytes", pa.array([b"abcd"], pa.binary(4)), "id", ["abcd"]),
    ("uuid", pa.array([uuid.UUID(int=5).bytes], pa.uuid()), "id", [str(uuid.UUID(int=5))]),
    ("large_string", pa.array(["a", "", None], pa.large_string()), "text", ["a", "", None]),
    ("string_view", pa.array(["NA", "null"], pa.string_view()), "text", ["NA", "null"]),
    ("category", pa.array(["b", None, "a"]).dictionary_encode(), "text", ["b", None, "a"]),
    ("category of numbers", pa.array([7, None]).dictionary_encode(), "text", ["7", None]),
    ("dates", pa.array([0, None], pa.date32()), "text", ["1970-01-01", None]),
    ("times", pa.array([10**6], pa.timestamp("us")), "text", ["1970-01-01T00:00:01"]),
    ("zoned", pa.array([10], pa.timestamp("s", "Asia/Tokyo")), "text", ["1970-01-01T00:00:10Z"]),
    ("nanoseconds", pa.array([1_000_000_001], pa.timestamp("ns")), "text", ["1970-01-01T00:00:01"]),
    ("null type", pa.nulls(2), "text", [None, None]),
    # numbers
    ("int64 beyond 2^53", [2**62], "number", [2.0**62]),
    ("uint64", pa.array([2**63, None], pa.uint64()), "number", [2.0**63, None]),
    ("nullable int", pa.array([1, None], pa.int8()), "number", [1.0, None]),
    ("nullable bool", [True, None, False], "number", [1.0, None, 0.0]),
    ("decimal", [Decimal("1.50"), None], "number", [1.5, None]),
    ("half", pa.array(np.array([0.5], np.float16)), "number", [0.5]),
    ("category of numbers", pa.array([7, None, 7]).dictionary_encode(), "number", [7.0, None, 7.0]),
    ("text of numbers", ["1", " 2.5 ", "+3", "", "nan", "inf"], "number", [1, 2.5, 3, None, None, math.inf]),
    ("a column of texts has no null words", ["n/a", "1"], "number", [WRONG, 1.0]),
    ("text of booleans", ["TRUE", "false"], "number", [1.0, 0.0]),
    ("no numbers", ["1_0", "0x1", "1,5", "٣"], "number", [WRONG] * 4),
    ("bytes", [b"1", None], "number", [WRONG, None]),
    ("null type", pa.nulls(1), "number", [None]),
    # times
    *(
        (f"timestamp {unit} {zone}", pa.array([1772359200 * n, None], pa.timestamp(unit, zone)), "time", [TEN, None])
        for unit, n in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9))
        for zone in (None, "UTC", "America/Lima")
    ),
    ("date32", pa.array([20513, None], pa.date32()), "time", ["2026-03-01T00:00:00", None]),
    ("date64", pa.array([20513 * 86_400_000], pa.date64()), "time", ["2026-03-01T00:00:00"]),
    ("seconds", [1772359200, None], "time", [TEN, None]),
    ("float seconds", [1772359200.25, math.nan, math.inf], "time", [TEN, None, None]),
    ("decimal seconds", [Decimal("1772359200.5")], "time", [TEN]),
    ("milliseconds", [1772359200000], "time", [WRONG]),
    ("beyond every calendar", pa.array([2**60], pa.timestamp("ms")), "time", [WRONG]),
    ("ISO", ["2026-03-01 10:00", "2026-03-01T10:00:00.5"], "time", [TEN, TEN]),
    ("ISO with zones", ["2026-03-01T12:00+02:00", "2026-03-01T10:00:00Z"], "time", [TEN, TEN]),
    ("mixed zones", ["2026-03-01T10:00", "2026-03-01T11:00+01:00", ""], "time", [TEN, TEN, None]),
    ("seconds as text", ["1772359200", "20260301"], "time", [TEN, "2026-03-01T00:00:00"]),
    ("no times", ["soon", "03/01/2026"], "time", [WRONG, WRONG]),
    ("booleans are no times", [True], "time", [WRONG]),
    ("category of times", pa.array([10**6], pa.timestamp("us")).dictionary_encode(), "time", ["1970-01-01T00:00:01"]),
    ("null type", pa.nulls(1), "time", [None]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("column", "kind", "expected"), [c[1:] for c in TYPED], ids=[f"{c[0]}-{c[2]}" for c in TYPED]
)
@pytest.mark.parametrize("held", ["parquet", "memory"])
def test_a_typed_column_has_these_values(
    tmp_path: Path, held: str, column: Any, kind: Kind, expected: list[Any]
) -> None:
    table = pa.table({"c": column})
    if held == "parquet":
        pq.write_table(table, tmp_path / "f.parquet")
    file = open_rows(tmp_path / "f.parquet" if held == "parquet" else table)
    assert values_of(file, "c", kind) == expected
    assert file.rows == len(expected)


CELLS: list[tuple[str, str, Kind, list[Any]]] = [
    ("leading zeros", "01 1 007", "id", ["01", "1", "007"]),
    ("words are ids", "NULL nan NA", "id", ["NULL", "nan", "NA"]),
    ("floats of pandas", '1001.0 "" 143349558619.0', "id", ["1001", None, "143349558619"]),
    ("not all are floats", "1001.0 1002", "id", ["1001.0", "1002"]),
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
    ("content", "name"),
    [
        (b"\xef\xbb\xbfid,x\r\n01,2.5\r\nb,3\r\n", "f.csv"),
        ("id,x\n01,2.5\nb,3\n".encode("utf-16"), "f.csv"),
        (b"id;x\n01;2,5\nb;3\n", "f.csv"),
        (b"id\tx\n01\t2.5\nb\t3\n", "f.tsv"),
        (b"id,x\n01,2.5\nb,3\n", "f.csv.gz"),
        (gzip.compress(b"id,x\n01,2.5\nb,3\n"), "f.csv"),
        (b'"id","x"\n"01","2.5"\n"b","3"', "f.txt"),
        (b"id,x\n01,2.5\nb,3\n", "no_suffix"),
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
        (b'{"a": 1}\n', "f.json", "is neither Parquet nor CSV; it looks like JSON"),
        ("größe\n1\n".encode("latin-1"), "f.csv", "cannot be read as CSV: 'utf-8' codec .*; save it as UTF-8"),
        ("c,d\ngröße,1\n".encode("latin-1"), "f.csv", "cannot be read as CSV: .*row 1.*; save it as UTF-8"),
        (b"c,d\n1,2\n3\n", "f.csv", "row 2: Expected 2 columns, got 1: 3; a cell that holds the delimiter"),
        (b'c,d\n1,2\n3,"4\n5,6\n', "f.csv", "row 2 opens a quote that is not closed as it should be"),
        (b'c,d\n1,"2\n3,4\n5,"6\n', "f.csv", "row 1 opens a quote that is not closed as it should be"),
        (b"c,c\n1,2\n", "f.csv", "has the column 'c' more than once"),
        (gzip.compress(b"c,d\n" + b"1,2\n" * 9_000)[:-9], "f.csv.gz", "cannot be read as CSV: Truncated"),
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


def test_other_columns_of_the_same_name_do_not_matter(tmp_path: Path) -> None:
    assert values_of(open_rows(csv_file(tmp_path, "c,d,d\n1,2,3\n")), "c", "number") == [1.0]


# --- types that a file does not say ---


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


@pytest.mark.parametrize(
    ("parts", "ids", "numbers_", "kind"),
    [
        ([[1, 2], [3.0, None]], ["1", "2", "3", None], [1, 2, 3, None], "number"),
        ([[1], pa.nulls(1)], ["1", None], [1, None], "number"),
        ([[2**60], ["x1"], [2.5]], [str(2**60), "x1", "2.5"], [2.0**60, WRONG, 2.5], "text"),
        ([[1.5] * 200, ["n/a"]], ["1.5"] * 200 + ["n/a"], [1.5] * 200 + [None], "number"),
        ([["a"], pa.array(["b"]).dictionary_encode()], ["a", "b"], [WRONG, WRONG], "text"),
        ([pa.array([1], pa.int32()), [BIG + 2]], ["1", WRONG], [1, BIG + 2], "number"),
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


def test_a_column_that_a_part_lacks_is_missing_there(tmp_path: Path) -> None:
    csv_file(tmp_path, "a,c\n1,2\n", "s/1.csv")
    csv_file(tmp_path, "c,b\n3,x\n", "s/2.csv.gz")
    csv_file(tmp_path, "", "s/3.csv")
    file = open_rows(tmp_path / "s")
    assert file.columns == ("a", "c", "b")
    assert values_of(file, "a", "number") == [1.0, None]
    assert values_of(file, "b", "text") == [None, "x"]
    assert values_of(file, "c", "number") == [2.0, 3.0]


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


def test_each_column_of_ids_is_judged_by_itself(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "a,b\n1.0,1.0\n2.0,x\n")
    (batch,) = open_rows(path).batches({"a": "id", "b": "id"})
    assert texts(batch["a"]).strings() == ["1", "2"]
    assert texts(batch["b"]).strings() == ["1.0", "x"]


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


def test_a_row_that_no_block_holds_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redistill.rowcsv.BLOCK_BYTES", 1_000)
    path = csv_file(tmp_path, "c,d\n" + f"{'x' * 5_000},1\n" * 3)
    with pytest.raises(RowFileError, match="a row is longer than"):
        values_of(open_rows(path), "c", "text")
    assert rowparts.RowFileError is RowFileError


# --- values ---


def test_values_of_a_dictionary_that_do_not_occur_are_none() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([1, None, 1]), pa.array(["a", "b", None]))
    assert texts(column).values == ("b",)


def test_texts_that_become_equal_are_one() -> None:
    found = texts(pa.array(["a", "A", None, "b"])).mapped(lambda t: t.lower() if t < "b" else None)
    assert (found.values, found.strings()) == (("a",), ["a", "a", None, None])


@pytest.mark.parametrize(
    ("classes", "text", "name"),
    [
        (("False", "True"), "true", "True"),
        (("False", "True"), "1", "True"),
        (("0", "1"), "true", "1"),
        (("0", "1"), "1.0", "1"),
        (("01", "02"), "1", "01"),
        (("01", "1"), "1.0", None),  # it could be either
        (("NA", "EU"), "NA", "NA"),
        (("no", "yes"), "Yes", None),
        (("9007199254740992", "9007199254740993"), "9007199254740993.0", "9007199254740993"),
    ],
)
def test_a_class_is_found_as_it_stands_then_by_its_value(
    classes: tuple[str, ...], text: str, name: str | None
) -> None:
    names = Names(classes)
    assert (names.names[names.find(text)] if names.find(text) >= 0 else None) == name


@pytest.mark.parametrize(
    ("classes", "numeric"),
    [(("0", "1"), True), (("False", "True"), True), (("1", "NA"), False), ((), False)],
)
def test_classes_that_are_numbers_make_a_column_of_numbers(
    classes: tuple[str, ...], numeric: bool
) -> None:
    assert Names(classes).numeric == numeric


@pytest.mark.parametrize("text", ["1" * 100_000 + "x", "1e999999999", "-" * 99, "9" * 5_000])
def test_foreign_texts_cost_nothing(text: str) -> None:
    assert by_value(text) == text
    assert number_of(text) in (None, math.inf)


@pytest.mark.parametrize("number", [Decimal("NaN"), Decimal("sNaN"), None, math.nan])
def test_what_is_no_number_is_missing(number: Any) -> None:
    assert text_of(number) is None


def test_what_float32_cannot_hold_is_wrong() -> None:
    values, wrong = float32(np.array([1e39, 1.0, math.nan, -math.inf]))
    assert wrong is not None
    assert wrong.tolist() == [True, False, False, True]
    assert np.isnan(values).tolist() == [True, False, True, True]
    assert float32(np.ones(2))[1] is None


def test_arrays_of_different_types_are_joined() -> None:
    mixed = [pa.array([1, 2]), pa.array(["x", None]), pa.array([1.5])]
    assert joined(mixed, as_numbers=False).to_pylist() == ["1", "2", "x", None, "1.5"]
    assert joined(mixed, as_numbers=True).to_pylist() == [1.0, 2.0, None, None, 1.5]
    assert joined([pa.array([1]), pa.array([2])], as_numbers=False).type == pa.int64()

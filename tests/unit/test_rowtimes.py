"""Times of columns of every type, from files and from memory."""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from row_reads import WRONG, values_of

from redistill.rowfiles import open_rows
from redistill.rowtimes import times

TEN = "2026-03-01T10:00:00"
TYPED: list[tuple[str, Any, list[Any]]] = [
    *(
        (f"timestamp {unit} {zone}", pa.array([1772359200 * n, None], pa.timestamp(unit, zone)), [TEN, None])
        for unit, n in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9))
        for zone in (None, "UTC", "America/Lima")
    ),
    ("date32", pa.array([20513, None], pa.date32()), ["2026-03-01T00:00:00", None]),
    ("date64", pa.array([20513 * 86_400_000], pa.date64()), ["2026-03-01T00:00:00"]),
    ("seconds", [1772359200, None], [TEN, None]),
    ("float seconds", [1772359200.25, math.nan, math.inf], [TEN, None, None]),
    ("decimal seconds", [Decimal("1772359200.5")], [TEN]),
    ("milliseconds", [1772359200000], [WRONG]),
    ("days in digits", [20260301, None], ["2026-03-01T00:00:00", None]),
    ("floats of days", [20260301.0, math.nan], ["2026-03-01T00:00:00", None]),
    ("no days in digits", [20261301], ["1970-08-23T12:08:21"]),
    ("beyond every calendar", pa.array([2**60], pa.timestamp("ms")), [WRONG]),
    ("ISO", ["2026-03-01 10:00", "2026-03-01T10:00:00.5"], [TEN, TEN]),
    ("ISO with zones", ["2026-03-01T12:00+02:00", "2026-03-01T10:00:00Z"], [TEN, TEN]),
    ("mixed zones", ["2026-03-01T10:00", "2026-03-01T11:00+01:00", ""], [TEN, TEN, None]),
    ("words for missing ones", ["NaT", "null", "2026-03-01T10:00"], [None, None, TEN]),
    ("UTC in words", ["2026-03-01 10:00:00 UTC", "2026-03-01 10:00:00.250 UTC"], [TEN, TEN]),
    ("UTC of Java", ["2026-03-01T10:00Z[UTC]", "2026-03-01 10:00:00 GMT", "UTC"], [TEN, TEN, WRONG]),
    ("seconds as text", ["1772359200", "20260301"], [TEN, "2026-03-01T00:00:00"]),
    ("no times", ["soon", "03/01/2026"], [WRONG, WRONG]),
    ("booleans are no times", [True], [WRONG]),
    ("category of times", pa.array([10**6], pa.timestamp("us")).dictionary_encode(), ["1970-01-01T00:00:01"]),
    ("null type", pa.nulls(1), [None]),
]  # fmt: skip


@pytest.mark.parametrize(("column", "expected"), [c[1:] for c in TYPED], ids=[c[0] for c in TYPED])
@pytest.mark.parametrize("held", ["parquet", "memory"])
def test_a_typed_column_has_these_times(
    tmp_path: Path, held: str, column: Any, expected: list[Any]
) -> None:
    table = pa.table({"c": column})
    if held == "parquet":
        pq.write_table(table, tmp_path / "f.parquet")
    file = open_rows(tmp_path / "f.parquet" if held == "parquet" else table)
    assert values_of(file, "c", "time") == expected


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("soon", "'soon', which is not a time: ISO 8601, or seconds since 1970, were expected"),
        (1772359200000, "1772359200000: seconds since 1970 were expected (divide milliseconds"),
        ("1772359200000", "1772359200000: seconds since 1970 were expected (divide milliseconds"),
        (
            1772359200000000,
            "1772359200000000: seconds since 1970 were expected (divide microseconds by 1,000,000,",
        ),
        (
            1772359200000000000,
            "1772359200000000000: seconds since 1970 were expected (divide nanoseconds",
        ),
        (True, "a value of bool, which is not a time"),
    ],
)
def test_what_is_no_time_is_said_with_its_value(value: Any, said: str) -> None:
    found = times(pa.array([None, value, value]))
    assert sorted(found.refused) == [1, 2]
    assert found.refused[1].startswith(said)
    assert found.known.tolist() == [False, False, False]


def test_times_keep_their_microseconds() -> None:
    column = pa.array([1_772_359_200_123_456_999], pa.timestamp("ns", "UTC"))
    assert times(column).us.tolist() == [1_772_359_200_123_456]
    assert times(pa.array(["2026-03-01T10:00:00.123456Z"])).us.tolist() == [1_772_359_200_123_456]

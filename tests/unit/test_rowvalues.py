"""Texts and numbers of columns of every type, from files and from memory."""

from __future__ import annotations

import math
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from row_reads import WRONG, values_of

from redistill.rowcells import Kind
from redistill.rowfiles import open_rows
from redistill.rowvalues import float32, joined, text_of, texts

BIG = 2.0**53
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


def test_values_of_a_dictionary_that_do_not_occur_are_none() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([1, None, 1]), pa.array(["a", "b", None]))
    assert texts(column).values == ("b",)


def test_texts_that_become_equal_are_one() -> None:
    found = texts(pa.array(["a", "A", None, "b"])).mapped(lambda t: t.lower() if t < "b" else None)
    assert (found.values, found.strings()) == (("a",), ["a", "a", None, None])


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

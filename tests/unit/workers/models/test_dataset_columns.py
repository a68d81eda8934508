"""Columns of a file as jobs want them: their values, and what is said of all rows in the end."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from redistill.rowfiles import Batch, open_rows
from redistill.rownames import Names
from redistill.streams.wire.block import Feature
from redistill.workers.models.dataset_columns import (
    CategoryColumn,
    ClassColumn,
    NumberColumn,
    SliceColumn,
    TimeColumn,
    listed,
)

PLACE = "[data] trusted = 'rows.parquet'"
REGION = Feature(name="c", kind="category", values=("EU", "US"))


def batches(column: Any, kind: Any) -> list[Batch]:
    """A column ``c`` in batches of 500 rows."""
    return list(open_rows(pa.table({"c": column})).batches({"c": kind}, 500))


def said_of(column: NumberColumn | CategoryColumn, values: Any) -> tuple[list[str], list[str]]:
    """Problems and warnings about these values."""
    problems: list[str] = []
    warnings: list[str] = []
    for batch in batches(values, column.kind):
        column.add(batch)
    column.judge(PLACE, problems, warnings)
    return problems, warnings


def test_a_number_is_missing_where_the_file_has_none() -> None:
    column = NumberColumn(Feature(name="c"))
    (batch,) = batches([1.5, None, math.nan, -2.0], "number")
    assert column.add(batch).dtype == np.float32
    np.testing.assert_array_equal(column.add(batch), np.float32([1.5, np.nan, np.nan, -2]))


def test_good_numbers_are_not_worth_a_word() -> None:
    limits = Feature(name="c", minimum=0, maximum=2)
    assert said_of(NumberColumn(limits), [0, 2, None]) == ([], [])


@pytest.mark.parametrize(
    ("values", "problems"),
    [
        (["1"] * 700 + ["n/a"], ["c is declared as float, holds text (n/a) in 1 rows, row 701"]),
        (
            ["a", "1", "b", "a", "c", "d", "e"],
            ["c is declared as float, holds text (a, b, c, ... (5 in all)) in 6 rows, the first in row 1"],
        ),
    ],
)  # fmt: skip
def test_what_is_no_number_is_a_problem_with_its_row(
    values: list[Any], problems: list[str]
) -> None:
    said = said_of(NumberColumn(Feature(name="c")), values)
    assert said == ([f"{PLACE}: {p}" for p in problems], [])


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        ([-1.0, 0.0, 3.0, 1.0, None], "c: 2 values outside its declared range"),
        ([None, math.nan], "c has no value at all"),
        (
            [1.0] * 600 + [math.inf, 1e39],
            "c is infinite (as float32) in 2 rows, the first in row 601: missing there, and of a"
            " wrong type in live rows",
        ),
    ],
)
def test_odd_numbers_are_a_warning(values: list[Any], warning: str) -> None:
    column = NumberColumn(Feature(name="c", minimum=0, maximum=2))
    assert said_of(column, pa.array(values, pa.float64())) == ([], [warning])


def test_a_category_is_the_index_of_its_declared_value() -> None:
    (batch,) = batches(["US", None, "EU", "APAC"], "text")
    values = CategoryColumn(REGION).add(batch)
    np.testing.assert_array_equal(values, np.float32([1, np.nan, 0, -1]))


def test_categories_are_found_by_their_value() -> None:
    feature = Feature(name="c", kind="category", values=("True", "2"))
    column = CategoryColumn(feature)
    assert said_of(column, ["true", "2.0", "TRUE"]) == ([], [])


def test_some_values_that_are_not_declared_are_a_warning_and_many_a_problem() -> None:
    some = ["EU"] * 600 + ["JP", "CN", "JP"]
    warning = "c: 3 values that are not declared (JP, CN)"
    assert said_of(CategoryColumn(REGION), some) == ([], [warning])
    half = ["EU", "JP"] * 300
    assert said_of(CategoryColumn(REGION), half)[0] == []
    problem = f"{PLACE}: 601 of 1,201 values of c are not declared (JP; declared: EU, US)"
    assert said_of(CategoryColumn(REGION), [*half, *half, "JP"]) == ([problem], [])


@pytest.mark.parametrize("word", ["1.234,5", "1,234.5", "12.5%", "$ 12", "1 234", "-1'234"])
def test_numbers_as_people_write_them_are_told_how_to_be_written(word: str) -> None:
    (problem,), _ = said_of(NumberColumn(Feature(name="c")), [word] * 600)
    assert "numbers are written as 1234.5" in problem


def test_a_long_value_is_not_told_in_full() -> None:
    (warning,) = said_of(CategoryColumn(REGION), ["EU"] * 600 + ["x" * 100_000])[1]
    assert len(warning) < 200


def test_a_value_without_a_text_is_said_before_values_that_are_not_declared() -> None:
    problems, warnings = said_of(CategoryColumn(REGION), [0.5] * 600 + [math.inf])
    assert (problems, warnings) == ([f"{PLACE}: c is infinite (row 601)"], [])


@pytest.mark.parametrize(
    ("names", "values", "codes"),
    [
        (("no", "yes"), ["yes", " ", None, "no"], [1, -1, -1, 0]),
        (("0", "1"), [1.0, None, 0.0], [1, -1, 0]),
        (("False", "True"), [True, False, None], [1, 0, -1]),
    ],
)
def test_classes_are_found_by_name_and_blank_is_missing(
    names: tuple[str, ...], values: list[Any], codes: list[int]
) -> None:
    column = ClassColumn("c", Names(names))
    for batch in batches(values, column.kind):
        column.add(batch)
    problems: list[str] = []
    assert column.judge(PLACE, problems).tolist() == codes
    assert problems == []


def test_classes_that_are_numbers_are_read_as_codes_and_words_as_texts() -> None:
    assert ClassColumn("c", Names(("0", "1"))).kind == "code"
    assert ClassColumn("c", Names(("1", "NA"))).kind == "text"


def test_values_that_are_no_classes_are_counted_over_all_rows() -> None:
    column = ClassColumn("c", Names(("no", "yes")))
    for batch in batches(["yes", "maybe"] * 400, "text"):
        column.add(batch)
    problems: list[str] = []
    column.judge(PLACE, problems)
    said = f"{PLACE}: 400 values of c are no classes (maybe; classes are no, yes)"
    assert problems == [said]


def times_of(values: Any) -> tuple[list[int], list[str]]:
    column = TimeColumn("c")
    for batch in batches(values, "time"):
        column.add(batch)
    problems: list[str] = []
    return column.judge(PLACE, problems).tolist(), problems


def test_every_row_has_a_time() -> None:
    assert times_of(["1970-01-01T00:00:01Z", "2"]) == ([1_000_000, 2_000_000], [])
    assert times_of([1.0, None, None])[1] == [f"{PLACE}: c is missing in 2 rows"]
    _, (wrong, missing) = times_of(["1"] * 500 + ["soon", "", "later"])
    assert wrong.startswith(f"{PLACE}: c holds 'soon', which is not a time")
    assert wrong.endswith("(row 501)")
    assert missing == f"{PLACE}: c is missing in 1 rows"  # refused ones are not missing


def test_slices_are_texts() -> None:
    column = SliceColumn("c")
    for batch in batches([1.0, None, 2.5] * 200, "text"):
        column.add(batch)
    problems: list[str] = []
    assert column.judge(PLACE, problems)[:3] == ["1", None, "2.5"]
    assert (len(column.values), problems) == (600, [])


@pytest.mark.parametrize("column", [ClassColumn("c", Names(())), TimeColumn("c"), SliceColumn("c")])
def test_a_file_without_rows_has_a_column_without_values(
    column: ClassColumn | TimeColumn | SliceColumn,
) -> None:
    problems: list[str] = []
    assert len(column.judge(PLACE, problems)) == 0
    assert problems == []


def test_only_the_first_of_many_are_listed() -> None:
    assert listed(["a", "b", "c"]) == "a, b, c"
    assert listed(["a", "b", "c", "d"]) == "a, b, c, ... (4 in all)"

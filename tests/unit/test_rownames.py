"""Names that texts stand for, and numbers as people write them."""

from __future__ import annotations

import math

import pytest

from redistill.rownames import Names, by_value, nearly, number_of


@pytest.mark.parametrize(
    ("missing", "there", "alike"),
    [
        ("my_income", "my income", True),
        ("my_income", "my-income", True),
        ("x.1", "x_1", True),
        ("label", " label_", True),
        ("myincome", "my income", False),
        ("x1", "x_2", False),
        ("_", "-", False),  # nothing is left of either
    ],
)
def test_a_column_whose_words_are_joined_otherwise_is_pointed_out(
    missing: str, there: str, alike: bool
) -> None:
    assert (repr(there) in nearly([missing], [there])) is alike


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

"""Rows of a replay: when a label and a prediction are the same."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from redistill.rownames import Names
from redistill.rowvalues import texts
from redistill.streams.replay.rows import answers, codes_of, indices, wrong_rows
from redistill.streams.wire.block import Feature, Schema


def test_labels_and_predictions_of_unknown_classes_are_compared_by_value_where_types_differ() -> (
    None
):
    nobody = Names(())
    numbers, words = pa.array([1.0, 0.0]), pa.array(["1", "0.00"])
    assert wrong_rows(words, numbers, nobody)[0].tolist() == [0, 0]
    assert wrong_rows(words, pa.array(["1.0", "0.00"]), nobody)[0].tolist() == [1, 0]
    assert wrong_rows(words, pa.array([True, False]), nobody)[0].tolist() == [0, 0]
    assert answers(words, None).values == ("1", "0")


def test_known_classes_are_compared_by_what_they_name() -> None:
    names = Names(("no", "yes", "1"))
    label = pa.array(["yes", "1.0", " ", None, "no"])
    wrong, known = wrong_rows(label, pa.array(["yes", "1", "no", "yes", "maybe"]), names)
    assert wrong.tolist() == [0, 0, 0, 0, 1]
    assert known.tolist() == [True, True, False, False, True]


def test_words_for_missing_labels_are_missing_unless_a_class_is_called_so() -> None:
    label, prediction = pa.array(["NaN", "None", "<NA>", "no"]), pa.array(["no"] * 4)
    wrong, known = wrong_rows(label, prediction, Names(("no", "yes")))
    assert (wrong.tolist(), known.tolist()) == ([0, 0, 0, 0], [False, False, False, True])
    wrong, known = wrong_rows(label, prediction, Names(("no", "None", "nan", "<NA>")))
    assert (wrong.tolist(), known.tolist()) == ([0, 1, 1, 0], [False, True, True, True])


def test_a_category_is_the_index_of_its_value() -> None:
    feature = Feature(name="c", kind="category", values=("EU", "US"))
    found = indices(codes_of(texts(pa.array(["US", None, "JP", "EU"]))), feature)
    np.testing.assert_array_equal(found, np.float32([1, np.nan, -1, 0]))


@pytest.mark.parametrize(
    ("declared", "cells"),
    [
        (("False", "True"), pa.array([False, True])),
        (("false", "true"), pa.array(["FALSE", "True"])),
        (("1", "2"), pa.array(["1.0", "2.0"])),
        (("1.0", "2.0"), pa.array([1.0, 2.0])),
        (("0.1", "-3"), pa.array([0.1, -3.0], pa.float32())),
    ],
    ids=["booleans", "capitals", "floats in words", "declared as floats", "float32"],
)
def test_one_value_is_one_category_whatever_wrote_it(
    declared: tuple[str, ...], cells: pa.Array
) -> None:
    feature = Feature(name="c", kind="category", values=declared)
    assert indices(codes_of(texts(cells)), feature).tolist() == [0, 1]
    packed = Schema(features=(feature,)).pack([{"c": v} for v in cells.to_pylist()])
    assert packed.tolist() == [[0], [1]]


def test_values_that_are_declared_apart_stay_apart() -> None:
    feature = Feature(name="c", kind="category", values=("1", "1.0", "01", "true", "True"))
    cells = pa.array(["1", "1.0", "01", "true", "True", "001"])
    assert indices(codes_of(texts(cells)), feature).tolist() == [0, 1, 2, 3, 4, -1]

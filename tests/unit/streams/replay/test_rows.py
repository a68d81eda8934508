"""Rows of a replay: when a label and a prediction are the same."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.csv

from redistill.rownames import Names
from redistill.rowvalues import texts
from redistill.streams.replay.rows import answers, codes_of, indices, wrong_rows
from redistill.streams.wire.block import Feature


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

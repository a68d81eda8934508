"""Rows of a replay: when a label and a prediction are the same."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.csv

from redistill.rownames import Names
from redistill.streams.replay.rows import answers, wrong_rows


def test_labels_and_predictions_of_unknown_classes_are_compared_by_value_where_types_differ() -> (
    None
):
    nobody = Names(())
    numbers, words = pa.array([1.0, 0.0]), pa.array(["1", "0.00"])
    assert wrong_rows(words, numbers, nobody)[0].tolist() == [0, 0]
    assert wrong_rows(words, pa.array(["1.0", "0.00"]), nobody)[0].tolist() == [1, 0]
    assert wrong_rows(words, pa.array([True, False]), nobody)[0].tolist() == [0, 0]
    assert answers(words, None).values == ("1", "0")

"""Columns of a batch are read as the layout types them; another type is told, never guessed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from redistill.streams.errors import WireError
from redistill.streams.wire.arrow_columns import codes_of, floats, is_words, lists


@pytest.mark.parametrize(
    ("column", "codes", "values"),
    [
        (pa.array(["a", None, "b", "a"]), [0, -1, 1, 0], ["a", "b"]),
        (pa.array(["a", "b"], pa.large_utf8()), [0, 1], ["a", "b"]),
        (pa.DictionaryArray.from_arrays(pa.array([1, None, 0]), ["a", "b"]), [1, -1, 0], ["a", "b"]),
        (pa.DictionaryArray.from_arrays(pa.array([1, 0]), pa.array(["a", None])), [-1, 0], ["a", ""]),
    ],
    ids=["text", "large text", "null row", "null word"],
)  # fmt: skip
def test_words_are_codes_and_values(column: Any, codes: list[int], values: list[str]) -> None:
    assert is_words(column.type)
    found, words = codes_of(column, "segment.s")
    assert (found.tolist(), words) == (codes, values)


def test_what_has_no_single_value_a_row_is_named() -> None:
    with pytest.raises(WireError, match=r"segment\.s is of type list"):
        codes_of(pa.array([[1]]), "segment.s")


def test_numbers_have_nan_where_they_are_null() -> None:
    matrix = pa.array([[1, None], None], pa.list_(pa.float32(), 2))
    batch = pa.record_batch({"features": matrix, "latency_ms": pa.array([None, 2.0])})
    np.testing.assert_array_equal(lists(batch, "features", 2), [[1, np.nan], [np.nan, np.nan]])
    np.testing.assert_array_equal(floats(batch, "latency_ms"), [np.nan, 2])
    assert (floats(batch, "sample_rate"), lists(batch, "scores", 0).shape) == (None, (2, 0))

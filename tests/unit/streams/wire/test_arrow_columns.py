"""Columns of a batch are read as the layout types them; another type is told, never guessed."""

from __future__ import annotations

from decimal import Decimal
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
    np.testing.assert_array_equal(floats(batch, "latency_ms", {}), [np.nan, 2])
    assert (floats(batch, "sample_rate", {}), lists(batch, "scores", 0).shape) == (None, (2, 0))


@pytest.mark.parametrize(
    ("column", "values", "counted"),
    [
        (pa.array([1, None]), [1, np.nan], {}),
        (pa.array([Decimal("1.5"), None]), [1.5, np.nan], {}),
        (pa.array([1.5, None]).dictionary_encode(), [1.5, np.nan], {}),
        (pa.nulls(2), None, {}),
        (pa.array(["1", None]), None, {"latency_ms": 1}),
        (pa.array([True, False]), None, {"latency_ms": 2}),
        (pa.array([[1.0], None]), None, {"latency_ms": 1}),
    ],
    ids=["whole", "decimal", "dictionary", "null", "text", "boolean", "list"],
)
def test_numbers_of_any_type_are_read_and_others_counted_as_in_json(
    column: Any, values: list[float] | None, counted: dict[str, int]
) -> None:
    invalid: dict[str, int] = {}
    found = floats(pa.record_batch({"latency_ms": column}), "latency_ms", invalid)
    assert invalid == counted
    if values is None:
        assert found is None
    else:
        np.testing.assert_array_equal(found, values)


LISTS = [[0.25, 0.75], None, [1.0, 0.0]]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float32()),
        pa.list_(pa.float64()),
        pa.large_list(pa.float64()),
        pa.list_(pa.float64(), 2),
        pa.list_(pa.float16(), 2),
    ],
    ids=str,
)
def test_lists_of_one_length_are_read_whatever_numbers_they_hold(kind: Any) -> None:
    batch = pa.record_batch({"scores": pa.array(LISTS, kind)})
    expected = [[0.25, 0.75], [np.nan] * 2, [1, 0]]
    np.testing.assert_array_equal(lists(batch, "scores", -1), expected)
    np.testing.assert_array_equal(lists(batch.slice(1), "scores", -1), expected[1:])


def test_a_tensor_is_its_lists_and_null_alone_is_missing() -> None:
    storage = pa.array(LISTS, pa.list_(pa.float32(), 2))
    tensor = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), [2]), storage)
    assert lists(pa.record_batch({"features": tensor}), "features", 2)[0].tolist() == [0.25, 0.75]
    nothing = pa.record_batch({"features": pa.nulls(2)})
    assert np.isnan(lists(nothing, "features", 3)).all()
    assert lists(nothing, "features", 3).shape == (2, 3)


def test_lists_of_several_lengths_are_told() -> None:
    batch = pa.record_batch({"scores": pa.array([[1.0], [1.0, 2.0]])})
    with pytest.raises(WireError, match="lists of 1 and of 2 numbers"):
        lists(batch, "scores", -1)

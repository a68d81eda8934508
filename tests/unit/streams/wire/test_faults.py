"""What is wrong in a row is counted, and what is left of it is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from redistill.streams.wire.columns import MAX_UNKNOWN
from redistill.streams.wire.faults import Faults, as_float


@pytest.mark.parametrize(
    ("value", "want", "counted"),
    [
        (None, None, 0),
        ([], [], 0),
        ([1, 0.5, None], [1.0, 0.5, np.nan], 0),
        ([10**400], [np.inf], 0),
        ([True], None, 1),
        (["1"], None, 1),
        ("0.5", None, 1),
        ({"a": 1}, None, 1),
        ([0.5] * 10_001, None, 1),
    ],
    ids=lambda v: str(v)[:12],
)
def test_scores_are_numbers_or_nothing(value: Any, want: Any, counted: int) -> None:
    faults = Faults()
    np.testing.assert_equal(faults.scores_of(value), want)
    assert faults.invalid.get("scores", 0) == counted


@pytest.mark.parametrize(
    ("value", "want", "counted"),
    [
        (None, None, 0),
        ({}, {}, 0),
        ({"a": "x", "b": 1, "c": 2.5, "d": None}, {"a": "x", "b": "1", "c": "2.5"}, 0),
        ({"a": True, "b": [1], "c": 2.0}, {"a": "true", "c": "2"}, 1),
        ("web", None, 1),
    ],
)
def test_segments_are_texts(value: Any, want: Any, counted: int) -> None:
    faults = Faults()
    assert faults.segment_of(value) == want
    assert faults.invalid.get("segment", 0) == counted


@pytest.mark.parametrize(
    ("value", "want", "counted"), [(None, None, 0), (3, 3.0, 0), (True, None, 1), ("3", None, 1)]
)
def test_number_is_one_or_counted(value: Any, want: float | None, counted: int) -> None:
    faults = Faults()
    assert faults.number_of("latency_ms", value) == want
    assert faults.invalid.get("latency_ms", 0) == counted


def test_unknown_features_are_named_up_to_a_limit() -> None:
    faults = Faults()
    for i in range(MAX_UNKNOWN + 9):
        faults.unknown(f"x{i}", 1)
    faults.unknown("x0", 2)
    faults.unknown("a\0" * 90, 1)
    assert len(faults.unknown_features) == MAX_UNKNOWN
    assert faults.unknown_features["x0"] == 3


def test_number_of_any_size_is_a_float() -> None:
    assert (as_float(10**400), as_float(-(10**400)), as_float(3)) == (np.inf, -np.inf, 3.0)

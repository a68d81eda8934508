"""Counts of columns against plain comparisons, and how they add up."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redistill.streams.monitor.counts import (
    Counts,
    EdgeLayout,
    columns,
    confidence,
    count,
    count_subwindows,
)
from redistill.streams.wire.block import Codes, PredictionBlock

EDGES = [np.array([0.0, 1.0, 2.5], np.float32), np.array([-1.0], np.float32)]
LAYOUT = EdgeLayout.of(EDGES)
ARRAYS = ("valid", "below", "low", "high", "wrong")


def values(rows: int, seed: int = 0) -> np.ndarray:
    """``(2, rows)`` with missing values and values on the edges."""
    rng = np.random.default_rng(seed)
    x = np.round(rng.normal(size=(2, rows)) * 4).astype(np.float32) / 2
    x[rng.random(x.shape) < 0.1] = np.nan
    return x


def block(**changes: object) -> PredictionBlock:
    made = PredictionBlock(
        model="m",
        version="1",
        ids=["a", "b", "c"],
        served_at=np.arange(3),
        feature_names=("x", "y"),
        features=np.array([[1, 2], [np.inf, 4], [5, np.nan]], np.float32),
        prediction=Codes(np.array([1, -1, 0], np.int32), ("no", "maybe")),
        scores=np.array([[0.2, 0.8], [np.nan, np.nan], [0.6, np.nan]], np.float32),
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def test_counts_are_those_of_plain_comparisons() -> None:
    x = values(700)
    counts = count(x, LAYOUT)
    valid = [column[~np.isnan(column)] for column in x]
    assert counts.rows == 700
    assert counts.valid.tolist() == [len(v) for v in valid]
    direct = [(v < e).sum() for v, edges in zip(valid, EDGES, strict=True) for e in edges]
    assert counts.below.tolist() == direct
    assert counts.low.tolist() == [v.min() for v in valid]
    assert counts.high.tolist() == [v.max() for v in valid]
    assert counts.wrong.tolist() == [0, 0]


def test_a_column_without_values_has_no_bounds() -> None:
    counts = count(np.full((2, 5), np.nan, np.float32), LAYOUT)
    assert counts.valid.tolist() == [0, 0]
    assert counts.below.tolist() == [0, 0, 0, 0]
    assert (counts.low.tolist(), counts.high.tolist()) == ([np.inf] * 2, [-np.inf] * 2)


@given(rows=st.integers(1, 60), at=st.integers(1, 59))
def test_counts_of_two_parts_add_up_to_those_of_the_whole(rows: int, at: int) -> None:
    x, at = values(rows), min(at, rows)
    whole, parts = count(x, LAYOUT), count(x[:, :at], LAYOUT)
    if at < rows:
        parts = parts.plus(count(x[:, at:], LAYOUT))
    assert parts.rows == whole.rows
    for name in ("valid", "below", "low", "high", "wrong"):
        assert (getattr(parts, name) == getattr(whole, name)).all()


def test_subwindows_counted_at_once_are_those_counted_alone() -> None:
    x = values(120)
    together = count_subwindows(x.reshape(2, 3, 40), LAYOUT)
    assert together.rows == 40
    alone = [count(x[:, i : i + 40], LAYOUT) for i in (0, 40, 80)]
    stacked = Counts.stacked(alone)
    for name in ARRAYS:
        assert (getattr(stacked, name) == getattr(together, name)).all()
        for i in range(3):
            assert (getattr(together[i], name) == getattr(alone[i], name)).all()


def test_a_copy_holds_nothing_of_what_it_was_counted_with() -> None:
    one = count_subwindows(values(120).reshape(2, 3, 40), LAYOUT)[1]
    copy = one.copy()
    for name in ARRAYS:
        assert (getattr(copy, name) == getattr(one, name)).all()
        assert getattr(copy, name).base is None


def test_layout_owns_the_edges_of_each_column() -> None:
    assert (LAYOUT.columns, LAYOUT.offsets.tolist()) == (2, [0, 3, 4])


def test_confidence_is_the_largest_score_and_unknown_without_one() -> None:
    assert confidence(block()).tolist() == pytest.approx([0.8, np.nan, 0.6], nan_ok=True)
    assert np.isnan(confidence(block(scores=None))).all()
    assert np.isnan(confidence(block(scores=np.empty((3, 0), np.float32)))).all()
    endless = np.array([[np.inf, 0.1]] * 3, np.float32)
    assert np.isnan(confidence(block(scores=endless))).all()


def test_columns_are_features_then_the_class_then_the_confidence() -> None:
    out = columns(block(), ("x", "y"), ("maybe", "no"))
    expected = [[1, np.nan, 5], [2, 4, np.nan], [0, np.nan, 1], [0.8, np.nan, 0.6]]
    assert out.dtype == np.float32
    for mine, theirs in zip(out.tolist(), expected, strict=True):
        assert mine == pytest.approx(theirs, nan_ok=True)


def test_columns_stand_in_the_order_of_the_profile_and_what_is_not_there_is_missing() -> None:
    out = columns(block(), ("y", "z", "x"), ("no",))
    assert out[0].tolist() == pytest.approx([2, 4, np.nan], nan_ok=True)
    assert np.isnan(out[1]).all()
    assert out[2].tolist() == pytest.approx([1, np.nan, 5], nan_ok=True)
    assert out[3].tolist() == pytest.approx([-1, np.nan, 0], nan_ok=True)  # "maybe" is no class


def test_a_predicted_number_is_taken_as_it_is() -> None:
    out = columns(block(prediction=np.array([0.5, np.inf, 2.0])), ("x",), ())
    assert out[1].tolist() == pytest.approx([0.5, np.nan, 2.0], nan_ok=True)

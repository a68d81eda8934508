"""Calibration error: chance is taken off, intervals hold the truth, a rise is seen in pairs."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from redistill.compress.judge import calibration_error
from redistill.compress.judge.calibration_error import Confidence
from redistill.stats import softmax

TRUE = {1.0: 0.0, 1.5: 0.081, 3.0: 0.183}
"""Error of scores that are so many times too large, from 400,000 rows."""


def scored(n: int, too_sure: float, seed: int) -> Confidence:
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(n, 3)) * 2.0
    labels = (rng.random((n, 1)) > softmax(honest).cumsum(axis=1)).sum(axis=1)
    return Confidence.of((honest * too_sure).astype(np.float32), labels)


@pytest.mark.parametrize("too_sure", TRUE)
def test_the_interval_holds_the_truth(too_sure: float) -> None:
    found = [calibration_error.error(scored(400, too_sure, s), seed=s) for s in range(40)]
    measured = [m for m in found if m is not None]
    hits = sum((m.low or 0.0) <= TRUE[too_sure] <= (m.high or 0.0) for m in measured)
    assert hits >= 34  # 38 are expected; fewer than 34 have a probability of .01 at 95%


def test_chance_is_taken_off() -> None:
    found = [calibration_error.error(scored(400, 1.0, s), seed=s) for s in range(30)]
    values = [m.value for m in found if m is not None]
    assert np.median(values) < 0.02  # with the chance of 15 bins in it: .08
    assert 0.0 in values


def test_a_rise_is_seen_in_pairs_and_no_rise_where_there_is_none() -> None:
    honest, sure = scored(600, 1.0, 1), scored(600, 3.0, 1)
    up = calibration_error.rise(sure, honest, seed=0)
    assert up is not None
    assert up.low is not None
    assert up.low > 0.1
    same = calibration_error.rise(sure, sure, seed=0)
    assert same is not None
    assert same.value == 0.0
    assert (same.low, same.high) == (pytest.approx(0.0, abs=0.03), pytest.approx(0.0, abs=0.03))


def test_few_rows_say_nothing() -> None:
    few = scored(calibration_error.MIN_ROWS - 1, 1.0, 0)
    assert calibration_error.error(few, seed=0) is None
    assert calibration_error.rise(few, few, seed=0) is None


def test_rows_without_an_answer_are_wrong_and_unsure() -> None:
    scores = np.log(np.float32([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.3, 0.7]]))
    scores[1, 0], scores[3, 1] = np.nan, np.inf
    made = Confidence.of(scores, np.array([0, 0, 0, 1]))
    assert made.right.tolist() == [True, False, False, False]
    assert made.sure.tolist() == pytest.approx([0.9, 0.0, 0.8, 0.0])


def test_the_same_seed_gives_the_same_interval() -> None:
    model = scored(300, 1.5, 0)
    first, again, other = (calibration_error.error(model, seed=s) for s in (5, 5, 6))
    assert first == again != other


def test_many_rows_take_no_more_time_and_memory_than_some_thousand() -> None:
    """400 draws of a million rows at once were 3 GB."""
    rng = np.random.default_rng(0)
    many = Confidence(sure=rng.random(200_000), right=rng.random(200_000) < 0.5)
    tracemalloc.start()
    found = calibration_error.rise(many, many, seed=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found is not None
    assert found.value == 0.0, "the same rows of both"
    assert found.low == pytest.approx(0.0, abs=0.01)
    assert found.n == calibration_error.MAX_ROWS
    assert peak < 40e6

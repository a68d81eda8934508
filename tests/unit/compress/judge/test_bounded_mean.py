"""Means of bounded differences: Tango's score, extended."""

from __future__ import annotations

import numpy as np
import pytest

from redistill.compress.judge import intervals
from redistill.compress.judge.bounded_mean import GRID, Differences


@pytest.mark.parametrize("mean", [-0.9, -0.3, -0.02, 0.0, 0.01, 0.5, 0.97])
@pytest.mark.parametrize(
    ("wins", "losses", "n"), [(0, 0, 100), (0, 3, 50), (12, 2, 50), (30, 30, 60), (50, 0, 50)]
)
def test_the_score_of_right_and_wrong_answers_is_tangos(
    wins: int, losses: int, n: int, mean: float
) -> None:
    d = np.repeat([1.0, -1.0, 0.0], [wins, losses, n - wins - losses])
    expected = intervals.paired_score(wins, losses, n, mean)
    assert Differences.of(d).score(mean) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_the_score_falls_and_is_zero_at_the_mean() -> None:
    rows = Differences.of(np.array([0.25, -0.5, 0.0, 0.1, 0.1]))
    scores = [rows.score(m) for m in np.linspace(-0.99, 0.99, 101)]
    assert (np.diff(scores) < 0).all()
    assert rows.score(rows.mean) == 0.0


def test_many_distinct_differences_are_rounded_without_a_change_of_their_mean() -> None:
    d = np.clip(np.random.default_rng(0).normal(0.01, 0.2, 20_000), -1.0, 1.0)
    rows = Differences.of(d)
    assert len(rows.values) <= GRID + 1
    assert rows.n == pytest.approx(20_000)
    assert rows.mean == pytest.approx(d.mean(), abs=1e-12)
    low, high = intervals.paired_mean(d)
    half = 1.96 * d.std() / len(d) ** 0.5
    assert (low, high) == pytest.approx((d.mean() - half, d.mean() + half), abs=1e-4)


def test_no_rows_have_a_mean_of_zero() -> None:
    assert Differences.of(np.empty(0)).mean == 0.0


@pytest.mark.parametrize("value", [-1.0, -0.5, 0.3, 1.0])
def test_one_row_says_hardly_anything(value: float) -> None:
    low, high = intervals.paired_mean(np.array([value]))
    assert -1.0 <= low <= value <= high <= 1.0
    assert high - low > 0.7

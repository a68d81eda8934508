"""Exact interval of a window against the definition it comes from."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from redistill.streams.monitor.intervals import stratified_interval, window_interval


@pytest.mark.parametrize(
    ("correct", "labelled", "rows"), [(180, 200, 2000), (0, 3, 50), (40, 40, 400)]
)
def test_window_interval_is_the_set_of_totals_that_the_sample_does_not_reject(
    correct: int, labelled: int, rows: int
) -> None:
    totals = np.arange(correct, rows - (labelled - correct) + 1)
    above = stats.hypergeom.sf(correct - 1, rows, totals, labelled)
    below = stats.hypergeom.cdf(correct, rows, totals, labelled)
    kept = totals[(above > 0.025) & (below > 0.025)]
    assert window_interval(correct, labelled, rows) == (kept.min() / rows, kept.max() / rows)


def test_window_interval_covers_the_truth_of_the_realised_window() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        right = rng.random(500) < 0.85
        seen = rng.choice(right, 50, replace=False)
        low, high = window_interval(int(seen.sum()), 50, 500)
        covered += low <= right.mean() <= high
    assert covered >= 0.94 * 400


def test_window_interval_is_a_point_when_every_row_has_its_label() -> None:
    assert window_interval(17, 20, 20) == (0.85, 0.85)


def test_window_interval_refuses_impossible_counts() -> None:
    with pytest.raises(ValueError, match="5, 4, 10"):
        window_interval(5, 4, 10)


def test_parts_labelled_with_different_probabilities_cover_the_truth_of_the_whole() -> None:
    rng = np.random.default_rng(1)
    covered, widths = 0, []
    for _ in range(400):
        strata, total = [], 0
        for rows, labelled, rate in ((300, 30, 0.9), (150, 150, 0.6), (50, 25, 0.6)):
            right = rng.random(rows) < rate
            total += int(right.sum())
            strata.append((int(rng.choice(right, labelled, replace=False).sum()), labelled, rows))
        low, high = stratified_interval(strata)
        covered += low <= total / 500 <= high
        widths.append(high - low)
    assert covered >= 0.95 * 400
    assert np.mean(widths) < 0.2  # the labels at random alone: .23


def test_parts_without_rows_say_nothing() -> None:
    assert stratified_interval([]) == (0.0, 1.0)
    assert stratified_interval([(0, 0, 0), (3, 3, 3)]) == (1.0, 1.0)
    assert stratified_interval([(0, 0, 5), (5, 5, 5)]) == (0.5, 1.0)

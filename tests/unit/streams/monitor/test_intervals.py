"""Exact intervals against the definitions they come from."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from redistill.streams.monitor.intervals import (
    clopper_pearson,
    paired_e_value,
    upper_bound,
    window_interval,
)


@pytest.mark.parametrize(("errors", "rows"), [(0, 10), (3, 450), (2000, 20_000)])
def test_upper_bound_is_the_rate_at_which_so_few_errors_have_five_percent(
    errors: int, rows: int
) -> None:
    bound = upper_bound(errors, rows)
    assert stats.binom.cdf(errors, rows, bound) == pytest.approx(0.05, rel=1e-6)


def test_upper_bound_is_one_when_every_row_is_wrong() -> None:
    assert upper_bound(5, 5) == 1.0
    assert upper_bound(0, 0) == 1.0


@pytest.mark.parametrize(("hits", "rows"), [(0, 7), (4, 9), (7, 7)])
def test_clopper_pearson_agrees_with_scipy(hits: int, rows: int) -> None:
    exact = stats.binomtest(hits, rows).proportion_ci(0.95, "exact")
    assert clopper_pearson(hits, rows) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_clopper_pearson_knows_nothing_without_rows() -> None:
    assert clopper_pearson(0, 0) == (0.0, 1.0)


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


def test_paired_e_value_reaches_a_hundred_for_few_clean_wins() -> None:
    better, worse = paired_e_value(11, 0)
    assert better > 100 > 1 > worse
    assert paired_e_value(0, 11) == pytest.approx((worse, better))


def test_paired_e_value_is_one_without_evidence_and_never_overflows() -> None:
    assert paired_e_value(0, 0) == pytest.approx((1.0, 1.0))
    better, worse = paired_e_value(100_000, 10)
    assert better == float("inf")
    assert worse == pytest.approx(0, abs=1e-9)


def test_paired_e_value_seldom_exceeds_twenty_when_both_are_equal() -> None:
    rng = np.random.default_rng(1)
    crossed = 0
    for _ in range(300):
        wins = np.cumsum(rng.random(200) < 0.5)
        crossed += any(paired_e_value(int(w), i + 1 - int(w))[0] >= 20 for i, w in enumerate(wins))
    assert crossed <= 0.05 * 300


def test_paired_e_value_refuses_negative_counts() -> None:
    with pytest.raises(ValueError, match="counts"):
        paired_e_value(-1, 2)

"""Softmax, exact bounds and e-values against the definitions they come from."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special
from scipy import stats as scipy_stats

from redistill import stats

NUMBERS = st.floats(-700, 700)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_agrees_with_scipy_in_the_type_that_it_is_given(dtype: type) -> None:
    logits = np.random.default_rng(0).normal(0, 30, (200, 7)).astype(dtype)
    found = stats.softmax(logits)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, special.softmax(logits, axis=1), rtol=1e-5)


@given(st.lists(NUMBERS, min_size=1, max_size=70))
def test_softmax_of_a_row_is_softmax_with_few_classes_and_with_many(row: list[float]) -> None:
    found = stats.softmax_of_row(row)
    assert found == pytest.approx(stats.softmax(np.array([row]))[0].tolist(), rel=1e-12, abs=0)
    assert sum(found) == pytest.approx(1)


@given(st.lists(NUMBERS, min_size=1, max_size=40), NUMBERS)
def test_softmax_does_not_see_a_shift(row: list[float], shift: float) -> None:
    moved = stats.softmax_of_row([v + shift for v in row])
    assert stats.softmax_of_row(row) == pytest.approx(moved, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize("classes", [3, 50])
def test_softmax_of_a_row_with_nan_is_nan(classes: int) -> None:
    found = stats.softmax_of_row([0.0] * (classes - 1) + [math.nan])
    assert np.isnan(found).all()


@pytest.mark.parametrize(("errors", "rows"), [(0, 10), (3, 450), (2000, 20_000)])
def test_upper_bound_is_the_rate_at_which_so_few_errors_have_five_percent(
    errors: int, rows: int
) -> None:
    bound = stats.upper_bound(errors, rows)
    assert scipy_stats.binom.cdf(errors, rows, bound) == pytest.approx(0.05, rel=1e-6)


def test_upper_bound_is_one_when_every_row_is_wrong() -> None:
    assert stats.upper_bound(5, 5) == 1.0
    assert stats.upper_bound(0, 0) == 1.0


@pytest.mark.parametrize(("hits", "rows"), [(0, 7), (4, 9), (7, 7), (90, 100)])
def test_clopper_pearson_agrees_with_scipy(hits: int, rows: int) -> None:
    exact = scipy_stats.binomtest(hits, rows).proportion_ci(0.95, "exact")
    assert stats.clopper_pearson(hits, rows) == pytest.approx((exact.low, exact.high), abs=1e-12)


@given(st.floats(0.001, 0.999), st.floats(1, 1e4))
def test_clopper_pearson_takes_weighted_rows_and_holds_the_share(share: float, rows: float) -> None:
    low, high = stats.clopper_pearson(share * rows, rows)
    assert 0 <= low < share < high <= 1


def test_clopper_pearson_knows_nothing_without_rows() -> None:
    assert stats.clopper_pearson(0, 0) == (0.0, 1.0)


def crossed(steps: np.ndarray, e_value: Callable[..., float], threshold: float) -> float:
    """Share of runs whose e-value ever reached the threshold; ``steps`` (runs, rows) of -1, 0, 1."""
    wins, losses = (steps == 1).cumsum(axis=1), (steps == -1).cumsum(axis=1)
    known: dict[tuple[int, int, int], bool] = {}
    out = 0
    for w, lo in zip(wins, losses, strict=True):
        for t, (a, b) in enumerate(zip(w.tolist(), lo.tolist(), strict=True)):
            key = (a, b, t + 1 - a - b)
            if key not in known:
                known[key] = e_value(*key) >= threshold
            if known[key]:
                out += 1
                break
    return out / len(steps)


def test_paired_e_value_keeps_its_promise_under_the_null_when_looked_at_after_every_row() -> None:
    steps = np.where(np.random.default_rng(1).random((4_000, 400)) < 0.5, 1, -1)
    share = crossed(steps, lambda w, lo, _: stats.paired_e_value(w, lo)[0], 20.0)
    assert 0.01 < share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 4_000)


def test_paired_e_value_never_favours_a_model_that_is_worse() -> None:
    steps = np.where(np.random.default_rng(2).random((2_000, 400)) < 0.4, 1, -1)
    better = crossed(steps, lambda w, lo, _: stats.paired_e_value(w, lo)[0], 20.0)
    worse = crossed(steps, lambda w, lo, _: stats.paired_e_value(w, lo)[1], 20.0)
    assert better <= 0.01
    assert worse > 0.85


@pytest.mark.parametrize(("wins", "losses"), [(3, 1), (0, 4), (30, 12)])
def test_paired_e_value_is_the_mixture_over_all_odds_above_one_half(wins: int, losses: int) -> None:
    def likelihood_ratio(p: float) -> float:
        return (2 * p) ** wins * (2 * (1 - p)) ** losses

    expected = 2 * integrate.quad(likelihood_ratio, 0.5, 1.0)[0]
    assert stats.paired_e_value(wins, losses)[0] == pytest.approx(expected)


@given(st.integers(0, 60), st.integers(0, 60))
def test_paired_e_value_is_an_average_of_what_the_next_row_brings(wins: int, losses: int) -> None:
    """A martingale at one half: what it is now is the mean of what it can become."""
    now, worse = stats.paired_e_value(wins, losses)
    win = stats.paired_e_value(wins + 1, losses)[0]
    loss = stats.paired_e_value(wins, losses + 1)[0]
    assert (win + loss) / 2 == pytest.approx(now, rel=1e-9)
    assert stats.paired_e_value(losses, wins) == (worse, now)


def test_paired_e_value_survives_counts_beyond_floating_point() -> None:
    assert stats.paired_e_value(100_000, 10) == (math.exp(700.0), 0.0)


def test_paired_e_value_refuses_negative_counts() -> None:
    with pytest.raises(ValueError, match="counts"):
        stats.paired_e_value(-1, 2)


@pytest.mark.parametrize("p_win", [0.0, 0.1])
def test_margin_e_value_keeps_its_promise_at_the_margin(p_win: float) -> None:
    rng, margin = np.random.default_rng(3), 0.05
    draws = rng.random((600, 200))
    steps = np.where(draws < p_win, 1, np.where(draws < 2 * p_win + margin, -1, 0))
    share = crossed(steps, lambda *n: stats.margin_e_value(*n, margin=margin)[0], 20.0)
    assert share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 600)


def test_margin_e_value_finds_a_model_worse_than_the_margin() -> None:
    kept, worse = stats.margin_e_value(10, 60, 430, margin=0.01)
    assert kept < 0.1
    assert worse > 20


@given(st.lists(st.floats(-5_000, 5_000), min_size=1, max_size=50))
def test_log_mean_exp_agrees_with_scipy(logs: list[float]) -> None:
    expected = float(special.logsumexp(logs)) - math.log(len(logs))
    assert stats.log_mean_exp(np.array(logs)) == pytest.approx(expected, rel=1e-12, abs=1e-12)

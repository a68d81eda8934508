"""Softmax and exact bounds against the definitions they come from."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
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

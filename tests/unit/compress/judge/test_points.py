from __future__ import annotations

import numpy as np
import pytest

from redistill.compress.judge.points import change, gap, loss, normal, surely
from redistill.compress.plan import Measure


def known(share: float) -> Measure:
    return Measure(value=share, low=None, high=None, n=0)


def now(share: float, n: int = 200) -> Measure:
    return Measure(value=share, low=share - 0.1, high=share + 0.1, n=n)


def right(*counts: int) -> tuple[np.ndarray, np.ndarray]:
    """(both, first only, second only, none) rows."""
    both, first, second, none = counts
    a = np.repeat([True, True, False, False], [both, first, second, none])
    return a, np.repeat([True, False, True, False], [both, first, second, none])


def test_loss_has_an_interval_that_shrinks_with_the_rows() -> None:
    few, many = loss(known(0.9), now(0.6, 50)), loss(known(0.9), now(0.6, 5_000))
    assert few.value == many.value == pytest.approx(30.0)
    assert few.low is not None
    assert few.high is not None
    assert many.low is not None
    assert few.low < many.low < 30.0 < few.high
    both = loss(Measure(value=0.9, low=0.85, high=0.94, n=100), now(0.6, 50))
    assert both.low is not None
    assert both.low < few.low
    one_sided = loss(known(0.9), now(0.6, 50), miss=0.1)
    assert one_sided.high is not None
    assert one_sided.high < few.high


def test_gap_is_paired_and_wider_where_many_are_looked_at() -> None:
    one = gap(*right(70, 20, 5, 5))
    assert (one.value, one.n) == (15.0, 100)
    assert one.low is not None
    assert one.high is not None
    assert 0.0 < one.low < 15.0 < one.high
    many = gap(*right(70, 20, 5, 5), miss=0.05 / 20)
    assert many.low is not None
    assert many.low < one.low
    # rows on which both are right say nothing about the difference but their number
    assert gap(*right(70, 20, 5, 5)).value == gap(*right(5, 20, 5, 70)).value


def test_change_of_a_gap_carries_the_doubt_of_both() -> None:
    wide = Measure(value=10.0, low=4.0, high=16.0, n=300)
    exact = Measure(value=2.0, low=None, high=None, n=0)
    assert change(wide, exact) == Measure(value=8.0, low=2.0, high=14.0, n=300)
    doubtful = change(wide, Measure(value=2.0, low=-6.0, high=10.0, n=50))
    assert (doubtful.value, doubtful.low, doubtful.high) == (8.0, -2.0, 18.0)


def test_change_covers_the_truth_as_often_as_it_says() -> None:
    rng, hits = np.random.default_rng(0), 0
    for _ in range(300):
        # teacher and student, .9 and .8 now, .9 and .88 then: eight points can be recovered
        base = rng.random(300)
        fresh = gap(base < 0.9, base < 0.8)
        base = rng.random(800)
        hits += _holds(change(fresh, gap(base < 0.9, base < 0.88)), 8.0)
    assert hits >= 0.93 * 300


def _holds(m: Measure, truth: float) -> bool:
    assert m.low is not None
    assert m.high is not None
    return m.low <= truth <= m.high


def test_surely_needs_a_bound() -> None:
    assert surely(normal(3.0, 1.0, 9))
    assert not surely(normal(1.0, 1.0, 9))
    assert not surely(None)
    assert not surely(known(1.0))

"""Sequential test: mixtures against their definition, tempering, and the interval of a change."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

from redistill.streams.monitor.sequential import (
    CEILING,
    Mixture,
    change_point,
    divergence,
    downward,
    exponents,
    inflation,
    upward,
)

FLAT = ((1.0, 1.0),)
"""No inflation."""


def test_divergence_is_zero_at_the_null_and_grows_away_from_it() -> None:
    d = divergence(np.array([0.1, 0.2, 0.4]), 0.1)
    assert d[0] == pytest.approx(0)
    assert d[1] == pytest.approx(0.2 * math.log(2) + 0.8 * math.log(0.8 / 0.9))
    assert d[1] < d[2]


def test_mixture_follows_the_shiryaev_roberts_recursion() -> None:
    alternatives, powers = np.array([0.2, 0.4]), np.array([1.0, 0.5])
    mixture = Mixture(0.1, alternatives, 50.0, powers)
    statistic = np.zeros(2)
    for error in (0, 1, 1, 0, 1, 1, 1):
        likelihood = alternatives if error else 1 - alternatives
        null = 0.1 if error else 0.9
        statistic = (1 + statistic) * (likelihood / null) ** powers
        reached = mixture.update(error)
        assert mixture.statistic == pytest.approx(statistic)
        assert mixture.value == pytest.approx(statistic.mean())
        assert reached == (statistic.mean() >= 50)
    assert reached


def test_rows_of_a_stretch_labelled_whole_count_as_much_as_where_every_row_is() -> None:
    curve = inflation(np.repeat(np.random.default_rng(0).random(500) < 0.1, 20))
    few, whole = (
        upward(0.1, smallest=0.02, threshold=1e5, share=s, curve=curve) for s in (0.1, 1.0)
    )
    random = few.copy()
    for error in (1, 0, 1, 1):
        few.update(error, dense=True)
        whole.update(error)
        random.update(error)
    # the powers of the whole are those of its own threshold and share: the same here
    assert few.statistic == pytest.approx(whole.statistic)
    assert few.value < random.value
    alone = upward(0.1, smallest=0.02, threshold=1e5, share=0.1, curve=FLAT)
    same = alone.copy()
    alone.update(1, dense=True)
    same.update(1)
    assert (alone.statistic == same.statistic).all()  # of independent errors nothing is taken off


def test_mixture_stays_finite_however_many_errors_come() -> None:
    mixture = Mixture(0.01, np.array([0.9]), 1e4, np.array([1.0]))
    for _ in range(500):
        reached = mixture.update(1)
    assert reached
    assert mixture.value == CEILING


def test_mixture_under_its_null_rarely_reaches_the_threshold() -> None:
    rng = np.random.default_rng(0)
    firsts = []
    for _ in range(40):
        mixture = upward(0.1, smallest=0.02, threshold=200.0, share=1.0, curve=FLAT)
        run = (i for i in range(5_000) if mixture.update(int(rng.random() < 0.1)))
        firsts.append(next(run, 5_000))
    assert np.mean(firsts) > 200  # the promise: rows to a false alarm in the mean


def test_mixture_copy_is_independent() -> None:
    mixture = upward(0.1, smallest=0.02, threshold=1e4, share=1.0, curve=FLAT)
    twin = mixture.copy()
    twin.update(1)
    assert mixture.value == 0.0 < twin.value


def test_upward_alternatives_lie_above_the_null_by_the_smallest_loss() -> None:
    mixture = upward(0.1, smallest=0.05, threshold=1e4, share=1.0, curve=FLAT)
    assert len(mixture.statistic) == 6  # 5, 8, 13, 21, 34 and 55 points
    assert mixture.delay(0.1) == math.inf
    assert mixture.delay(0.2) == pytest.approx(118.0, abs=0.1)
    assert mixture.delay(0.5) < mixture.delay(0.2) < math.inf
    assert len(upward(0.97, smallest=0.5, threshold=1e4, share=1.0, curve=FLAT).statistic) == 1


def test_downward_mixture_takes_the_healthy_rate_for_an_alternative() -> None:
    down = partial(downward, threshold=1e3, share=1.0, curve=FLAT, inflation_rows=64)
    with_healthy, without = down(0.3, healthy=0.1), down(0.3, healthy=0.01)
    assert (len(with_healthy.statistic), len(without.statistic)) == (8, 7)  # up to 21 points
    for _ in range(60):
        with_healthy.update(0)
    assert with_healthy.value > 1e3
    assert len(down(0.005, healthy=0.0).statistic) == 1


def test_downward_mixture_is_tempered_by_inflation_as_far_as_it_is_read() -> None:
    curve = ((1.0, 1.0), (64.0, 2.0), (512.0, 8.0))  # a slow wave of errors
    grown = []
    for rows in (64, 1_000):
        mixture = downward(
            0.19, healthy=0.15, threshold=1e4, share=1.0, curve=curve, inflation_rows=rows
        )
        for _ in range(200):
            mixture.update(0)
        grown.append(mixture.value)
    assert grown[0] > 1e4 > grown[1]


def test_change_point_looks_at_suffixes_of_the_least_length_only() -> None:
    counts, errors = np.ones(300, int), np.r_[np.tile([0, 1], 100), np.zeros(100, int)]
    lucky = change_point(counts, errors, 0.4, upwards=False)
    assert (lucky.rows, lucky.errors) == (100, 0)
    longer = change_point(counts, errors, 0.4, upwards=False, least=150)
    assert (longer.rows, longer.errors) == (150, 25)
    assert longer.high <= 150


def test_inflation_grows_where_errors_come_in_runs_and_not_where_they_do_not() -> None:
    rng = np.random.default_rng(1)
    independent = rng.random(4_000) < 0.2
    assert max(v for _, v in inflation(independent)) < 1.3
    runs = np.repeat(rng.random(400) < 0.2, 10)
    curve = inflation(runs)
    assert [b for b, _ in curve] == [1, 4, 8, 16, 32, 64, 128]
    assert [v for _, v in curve] == sorted(v for _, v in curve)
    assert curve[-1][1] > 5
    assert inflation(np.zeros(4_000)) == FLAT
    assert inflation(np.array([], int)) == FLAT


def test_change_point_is_the_suffix_of_the_largest_likelihood_ratio() -> None:
    rng = np.random.default_rng(2)
    errors = (rng.random(200) < np.repeat([0.1, 0.5], 100)).astype(int)
    best = change_point(np.ones(200, int), errors, 0.1, upwards=True)
    gains = []
    for start in range(200):
        rate = errors[start:].mean()
        gain = (200 - start) * float(divergence(np.array([rate]), 0.1)[0])
        gains.append(gain if rate > 0.1 else -1.0)
    assert best.start == len(gains) - 1 - int(np.argmax(gains[::-1]))
    assert best.errors == errors[best.start :].sum()
    near = [i for i, gain in enumerate(gains) if gain >= max(gains) - math.log(20)]
    assert (best.low, best.high) == (near[0], near[-1])


def test_change_point_downwards_looks_for_fewer_errors() -> None:
    errors = np.r_[np.tile([1, 0], 50), np.zeros(60, int)]
    found = change_point(np.ones(160, int), errors, 0.5, upwards=False)
    assert (found.start, found.rows, found.errors, found.rate) == (99, 61, 0, 0.0)


def test_change_point_without_a_suffix_on_its_side_is_no_range() -> None:
    found = change_point(np.ones(4, int), np.zeros(4, int), 0.5, upwards=True)
    assert (found.low, found.start, found.high) == (3, 3, 3)


def test_change_point_counts_the_rows_of_folded_entries() -> None:
    counts, errors = np.array([32, 32, 1, 1]), np.array([3, 30, 1, 1])
    found = change_point(counts, errors, 0.1, upwards=True)
    assert (found.start, found.rows, found.errors) == (1, 34, 32)


def test_tempering_halves_the_exponents_where_errors_come_in_runs() -> None:
    rng = np.random.default_rng(5)
    clumped = np.repeat(rng.random(2_000) < 0.1, 10).astype(int)
    rates = np.array([0.15, 0.3])
    loose = exponents(inflation(clumped), 0.105, rates, threshold=1e5, share=1.0)
    tight = exponents(inflation(rng.permutation(clumped)), 0.105, rates, threshold=1e5, share=1.0)
    assert (loose < 0.5).all()
    assert (tight > 0.8).all()
    sparse = exponents(inflation(clumped), 0.105, rates, threshold=1e5, share=0.05)
    assert (sparse > loose).all()


def test_change_point_interval_holds_the_true_start() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(40):
        errors = np.r_[rng.random(600) < 0.1, rng.random(120) < 0.4].astype(int)
        s = change_point(np.ones(720, int), errors, 0.1, upwards=True)
        assert s.low <= s.start <= s.high
        held += s.low <= 600 <= s.high
    assert held >= 38

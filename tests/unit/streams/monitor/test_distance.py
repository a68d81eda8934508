"""Distances of histograms against their definitions, and the noise floor against simulation."""

from __future__ import annotations

import numpy as np
import pytest

from redistill.streams.monitor.distance import distances


def test_distances_agree_with_their_definitions() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(1, 100, 7).astype(float), rng.integers(1, 100, 7).astype(float)
    c = rng.integers(1, 100, 3).astype(float)
    d = distances(
        np.concatenate([c, a]), np.concatenate([c, b]), np.array([0, 3]), np.array([3, 7])
    )
    p, q = (a + 0.5) / (a.sum() + 3.5), (b + 0.5) / (b.sum() + 3.5)
    assert d.psi[1] == pytest.approx(((p - q) * np.log(p / q)).sum())
    middle = (p + q) / 2
    js = (p * np.log(p / middle)).sum() / 2 + (q * np.log(q / middle)).sum() / 2
    assert d.js[1] == pytest.approx(js)
    assert d.ks[1] == pytest.approx(np.abs(np.cumsum(p) - np.cumsum(q)).max())
    assert (d.psi[0], d.ks[0]) == (0, 0)


def test_values_that_rose_have_a_positive_direction() -> None:
    starts, sizes = np.array([0, 3]), np.array([3, 3])
    low, high = [60.0, 30.0, 10.0], [10.0, 30.0, 60.0]
    d = distances(np.array(low + high), np.array(high + low), starts, sizes)
    assert d.rising[0] > 0 > d.rising[1]
    assert d.rising[0] == pytest.approx(-d.rising[1])


def test_columns_that_cannot_be_compared_have_no_distance_and_no_floor() -> None:
    reference = np.array([10.0, 10.0, 0.0, 0.0, 20.0])
    window = np.array([0.0, 0.0, 5.0, 5.0, 10.0])
    d = distances(reference, window, np.array([0, 2, 4]), np.array([2, 2, 1]))
    assert (d.psi.tolist(), d.js.tolist(), d.ks.tolist()) == ([0] * 3, [0] * 3, [0] * 3)
    assert d.floor.tolist() == [np.inf] * 3


def test_an_unchanged_window_stays_below_the_floor_nineteen_times_of_twenty() -> None:
    rng = np.random.default_rng(0)
    shares = np.array([0.1, 0.2, 0.3, 0.25, 0.15])
    below = []
    for _ in range(600):
        reference, window = rng.multinomial(8_000, shares), rng.multinomial(2_000, shares)
        d = distances(reference.astype(float), window.astype(float), np.array([0]), np.array([5]))
        below.append(d.psi[0] < d.floor[0])
    assert np.mean(below) == pytest.approx(0.95, abs=0.025)


def test_the_floor_shrinks_with_the_rows() -> None:
    def floor(rows: float) -> float:
        bins = np.full(4, rows / 4)
        return float(distances(bins, bins, np.array([0]), np.array([4])).floor[0])

    assert floor(400) == pytest.approx(10 * floor(4_000))

"""Distances of histograms against their definitions, and the noise floors against simulation."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from redistill.streams.monitor.config import DistanceName
from redistill.streams.monitor.distance import DISTANCES, Histograms


def histograms(reference: list[float], window: list[float], *sizes: int) -> Histograms:
    starts = np.cumsum([0, *sizes[:-1]])
    return Histograms(np.array(reference), np.array(window), starts, np.array(sizes))


def test_each_distance_can_be_chosen_and_each_choice_is_one() -> None:
    assert list(DISTANCES) == list(get_args(DistanceName))
    assert all(d.name == name for name, d in DISTANCES.items())


def test_distances_agree_with_their_definitions() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(1, 100, 7).astype(float), rng.integers(1, 100, 7).astype(float)
    c = rng.integers(1, 100, 3).astype(float)
    h = histograms([*c, *a], [*c, *b], 3, 7)
    p, q = (a + 0.5) / (a.sum() + 3.5), (b + 0.5) / (b.sum() + 3.5)
    middle = (p + q) / 2
    js = (p * np.log(p / middle)).sum() / 2 + (q * np.log(q / middle)).sum() / 2
    ends = np.concatenate([[0], np.cumsum(q) - np.cumsum(p)])
    wanted = {
        "psi": ((p - q) * np.log(p / q)).sum(),
        "js": js,
        "ks": np.abs(ends).max(),
        "wasserstein": (p * (np.abs(ends[1:]) + np.abs(ends[:-1])) / 2).sum(),
    }
    for name, distance in DISTANCES.items():
        assert distance.of(h) == pytest.approx([0, wanted[name]], abs=1e-12)


def test_wasserstein_is_by_how_much_of_the_reference_values_moved() -> None:
    reference = [100.0] * 20
    moved = histograms(reference, [0.0, 0.0, *[100.0] * 17, 300.0], 20)
    assert DISTANCES["wasserstein"].of(moved)[0] == pytest.approx(0.1, abs=0.01)


def test_values_that_rose_have_a_positive_direction() -> None:
    low, high = [60.0, 30.0, 10.0], [10.0, 30.0, 60.0]
    rising = histograms(low + high, high + low, 3, 3).rising
    assert rising[0] > 0 > rising[1]
    assert rising[0] == pytest.approx(-rising[1])


@pytest.mark.parametrize("name", DISTANCES)
def test_columns_that_cannot_be_compared_have_no_distance_and_no_floor(name: str) -> None:
    h = histograms([10.0, 10.0, 0.0, 0.0, 20.0], [0.0, 0.0, 5.0, 5.0, 10.0], 2, 2, 1)
    assert DISTANCES[name].of(h).tolist() == [0] * 3
    assert DISTANCES[name].floor(h, 0.05).tolist() == [np.inf] * 3


@pytest.mark.parametrize("level", [0.05, 0.01, 0.001])
@pytest.mark.parametrize("name", DISTANCES)
def test_unchanged_windows_exceed_the_floor_as_often_as_is_said(name: str, level: float) -> None:
    rng = np.random.default_rng(0)
    shares = np.full(20, 0.05)
    draws, distance = 20_000, DISTANCES[name]
    reference = rng.multinomial(20_000, shares, draws).astype(float).ravel()
    window = rng.multinomial(2_000, shares, draws).astype(float).ravel()
    h = Histograms(reference, window, np.arange(draws) * 20, np.full(draws, 20))
    above = float((distance.of(h) > distance.floor(h, level)).mean())
    error = 3 * np.sqrt(level / draws)
    assert above <= 1.25 * level + error
    # twenty edges see less than all values do: Kolmogorov's distribution is cautious
    assert above >= (0.3 if name == "ks" else 0.7) * level - error


@pytest.mark.parametrize("name", DISTANCES)
def test_the_floor_shrinks_with_the_rows(name: str) -> None:
    def floor(rows: float) -> float:
        bins = [rows / 4] * 4
        return float(DISTANCES[name].floor(histograms(bins, bins, 4), 0.05)[0])

    assert floor(400) == pytest.approx(10 ** DISTANCES[name].inflation * floor(4_000))

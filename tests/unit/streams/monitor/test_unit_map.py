"""Unit maps: what leads one distribution to another, and that its bounds hold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from redistill.streams.monitor.unit_map import Known, UnitMap, unit_map

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
DRAWS: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(50, 10, n),
    "signed": lambda rng, n: rng.normal(0, 1, n),
    "lognormal": lambda rng, n: rng.lognormal(0, 1.5, n),
    "exponential": lambda rng, n: rng.exponential(3, n),
    "counts": lambda rng, n: rng.poisson(40, n).astype(float),
}


def known(x: NDArray[np.float64], at: NDArray[np.float64]) -> Known:
    ordered = np.sort(x)
    return Known(at, np.searchsorted(ordered, at), len(x))


def mapped(
    draw: Draw, change: Callable[[NDArray[np.float64]], NDArray[np.float64]], seed: int
) -> UnitMap | None:
    rng = np.random.default_rng(seed)
    x, y = draw(rng, 10_000), change(draw(rng, 500))
    size = float(np.median(np.abs(x)))
    powers = size * 2.0 ** np.arange(-20, 21)
    near = np.median(x) + size * np.arange(-8, 9) / 2
    at = np.unique(np.concatenate([np.quantile(x, np.arange(1, 20) / 20), powers, -powers, near]))
    ends = np.unique(np.concatenate([at, [y.min(), np.nextafter(y.max(), np.inf)]]))
    return unit_map(known(x, at), known(y, ends))


@pytest.mark.parametrize("factor", [0.001, 0.01, 2.54, 60.0, 1_024.0])
@pytest.mark.parametrize("name", DRAWS)
def test_a_factor_lies_between_its_bounds(name: str, factor: float) -> None:
    for seed in range(20):
        found = mapped(DRAWS[name], lambda x: factor * x, seed)
        assert found is not None
        assert found.kind == "factor"
        assert found.slope.low <= factor <= found.slope.high
        assert found.slope.low <= found.slope.value <= found.slope.high


@pytest.mark.parametrize("offset", [-300.0, 273.15])
def test_an_offset_lies_between_its_bounds(offset: float) -> None:
    for seed in range(20):
        found = mapped(DRAWS["signed"], lambda x: x + offset, seed)
        assert found is not None
        assert found.kind == "offset"
        assert found.intercept.low <= offset <= found.intercept.high


def test_a_line_lies_between_its_bounds() -> None:
    for seed in range(5):
        found = mapped(lambda rng, n: rng.normal(20, 8, n), lambda x: 1.8 * x + 32, seed)
        assert found is not None
        assert found.kind == "line"
        assert found.slope.low <= 1.8 <= found.slope.high
        assert found.intercept.low <= 32 <= found.intercept.high


@pytest.mark.parametrize(
    "change",
    [
        lambda x: np.where(x > 0, 40.0, -40.0),
        lambda x: np.where(np.arange(len(x)) % 2, x, 1_000 * x),
    ],
)
def test_another_shape_has_no_map(
    change: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> None:
    skewed: Draw = lambda rng, n: rng.exponential(3, n) - 3  # noqa: E731
    assert mapped(skewed, change, 0) is None


def test_what_no_edge_tells_has_no_bound() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=10_000), rng.normal(size=500) / 1_000
    at = np.array([-1.0, 0.0, 1.0])
    found = unit_map(known(x, at), known(y, at), ("factor",))
    assert found is not None
    assert (found.slope.low, found.slope.high > 0.001) == (0.0, True)


def test_nothing_is_known_of_no_rows() -> None:
    at = np.array([0.0, 1.0])
    assert unit_map(Known(at, np.array([0, 0]), 0), Known(at, np.array([1, 2]), 2)) is None

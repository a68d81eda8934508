"""Unit changes: quartiles from counts, steps between levels, and what is another unit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from monitor_blocks import NUMBERS, REGION, SCHEMA, SHARE, block, features

from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.counts import Counts, columns, count
from redistill.streams.monitor.observe import observe
from redistill.streams.monitor.reference import build_profile
from redistill.streams.monitor.units import (
    STEP_SUBWINDOWS,
    quartiles,
    shaped_by,
    steps,
    suspects,
    unit_changes,
)
from redistill.streams.wire.block import Codes, Feature, PredictionBlock, Schema
from redistill.streams.wire.events import DriftFound

PROFILE = build_profile(block(features(20_000, 0)), SCHEMA)
SHAPED = shaped_by(PROFILE)


def counted(x: np.ndarray) -> Counts:
    return count(columns(block(x, 1), SCHEMA.names, PROFILE.classes), PROFILE.layout)


def test_only_continuous_numbers_without_two_declared_bounds_have_a_unit() -> None:
    assert SHAPED.columns.tolist() == list(range(NUMBERS))
    assert not {REGION, SHARE} & set(SHAPED.columns.tolist())
    assert SHAPED.usual == pytest.approx(0.5, abs=0.06)


def test_quartiles_are_near_those_of_the_values() -> None:
    x = features(500, 1)
    direct = np.quantile(x[:, :NUMBERS], [0.25, 0.5, 0.75], axis=0)
    assert quartiles(counted(x), PROFILE) == pytest.approx(direct, abs=0.12)


def test_quartiles_of_values_beyond_all_edges_stay_within_the_values() -> None:
    x = features(500, 1)
    x[:, 0] = x[:, 0] * 10 + 1e6
    shape = quartiles(counted(x), PROFILE)[:, 0]
    assert (x[:, 0].min() <= shape).all()
    assert (shape <= x[:, 0].max()).all()
    assert (np.diff(shape) >= 0).all()


def test_too_few_values_have_no_quartiles() -> None:
    x = features(500, 1)
    x[:451, 3] = np.nan
    x[:450, 4] = np.nan
    missing = np.isnan(quartiles(counted(x), PROFILE)).all(axis=0)
    assert missing.tolist() == [j == 3 for j in range(NUMBERS)]


@given(seed=st.integers(0, 1_000), size=st.sampled_from((150, 500, 497)))
def test_quartiles_of_many_subwindows_are_those_of_each(seed: int, size: int) -> None:
    parts = [counted(features(size, seed + i)) for i in range(3)]
    together = quartiles(Counts.stacked(parts), PROFILE)
    for mine, part in zip(together, parts, strict=True):
        assert np.array_equal(mine, quartiles(part, PROFILE), equal_nan=True)


def test_steps_need_two_subwindows_at_rest_on_both_sides() -> None:
    def subwindow(median: float, width: float) -> np.ndarray:
        return np.array([[median - width / 2], [median], [median + width / 2]])

    rest, mixed, far = subwindow(0, 1), subwindow(1, 3), subwindow(5, 2)
    scale, shift = steps([rest, rest, mixed, far, far])
    assert (round(float(np.exp(scale[0])), 6), shift[0]) == (2.0, 5.0)
    for history in (
        [rest, rest, mixed, far],
        [rest, subwindow(2, 1), mixed, far, far],
        [rest, rest, mixed, far, subwindow(8, 2)],
        [rest, rest, mixed, far, subwindow(5, np.nan)],
    ):
        assert not steps(history).any()


def test_steps_are_looked_for_in_the_last_subwindows_only() -> None:
    rest, far = np.array([[-0.5], [0.0], [0.5]]), np.array([[4.5], [5.0], [5.5]])
    assert not steps([]).any()
    assert steps([rest] * 4).shape == (2, 1)
    assert steps([rest, rest, far, far, far])[1] == 5.0
    assert not steps([rest, rest, *[far] * STEP_SUBWINDOWS]).any()


def history(x: np.ndarray) -> list[np.ndarray]:
    """Two subwindows as ever, one between, two of ``x``."""
    usual, changed = (quartiles(counted(rows), PROFILE) for rows in (features(500, 9), x))
    return [usual, usual, (usual + changed) / 2, changed, changed]


@pytest.mark.parametrize(("factor", "offset"), [(1.8, 3.2), (100.0, 0.0), (0.01, 0.0)])
def test_another_scale_is_told_with_its_slope(factor: float, offset: float) -> None:
    x = features(500, 1)
    x[:, 2] = x[:, 2] * factor + offset
    (change,) = unit_changes(counted(x), PROFILE, history(x))
    assert (change.column, change.rows) == (2, 500)
    assert change.slope == pytest.approx(factor, rel=0.5, abs=0.02)
    assert suspects(counted(x), PROFILE).tolist() == [j == 2 for j in range(NUMBERS)]


def test_another_zero_is_told() -> None:
    x = features(500, 1)
    x[:, 2] += 273.15
    (change,) = unit_changes(counted(x), PROFILE, history(x))
    assert (change.column, change.outside) == (2, 1.0)
    assert change.intercept == pytest.approx(273, abs=2)


def test_without_a_step_it_is_no_change_of_unit_unless_one_was_told_before() -> None:
    x = features(500, 1)
    x[:, 2] = x[:, 2] * 1.8 + 3.2
    still = [quartiles(counted(x), PROFILE)] * 5
    assert unit_changes(counted(x), PROFILE, still) == []
    assert [c.column for c in unit_changes(counted(x), PROFILE, None)] == [2]


@pytest.mark.parametrize(("factor", "offset"), [(1.0, 3.0), (2.5, 0.0), (0.6, 0.0)])
def test_a_shift_or_another_spread_is_no_change_of_unit(factor: float, offset: float) -> None:
    x = features(500, 1)
    x[:, 2] = x[:, 2] * factor + offset
    assert unit_changes(counted(x), PROFILE, history(x)) == []


def test_another_shape_is_no_change_of_unit() -> None:
    x = features(500, 1)
    x[:, 2] = np.where(np.arange(500) % 2 == 0, -40.0, 40.0)
    assert suspects(counted(x), PROFILE)[2]
    assert unit_changes(counted(x), PROFILE, history(x)) == []


def test_healthy_and_constant_columns_are_no_suspects() -> None:
    x = features(500, 1)
    x[:, 5] = 99.0
    x[:450, 6] = np.nan
    x[450:, 6] = 99.5
    assert not suspects(counted(x), PROFILE).any()


SKEWED: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "normal": lambda rng, n: rng.normal(50, 10, n),
    "lognormal": lambda rng, n: rng.lognormal(3, 1.2, n),
    "long tail": lambda rng, n: rng.lognormal(3, 2, n),
    "exponential": lambda rng, n: rng.exponential(1, n),
    "half zeros": lambda rng, n: np.where(rng.random(n) < 0.5, 0, rng.exponential(5, n)),
    "mostly zeros": lambda rng, n: np.where(rng.random(n) < 0.7, 0, rng.lognormal(1, 1, n)),
    "cents": lambda rng, n: np.round(rng.lognormal(3, 1, n), 2),
    "counts": lambda rng, n: rng.poisson(40, n).astype(float),
}
FACTORS = (1_024.0, 60.0, 0.01, 1 / 1_024)


def watched(x: np.ndarray) -> list[DriftFound]:
    """Findings about inputs of a version that nobody registered."""
    names = tuple(f"x{i}" for i in range(x.shape[1]))
    schema = Schema(features=tuple(Feature(name=name) for name in names), classes=("a",))
    config = WatchConfig(model="credit", schema=schema)
    state, profile, found = None, None, []
    for first in range(0, len(x), 700):
        rows = x[first : first + 700].astype(np.float32)
        n = len(rows)
        observed = observe(
            state,
            PredictionBlock(
                model="credit",
                version="7",
                ids=[str(first + i) for i in range(n)],
                served_at=np.arange(first, first + n) * 1_000_000,
                feature_names=names,
                features=rows,
                prediction=Codes(np.zeros(n, np.int32), ("a",)),
                scores=np.ones((n, 1), np.float32),
            ),
            profile=profile,
            config=config,
            partition=("topic", 0),
        )
        state, profile = observed.state, observed.learned or profile
        found += observed.findings
    return [f for f in found if f.kind == "quality"]


@pytest.mark.parametrize("name", SKEWED)
def test_units_are_told_by_a_profile_from_traffic_after_an_incident(name: str) -> None:
    rng = np.random.default_rng(12)
    x = SKEWED[name](rng, (22_000, len(FACTORS)))
    x[11_300:12_900] = np.where(rng.random((1_600, len(FACTORS))) < 0.6, np.nan, x[11_300:12_900])
    x[18_137:] *= FACTORS
    found = [f for f in watched(x) if f.window.start.timestamp() > 16_000]
    assert [(f.detector.name, f.scope) for f in found] == [
        ("contract.unit_change", f"x{i}") for i in range(len(FACTORS))
    ]
    for f, factor in zip(found, FACTORS, strict=True):
        assert f.window.end.timestamp() < 18_137 + 1_500
        if f.impact.current is not None:  # half a column of zeros may be too little to tell
            assert f.impact.low is not None
            assert f.impact.high is not None
            assert f.impact.low <= factor <= f.impact.high
            assert f.impact.high <= 4 * f.impact.low
    told = [f for f in found if f.impact.current is not None]
    assert len(told) == len(found) or name == "mostly zeros"


@pytest.mark.parametrize("name", SKEWED)
def test_skewed_columns_that_stay_or_breathe_have_no_other_unit(name: str) -> None:
    x = SKEWED[name](np.random.default_rng(5), (30_000, 2))
    x[:, 1] *= np.exp(np.sin(np.arange(30_000) * 2 * np.pi / 4_000))
    assert watched(x) == []


def test_a_second_unit_is_told_after_the_first_was_mended() -> None:
    x = np.random.default_rng(3).lognormal(0, 1, (34_000, 1))
    x[12_137:16_211] *= 100
    x[26_137:] *= 1_024
    found = watched(x)
    assert [f.status for f in found] == ["open", "resolved", "open"]
    assert found[2].impact.low is not None
    assert found[2].impact.high is not None
    assert found[2].impact.low <= 1_024 <= found[2].impact.high


def test_kelvins_and_celsius_are_told_apart_by_what_lies_between_them() -> None:
    x = np.random.default_rng(3).normal(310, 1, (24_000, 1))
    x[16_137:] -= 273.15
    (found,) = watched(x)
    assert "about the usual value - 273 [27" in found.reason
    assert " x the usual value" not in found.reason

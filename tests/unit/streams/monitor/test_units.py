"""Unit changes: quartiles from counts, steps between levels, and what is another unit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from monitor_blocks import NUMBERS, REGION, SCHEMA, SHARE, block, features

from redistill.streams.monitor.counts import Counts, columns, count
from redistill.streams.monitor.reference import build_profile
from redistill.streams.monitor.units import (
    STEP_SUBWINDOWS,
    quartiles,
    shaped_by,
    steps,
    suspects,
    unit_changes,
)

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
    x[:401, 3] = np.nan
    x[:400, 4] = np.nan
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

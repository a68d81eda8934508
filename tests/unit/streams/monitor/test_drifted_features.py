"""Drifted features: how they are ranked, and when a person would say that they drifted."""

from __future__ import annotations

import numpy as np
import pytest
from monitor_blocks import REGION, SCHEMA, block, features

from redistill.streams.monitor.counts import Counts, columns, count
from redistill.streams.monitor.drifted_features import DriftedFeature, drifted_features
from redistill.streams.monitor.reference import build_profile

PROFILE = build_profile(block(features(20_000, 0)), SCHEMA)


def counted(x: np.ndarray) -> Counts:
    return count(columns(block(x, 1), SCHEMA.names, PROFILE.classes), PROFILE.layout)


def feature(psi: float, floor: float, **changes: object) -> DriftedFeature:
    plain = {"ks": 0.1, "rising": 0.0, "column": PROFILE.columns[0], **changes}
    return DriftedFeature(
        index=0,
        psi=psi,
        floor=floor,
        threshold=max(0.25, 5 * floor),
        **plain,  # type: ignore[arg-type]
    )


def test_noise_floor_is_exceeded_by_about_five_percent_of_unchanged_windows() -> None:
    above = [
        [m.psi > m.floor for m in drifted_features(counted(features(1_000, 100 + i)), PROFILE)]
        for i in range(40)
    ]
    assert 0.01 < np.mean(above) < 0.09


def test_features_that_drifted_come_first_with_their_direction() -> None:
    x = features(2_000, 3)
    x[:, 4] += 1
    x[:, 6] -= 0.5
    ranked = [m.contributor for m in drifted_features(counted(x), PROFILE)]
    assert [(c.column, c.direction) for c in ranked[:2]] == [("x4", "up"), ("x6", "down")]
    assert ranked[0].value > 10 * ranked[0].noise_floor


def test_all_columns_that_can_be_compared_are_told_each_with_its_threshold() -> None:
    x = features(2_000, 3)
    x[:, 2] = np.nan
    told = drifted_features(counted(x), PROFILE)
    assert {f.index for f in told} == set(range(12)) - {2}
    assert all(f.column is PROFILE.columns[f.index] for f in told)
    assert all(f.threshold == max(0.25, 5 * f.floor) for f in told)
    assert [f.ratio for f in told] == sorted((f.ratio for f in told), reverse=True)


def test_the_floor_is_no_lower_than_the_reference_s_own_windows() -> None:
    x = features(20_000, 0)
    x[:, 0] += np.repeat([0.0, 1.5], 2_000).tolist() * 5
    seasonal = build_profile(block(x), SCHEMA)
    window = count(columns(block(x[:2_000]), SCHEMA.names, seasonal.classes), seasonal.layout)
    told = {f.index: f for f in drifted_features(window, seasonal)}
    assert told[0].floor == pytest.approx(seasonal.usual_distances[0])
    assert told[0].floor > 5 * told[1].floor
    assert not told[0].far


@pytest.mark.parametrize(
    ("psi", "floor", "far", "near"),
    [
        (0.26, 0.01, True, False),
        (0.24, 0.01, False, False),
        (0.26, 0.06, False, False),
        (0.09, 0.01, False, True),
        (0.12, 0.05, False, True),
        (0.13, 0.05, False, False),
    ],
)
def test_far_and_near_need_both_the_customary_limit_and_the_floor(
    psi: float, floor: float, far: bool, near: bool
) -> None:
    assert (feature(psi, floor).far, feature(psi, floor).near) == (far, near)


@pytest.mark.parametrize(
    ("rising", "direction"), [(0.15, "up"), (-0.15, "down"), (0.05, "mixed"), (-0.05, "mixed")]
)
def test_a_number_s_direction_is_mixed_where_it_is_not_clear(rising: float, direction: str) -> None:
    told = feature(0.5, 0.1, rising=rising).contributor
    assert (told.column, told.distance, told.value, told.noise_floor, told.direction) == (
        "x0",
        "psi",
        0.5,
        0.1,
        direction,
    )


def test_a_category_has_no_direction() -> None:
    told = feature(0.5, 0.1, rising=0.3, column=PROFILE.columns[REGION]).contributor
    assert told.direction is None

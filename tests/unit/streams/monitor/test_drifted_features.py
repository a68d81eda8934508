"""Drifted features: how they are ranked, and when a person would say that they drifted."""

from __future__ import annotations

import numpy as np
import pytest
from monitor_blocks import REGION, SCHEMA, block, features

from redistill.streams.monitor.config import DistanceName
from redistill.streams.monitor.counts import Counts, columns, count
from redistill.streams.monitor.distance import DISTANCES
from redistill.streams.monitor.drifted_features import (
    CONTRIBUTOR_SHARE,
    DriftedFeature,
    drifted_features,
)
from redistill.streams.monitor.reference import build_profile
from redistill.streams.wire.block import Codes, Feature, PredictionBlock, Schema

PROFILE = build_profile(block(features(20_000, 0)), SCHEMA)


def counted(x: np.ndarray) -> Counts:
    return count(columns(block(x, 1), SCHEMA.names, PROFILE.classes), PROFILE.layout)


def feature(psi: float, floor: float, **changes: object) -> DriftedFeature:
    plain = {"ks": 0.1, "rising": 0.0, "column": PROFILE.columns[0], **changes}
    plain |= {"value": psi, "noise": 2 * floor, "part": 0.5}
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


STATIONARY = {
    "independent": 0.0,
    "in runs": 0.9,
}


def stationary(n: int, seed: int, memory: float) -> np.ndarray:
    """Twelve columns whose rows depend on those before them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 12))
    for i in range(1, n):
        x[i] = memory * x[i - 1] + np.sqrt(1 - memory**2) * x[i]
    return x.astype(np.float32)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("memory", STATIONARY.values(), ids=[*STATIONARY])
def test_stationary_windows_have_a_contributor_as_often_as_is_said(
    distance: DistanceName, memory: float
) -> None:
    schema = Schema(features=tuple(Feature(name=f"x{i}") for i in range(12)), classes=("a",))

    def rows(x: np.ndarray) -> PredictionBlock:
        n = len(x)
        return PredictionBlock(
            model="m",
            version="1",
            ids=[""] * n,
            served_at=np.arange(n),
            feature_names=schema.names,
            features=x,
            prediction=Codes(np.zeros(n, np.int32), ("a",)),
            scores=None,
        )

    windows = 200
    x = stationary(20_000 + 2_000 * windows, 11, memory)
    profile = build_profile(rows(x[:20_000]), schema)
    with_any = 0
    for i in range(windows):
        window = rows(x[20_000 + 2_000 * i :][:2_000])
        counts = count(columns(window, schema.names, profile.classes), profile.layout)
        told = drifted_features(counts, profile, distance=distance)
        with_any += any(feature.clear for feature in told)
    allowed = (
        0.03 if memory else CONTRIBUTOR_SHARE
    )  # of few windows the inflation is not well known
    assert with_any <= windows * allowed + 2 * np.sqrt(windows * allowed)


@pytest.mark.parametrize("distance", DISTANCES)
def test_features_that_drifted_come_first_by_their_part_in_the_shift(
    distance: DistanceName,
) -> None:
    x = features(2_000, 3)
    x[:, 4] += 1
    x[:, 6] -= 0.5
    x[:, REGION] = np.where(np.arange(2_000) % 3 == 0, 2, x[:, REGION])
    ranked = drifted_features(counted(x), PROFILE, distance=distance)
    told = [m.contributor for m in ranked if m.clear]
    assert [(c.column, c.direction) for c in told] == [
        ("x4", "up"),
        ("region", None),
        ("x6", "down"),
    ]
    assert {c.column: c.distance for c in told}["x4"] == distance
    assert {c.column: c.distance for c in told}["region"] == (
        distance if distance in ("psi", "js") else "psi"
    )
    assert sum(m.part for m in ranked) == pytest.approx(1)
    assert ranked[0].part > 0.5


def test_all_columns_that_can_be_compared_are_told_each_with_its_threshold() -> None:
    x = features(2_000, 3)
    x[:, 2] = np.nan
    told = drifted_features(counted(x), PROFILE)
    assert {f.index for f in told} == set(range(12)) - {2}
    assert all(f.column is PROFILE.columns[f.index] for f in told)
    assert all(f.threshold == max(0.25, 5 * f.floor) for f in told)
    assert [f.part for f in told] == sorted((f.part for f in told), reverse=True)


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
        0.2,
        direction,
    )


def test_a_category_has_no_direction() -> None:
    told = feature(0.5, 0.1, rising=0.3, column=PROFILE.columns[REGION]).contributor
    assert told.direction is None

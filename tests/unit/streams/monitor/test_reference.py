"""Profiles: what is learned from reference rows, and that it can be stored."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from monitor_blocks import REGION, SCHEMA, SHARE, block, features

from redistill.streams.monitor.counts import columns, count
from redistill.streams.monitor.drifted_features import drifted_features
from redistill.streams.monitor.input_profile import Profile, ReferenceVariability
from redistill.streams.monitor.reference import build_profile, outside, quantiles_of
from redistill.streams.wire.block import Codes, Feature, PredictionBlock, Schema

REFERENCE = block(features(20_000, 0))
PROFILE = build_profile(REFERENCE, SCHEMA)


def counted(x: np.ndarray):  # type: ignore[no-untyped-def]
    values = columns(block(x, 1), SCHEMA.names, PROFILE.classes)
    return count(values, PROFILE.layout)


def test_roles_are_told_apart() -> None:
    x = features(5_000, 2)
    x[:, 0] = np.arange(5_000)
    found = build_profile(block(x), SCHEMA)
    assert [c.role for c in found.columns[:2]] == ["clock", "number"]
    assert found.columns[REGION].role == "category"
    assert found.columns[SHARE].bounded
    assert [c.name for c in found.columns[-2:]] == ["prediction", "score"]


def test_variability_holds_the_worst_stretch_of_the_reference() -> None:
    x = features(5_000, 2)
    x[1_000:1_500, 0] = np.where(np.arange(500) % 2 == 0, np.nan, x[1_000:1_500, 0])
    x[2_000:2_500, 1] += 4
    found = build_profile(block(x), SCHEMA)
    assert found.columns[0].variability.missing == 0.5
    assert found.columns[1].variability.shift > 2
    assert found.columns[2].variability.shift < 0.5


def test_classes_are_those_of_the_predictions_when_none_are_declared() -> None:
    schema = dataclasses.replace(SCHEMA, classes=())
    found = build_profile(REFERENCE, schema)
    assert found.classes == ("no", "yes")
    numbers = dataclasses.replace(REFERENCE, prediction=np.linspace(0, 1, 20_000))
    assert build_profile(numbers, schema).columns[-2].role == "clock"


@pytest.mark.parametrize("rows", [0, 1, 10])
def test_hardly_any_rows_make_a_profile_all_the_same(rows: int) -> None:
    found = build_profile(block(features(rows, 0)), SCHEMA)
    assert found.rows == rows
    assert Profile.from_bytes(found.to_bytes()).digest == found.digest
    assert drifted_features(counted(features(500, 1)), PROFILE)


def test_a_reference_without_predictions_and_scores_compares_neither() -> None:
    bare = dataclasses.replace(
        REFERENCE, prediction=Codes(np.full(20_000, -1, np.int32), ()), scores=None
    )
    found = build_profile(bare, SCHEMA)
    assert [c.valid for c in found.columns[-2:]] == [0, 0]
    assert not found.bins.compared[-2:].any()


def test_values_of_a_category_that_occurred_once_are_counted_and_rare_ones_share_a_bin() -> None:
    names = tuple(f"v{i}" for i in range(30))
    schema = Schema(features=(Feature(name="x", kind="category", values=names),))
    codes = np.repeat(np.arange(30), [*([20] * 22), 1, 1, 1, *([2] * 5)]).astype(np.float32)
    column = build_profile(rows_of(codes, schema), schema).columns[0]
    assert (column.once, column.distinct, column.valid) == (3, 30, len(codes))
    assert column.edges == tuple(np.arange(31) - 0.5)
    assert column.below[:3] == (0, 20, 40)
    # unseen values, and whatever is not among the 20 most frequent, are in bin 0
    assert column.groups == (0, *range(1, 21), *([0] * 11))
    assert column.role == "category"


@pytest.mark.parametrize(
    ("values", "role"),
    [
        (np.arange(100.0), "clock"),
        (-np.arange(100.0), "clock"),
        (np.arange(19.0), "number"),
        (np.repeat(np.arange(9.0), 10), "number"),
        (np.tile(np.arange(50.0), 2), "number"),
    ],
)
def test_values_that_only_grow_or_fall_are_a_clock(values: np.ndarray, role: str) -> None:
    schema = Schema(features=(Feature(name="x"),))
    found = build_profile(rows_of(values, schema), schema)
    assert found.columns[0].role == role
    assert bool(found.uncompared) == (role == "clock")


def test_a_category_whose_values_hardly_repeat_is_an_identifier() -> None:
    schema = Schema(
        features=(Feature(name="x", kind="category", values=tuple(f"u{i}" for i in range(40))),)
    )
    repeated = np.repeat(np.arange(20.0), 2)
    unique = build_profile(rows_of(np.arange(40.0), schema), schema)
    assert unique.columns[0].role == "identifier"
    assert unique.uncompared == (
        "column 'x' hardly repeats a value, as ids do: its distribution is not compared",
    )
    usual = build_profile(rows_of(repeated, schema), schema)
    assert usual.columns[0].role == "category"
    assert usual.uncompared == ()


def test_a_value_that_fills_quantiles_has_a_bin_of_its_own() -> None:
    values = np.r_[np.zeros(400), np.random.default_rng(0).normal(size=600)]
    schema = Schema(features=(Feature(name="x"),))
    column = build_profile(rows_of(values, schema), schema).columns[0]
    marks = [column.edges[i] for i in column.coarse]
    zero = marks.index(0.0)
    assert marks[zero + 1] == np.nextafter(np.float32(0), np.float32(1))
    assert column.top == 0.4


def test_declared_bounds_are_edges_that_split_legal_values_from_others() -> None:
    schema = Schema(features=(Feature(name="x", minimum=-1.0, maximum=2.0),))
    values = np.array([-1.5, -1.0, 0.0, 2.0, 2.5])
    column = build_profile(rows_of(values, schema), schema).columns[0]
    below = dict(zip(column.edges, column.below, strict=True))
    assert below[-1.0] == 1
    assert below[float(np.nextafter(np.float32(2), np.float32(3)))] == 4


def test_variability_tells_unseen_values_and_the_range_of_slopes_and_medians() -> None:
    x = features(4_000, 2)
    x[:, REGION] = np.repeat([0, 1, 0, 2, 0, 1, 0, 1], 500)
    x[2_500:3_000, REGION] = np.arange(500) % 2
    x[1_000:1_500, 1] *= 3
    found = build_profile(block(x), SCHEMA)
    assert found.columns[REGION].variability.unseen == 0.0
    late = x.copy()
    late[:2_000, REGION] = 0
    assert build_profile(block(late), SCHEMA).columns[REGION].variability.unseen == 0.5
    own, usual = found.columns[1].variability, found.columns[2].variability
    assert own.scale_high > 2 > 1.5 > usual.scale_high
    assert 0.5 < usual.scale_low <= 1
    assert own.outside > 0.03 > usual.outside


def test_a_reference_of_one_subwindow_tells_no_variability() -> None:
    found = build_profile(block(features(999, 2)), SCHEMA)
    assert {c.variability for c in found.columns} == {ReferenceVariability()}
    assert build_profile(block(features(1_000, 2)), SCHEMA).columns[0].variability.shift > 0


def test_quantiles_from_counts_are_those_of_values_spread_evenly_between_edges() -> None:
    edges = np.array([0.0, 10.0, 20.0], np.float32)
    assert quantiles_of(np.array([0, 5, 10]), 10, edges, 0.0, 20.0).tolist() == [2, 5, 10, 15, 18]
    assert quantiles_of(np.array([0, 0, 10]), 10, edges, 12.0, 18.0)[2] == 15.0
    assert quantiles_of(np.array([10, 10, 10]), 10, edges, -8.0, -4.0).tolist() == pytest.approx(
        [-7.6, -7, -6, -5, -4.4]
    )


def test_the_share_outside_is_never_said_too_large() -> None:
    edges = np.array([0.0, 10.0, 20.0], np.float32)
    below = np.array([2, 5, 9])
    assert outside(below, 10, edges, 0.0, 20.0) == pytest.approx(0.2)
    assert outside(below, 10, edges, 5.0, 15.0) == pytest.approx(0.3)
    assert outside(below, 10, edges, -5.0, 25.0) == 0.0
    assert outside(below, 0, edges, 0.0, 20.0) == 0.0


def rows_of(values: np.ndarray, schema: Schema) -> PredictionBlock:
    n = len(values)
    return PredictionBlock(
        model="m",
        version="1",
        ids=[""] * n,
        served_at=np.arange(n),
        feature_names=schema.names,
        features=values.astype(np.float32)[:, None],
        prediction=Codes(np.zeros(n, np.int32), ("a",)),
        scores=None,
    )

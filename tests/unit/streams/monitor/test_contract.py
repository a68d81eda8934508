"""What counts as broken, and the many things that move without being broken."""

from __future__ import annotations

import math

import numpy as np
import pytest
from monitor_blocks import CONFIG, REGION, SCHEMA, SHARE, block, features

from redistill.stats import upper_bound
from redistill.streams.monitor.contract import Breach, breaches, quiet
from redistill.streams.monitor.counts import Counts, columns, count
from redistill.streams.monitor.input_profile import Profile
from redistill.streams.monitor.observe import observe
from redistill.streams.monitor.reference import build_profile
from redistill.streams.monitor.units import quartiles, suspects
from redistill.streams.wire.block import Codes, Feature, PredictionBlock, Schema
from redistill.streams.wire.events import DriftFound

PROFILE = build_profile(block(features(20_000, 0)), SCHEMA)


def quality(x: np.ndarray, profile=PROFILE) -> list[DriftFound]:  # type: ignore[no-untyped-def]
    step = observe(None, block(x, 3), profile=profile, config=CONFIG, partition=("t", 0))
    return [f for f in step.findings if f.kind == "quality"]


def one_column(
    values: np.ndarray, reference: np.ndarray, feature: Feature | None = None
) -> list[DriftFound]:
    """Quality findings on a single column."""
    schema = Schema(features=(feature or Feature(name="x"),))

    def rows(x: np.ndarray) -> PredictionBlock:
        n = len(x)
        return PredictionBlock(
            model="m",
            version="1",
            ids=[""] * n,
            served_at=np.arange(n) * 1_000_000,
            feature_names=schema.names,
            features=x.astype(np.float32)[:, None],
            prediction=Codes(np.zeros(n, np.int32), ("a",)),
            scores=None,
        )

    profile = build_profile(rows(reference), schema)
    step = observe(None, rows(values), profile=profile, config=CONFIG, partition=("t", 0))
    return [f for f in step.findings if f.kind == "quality"]


def test_missing_values_are_told_within_a_subwindow() -> None:
    x = features(4_000, 1)
    x[2_000:, 1] = np.where(np.arange(2_000) % 5 < 2, np.nan, x[2_000:, 1])
    (found,) = quality(x)
    assert (found.scope, found.impact.metric, found.severity) == ("x1", "missing_rate", "critical")
    assert found.impact.current == pytest.approx(0.4)
    assert found.impact.reference == 0.0
    assert found.statistic.value > found.statistic.threshold
    assert found.at.timestamp() == 2_499


def test_a_few_missing_values_are_told_by_the_window_only() -> None:
    x = features(4_000, 1)
    x[2_000:, 1] = np.where(np.arange(2_000) % 12 == 0, np.nan, x[2_000:, 1])
    (found,) = quality(x)
    assert (found.severity, found.at.timestamp()) == ("warning", 3_999)


def test_values_outside_the_declared_range_are_told_and_inside_it_nothing_is() -> None:
    x = features(4_000, 1)
    x[2_000:, SHARE] = x[2_000:, SHARE] * 0.01 + 0.97  # another unit, were it not declared
    assert quality(x) == []
    x[2_000:, SHARE] += 0.025
    (found,) = quality(x)
    assert (found.scope, found.impact.metric) == ("share", "out_of_range_rate")


@pytest.mark.parametrize(
    ("bounds", "values", "broken"),
    [
        ({"minimum": 0.0}, -0.5, True),
        ({"minimum": 0.0}, 9.0, False),
        ({"maximum": 1.0}, 1.5, True),
        ({"maximum": 1.0}, -9.0, False),
    ],
)
def test_one_declared_bound_is_enough_and_says_nothing_of_the_other_side(
    bounds: dict[str, float], values: float, broken: bool
) -> None:
    reference = np.random.default_rng(0).random(4_000)
    x = np.where(np.arange(4_000) % 3 == 0, values, reference)
    found = one_column(x, reference, Feature(name="x", **bounds))  # type: ignore[arg-type]
    rules = {f.detector.name for f in found}
    assert ("contract.out_of_range" in rules) == broken


def test_unseen_categories_are_told() -> None:
    x = features(4_000, 1)
    x[2_000:, REGION] = np.where(np.arange(2_000) % 3 == 0, -1, x[2_000:, REGION])
    (found,) = quality(x)
    assert (found.scope, found.impact.metric) == ("region", "unseen_rate")


@pytest.mark.parametrize(
    ("factor", "offset"), [(1.8, 3.2), (100.0, 0.0), (0.01, 0.0), (1.0, 273.15), (0.4, 12.0)]
)
def test_another_unit_is_told_within_three_subwindows(factor: float, offset: float) -> None:
    x = features(8_000, 1)
    x[4_100:, 2] = x[4_100:, 2] * factor + offset
    found = [f for f in quality(x) if f.status == "open"]
    assert [(f.scope, f.impact.metric) for f in found] == [("x2", "scale_ratio")]
    assert found[0].at.timestamp() <= 5_999


def test_a_unit_that_is_mended_ends_its_finding() -> None:
    x = features(16_000, 1)
    x[4_000:8_000, 2] = x[4_000:8_000, 2] * 1.8 + 3.2
    assert [f.status for f in quality(x)] == ["open", "resolved"]


@pytest.mark.parametrize("shift", [1.5, -3.0, 5.0])
def test_a_plain_shift_of_inputs_is_not_broken(shift: float) -> None:
    x = features(8_000, 1)
    x[4_000:, 2] += shift
    assert quality(x) == []


@pytest.mark.parametrize("factor", [0.5, 1.5, 2.5])
def test_a_wider_or_narrower_mix_is_not_broken(factor: float) -> None:
    x = features(8_000, 1)
    x[4_000:, :4] *= factor
    assert quality(x) == []


def test_a_stuck_sensor_is_told_after_two_subwindows() -> None:
    x = features(8_000, 1)
    x[4_000:, 5] = 0.25
    found = [f for f in quality(x) if f.status == "open"]
    assert [(f.scope, f.impact.metric, f.at.timestamp()) for f in found] == [
        ("x5", "constant_rate", 4_999)
    ]


def test_outlier_bursts_are_not_broken() -> None:
    x = features(40_000, 2)
    for at in range(1_000, 40_000, 2_500):
        x[at : at + 50, :8] *= 10
    assert quality(x) == []


@pytest.mark.parametrize("shuffled", [False, True])
def test_seasons_and_wandering_columns_are_not_broken(shuffled: bool) -> None:
    rng = np.random.default_rng(5)
    t = np.arange(60_000)
    for period, noise in ((1_440, 0.3), (10_080, 0.1)):
        x = np.sin(2 * np.pi * t / period) + noise * rng.normal(size=len(t))
        reference = rng.permutation(x[:20_000]) if shuffled else x[:20_000]
        assert one_column(x[20_000:], reference) == []
    slow = np.cumsum(rng.normal(size=60_000)) * 0.02
    slow -= np.arange(60_000) * (slow[-1] / 60_000)
    reference = rng.permutation(slow[:20_000]) if shuffled else slow[:20_000]
    assert one_column(slow[20_000:], reference) == []


def test_counters_and_times_may_leave_the_range_of_the_reference() -> None:
    t = np.arange(30_000.0)
    assert one_column(t[10_000:], t[:10_000]) == []


def test_nearly_constant_columns_break_nothing_when_they_come_to_life() -> None:
    rng = np.random.default_rng(1)
    corner = np.where(rng.random(10_000) < 0.002, rng.random(10_000), 0.0)
    veil = 0.39 + 0.01 * rng.random(10_000)
    assert one_column(np.concatenate([corner[:4_000], veil]), corner) == []


def test_identifiers_are_not_unseen_categories() -> None:
    names = tuple(f"u{i}" for i in range(1_000))
    reference = np.arange(1_000)
    feature = Feature(name="x", kind="category", values=names)
    assert one_column(np.full(4_000, -1.0), reference, feature) == []


def test_a_reference_of_ten_rows_allows_much_but_not_everything() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(size=10)
    assert one_column(rng.normal(size=4_000) * 50, reference) == []
    (found,) = one_column(np.full(4_000, np.nan), reference)
    assert found.impact.metric == "missing_rate"


def test_a_column_that_was_always_missing_is_not_missed() -> None:
    assert one_column(np.full(4_000, np.nan), np.full(1_000, np.nan)) == []


def test_hundreds_of_stationary_columns_are_told_in_silence() -> None:
    rng = np.random.default_rng(2)
    f = 400
    schema = Schema(features=tuple(Feature(name=f"x{i}") for i in range(f)))
    x = rng.normal(size=(12_000, f)).astype(np.float32)
    x[rng.random(x.shape) < 0.02] = np.nan

    def rows(part: np.ndarray) -> PredictionBlock:
        n = len(part)
        return PredictionBlock(
            model="m",
            version="1",
            ids=[""] * n,
            served_at=np.arange(n) * 1_000_000,
            feature_names=schema.names,
            features=part,
            prediction=Codes(np.zeros(n, np.int32), ("a",)),
            scores=None,
        )

    profile = build_profile(rows(x[:4_000]), schema)
    assert len(profile.to_bytes()) < 1_000_000
    step = observe(None, rows(x[4_000:]), profile=profile, config=CONFIG, partition=("t", 0))
    assert step.findings == []


@pytest.mark.parametrize("seed", range(30))
def test_what_breaks_no_relaxed_limit_breaks_no_other_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = features(int(rng.integers(100, 2_500)), seed)
    for j in range(x.shape[1]):
        rows = rng.random(len(x)) < rng.choice([0, 0.02, 0.05, 0.1, 0.5, 1.0])
        x[rows, j] = rng.choice([np.nan, 7.0, -1.0])
    counts = count(columns(block(x, 3), SCHEMA.names, PROFILE.classes), PROFILE.layout)
    broken, lasting = (
        {b.key for b in breaches(counts, PROFILE, whole_window=True, relaxed=relaxed)}
        for relaxed in (False, True)
    )
    assert broken <= lasting
    shapes = [quartiles(counts, PROFILE)] * 5
    blatant = breaches(counts, PROFILE, whole_window=False, history=shapes)
    (nothing_broken,) = quiet(Counts.stacked([counts]), PROFILE).tolist()
    assert not (nothing_broken and blatant)
    assert nothing_broken == (not blatant and not suspects(counts, PROFILE).any())


def missing_of(share: float, rows: int = 4_000) -> Profile:
    """A profile of one number that is missing in a share of all stretches alike."""
    x = np.random.default_rng(0).normal(size=rows)
    every = np.arange(rows) % 100
    x[every < round(100 * share)] = np.nan
    return build_profile(number_rows(x), NUMBER)


def with_missing(n: int, missing: int, profile: Profile) -> Counts:
    x = np.random.default_rng(1).normal(size=n)
    x[:missing] = np.nan
    return count(columns(number_rows(x), NUMBER.names, profile.classes), profile.layout)


NUMBER = Schema(features=(Feature(name="x"),))


def number_rows(x: np.ndarray) -> PredictionBlock:
    return PredictionBlock(
        model="m",
        version="1",
        ids=[""] * len(x),
        served_at=np.arange(len(x)),
        feature_names=("x",),
        features=x.astype(np.float32)[:, None],
        prediction=Codes(np.zeros(len(x), np.int32), ("a",)),
        scores=None,
    )


@pytest.mark.parametrize(("n", "whole_window"), [(500, False), (2_000, True)])
@pytest.mark.parametrize("relaxed", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5])
def test_a_share_breaks_a_rule_above_its_bound_the_margin_and_six_standard_errors(
    share: float, relaxed: bool, n: int, whole_window: bool
) -> None:
    profile = missing_of(share)
    bound = upper_bound(round(4_000 * share), 4_000, 1e-4)
    margin = (0.05 if whole_window else 0.15) / (2 if relaxed else 1)
    deviation = math.sqrt(max(bound * (1 - bound), 1 / n) / n)
    threshold = bound + max(margin, 6 * deviation)
    most = math.floor(threshold * n)

    def broken(missing: int) -> list[Breach]:
        counts = with_missing(n, missing, profile)
        found = breaches(counts, profile, whole_window=whole_window, relaxed=relaxed)
        return [b for b in found if b.rule == "missing"]

    assert broken(most) == []
    (breach,) = broken(most + 1)
    assert (breach.name, breach.hits, breach.rows) == ("x", most + 1, n)
    assert breach.value == (most + 1) / n
    assert breach.threshold == pytest.approx(threshold)
    assert breach.reference == pytest.approx(share)


def test_where_there_is_no_room_above_the_bound_only_all_rows_break_a_rule() -> None:
    profile = missing_of(0.88)
    for missing, rules in ((499, []), (500, ["missing"])):
        counts = with_missing(500, missing, profile)
        found = breaches(counts, profile, whole_window=False)
        assert [b.rule for b in found] == rules
    counts = with_missing(500, 500, missing_of(0.95))
    assert breaches(counts, missing_of(0.95), whole_window=False) == []


def test_fewer_than_a_hundred_rows_break_nothing() -> None:
    profile = missing_of(0.0)
    for n, broken in ((99, 0), (100, 1)):
        counts = with_missing(n, n, profile)
        assert len(breaches(counts, profile, whole_window=True)) == broken


@pytest.mark.parametrize(("distinct", "broken"), [(49, []), (50, ["constant"])])
def test_a_column_of_few_values_may_become_constant(distinct: int, broken: list[str]) -> None:
    profile = build_profile(number_rows(np.resize(np.arange(distinct), 4_000)), NUMBER)
    counts = count(
        columns(number_rows(np.full(200, 3.0)), NUMBER.names, profile.classes), profile.layout
    )
    found = breaches(counts, profile, whole_window=True)
    assert [b.rule for b in found] == broken
    assert [(b.value, b.reference, b.hits) for b in found] == [(3.0, 50, 200)] * len(broken)

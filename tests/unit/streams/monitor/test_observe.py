"""Windows and findings do not depend on how a stream is cut into blocks, stored, or spread over
workers."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_blocks import CONFIG, REGION, SCHEMA, SHARE, block, cut, features

from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.input_profile import Profile
from redistill.streams.monitor.observe import Observed, contributors, observe, tick
from redistill.streams.monitor.reference import build_profile
from redistill.streams.monitor.state import InputState
from redistill.streams.wire.block import PredictionBlock
from redistill.streams.wire.events import DriftFound

KEY = b"state key"
PROFILE = build_profile(block(features(10_000, 0)), SCHEMA)
PLACE = ("topic", 3)
WRONG = 7
"""The column of which values have a wrong type."""


def feed(
    whole: PredictionBlock,
    cuts: list[int],
    *,
    profile: Profile | None = PROFILE,
    config: WatchConfig = CONFIG,
    restored: bool = False,
) -> tuple[InputState, list[tuple[int, DriftFound]], list[Observed]]:
    state, found, steps, at = None, [], [], 0
    for end in [*cuts, len(whole)]:
        part = cut(whole, at, end)
        if whole.wrong_type:  # of that column nothing else is missing
            wrong = int(np.isnan(part.features[:, WRONG]).sum())
            part = dataclasses.replace(part, wrong_type={f"x{WRONG}": wrong} if wrong else {})
        step = observe(state, part, profile=profile, config=config, partition=PLACE)
        state = step.state
        if restored:
            state = InputState.from_bytes(
                state.to_bytes(KEY), KEY, model="credit", version="7", partition=PLACE
            )
        found += [(at + r, f) for r, f in zip(step.finding_rows, step.findings, strict=True)]
        steps.append(step)
        at = end
    assert state is not None
    return state, found, steps


def eventful() -> PredictionBlock:
    """8,900 rows in which every layer speaks."""
    n = 8_900
    rng = np.random.default_rng(11)
    x = features(n, 1)
    x[3_000:5_000, 0] = np.where(rng.random(2_000) < 0.5, np.nan, x[3_000:5_000, 0])
    x[3_200:, REGION] = np.where(rng.random(n - 3_200) < 0.3, -1, x[3_200:, REGION])
    x[3_100:, 1] = x[3_100:, 1] * 1.8 + 3.2
    x[4_000:, SHARE] += 0.4
    x[4_000:, 4] += 3
    confidence = rng.uniform(0.7, 1.0, n)
    confidence[3_333:6_000] -= 0.2
    return block(x, confidence=confidence)


EVENTFUL = eventful()


def test_an_eventful_stream_is_told_in_every_layer() -> None:
    _, found, _ = feed(EVENTFUL, [])
    opened = {(f.kind, f.scope): row for row, f in found if f.status == "open"}
    assert opened[("quality", "x0")] == 3_499
    assert opened[("quality", "region")] == 3_499
    assert 3_999 <= opened[("quality", "x1")] <= 4_999
    assert 4_000 < opened[("quality", "share")] <= 4_499
    assert 3_333 < opened[("confidence", "all")] < 3_500
    assert opened[("input", "all")] in (5_999, 7_999)
    assert all(f.impact.harmful is None for _, f in found)
    assert all(f.kind == "quality" or f.severity == "info" for _, f in found)


@settings(max_examples=15)
@given(cuts=st.lists(st.integers(0, len(EVENTFUL)), max_size=6), restored=st.booleans())
def test_any_cut_into_blocks_gives_the_same_findings_windows_and_counts(
    cuts: list[int], restored: bool
) -> None:
    whole_state, whole, whole_steps = feed(EVENTFUL, [])
    state, found, steps = feed(EVENTFUL, sorted(cuts), restored=restored)
    assert [(r, f) for r, f in found] == [(r, f) for r, f in whole]
    assert [w for s in steps for w in s.windows] == whole_steps[0].windows
    rows = np.concatenate([s.row_windows for s in steps])
    assert (rows == whole_steps[0].row_windows).all()
    window, whole_window = state.counted.window, whole_state.counted.window
    for mine, theirs in (
        (window.complete, whole_window.complete),
        (window.partial, whole_window.partial),
    ):
        for name in ("valid", "below", "wrong", "low", "high"):
            assert (getattr(mine, name) == getattr(theirs, name)).all()
    assert (state.counted.rows, window.number, window.rows) == (8_900, 4, 900)


TROUBLE = ("none", "missing", "wrong", "unseen", "constant", "unit", "shift", "range", "doubt")


@settings(max_examples=25)
@given(
    stretches=st.lists(
        st.tuples(st.sampled_from(TROUBLE), st.integers(1, 3_500)), min_size=1, max_size=5
    ),
    window=st.sampled_from((100, 333, 500, 700, 1_000, 1_499, 2_000, 2_500, 10_000)),
    sizes=st.lists(st.integers(1, 7_000) | st.integers(1, 3) | st.just(500), max_size=25),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_window_and_no_trouble_depends_on_the_cut(
    stretches: list[tuple[str, int]], window: int, sizes: list[int], seed: int
) -> None:
    whole = troubled(stretches, seed)
    cuts = [c for c in np.cumsum(sizes, dtype=int).tolist() if c < len(whole)]
    config = dataclasses.replace(CONFIG, window_rows=window)
    (one_state, one, (step,)) = feed(whole, [], config=config)
    state, found, steps = feed(whole, cuts, config=config)
    assert found == one
    assert [w for s in steps for w in s.windows] == step.windows
    assert len(step.windows) == len(whole) // window
    assert (np.concatenate([s.row_windows for s in steps]) == step.row_windows).all()
    window, one_window = state.counted.window, one_state.counted.window
    assert (window.number, window.span) == (one_window.number, one_window.span)
    assert state.counted.rows == one_state.counted.rows
    mine, theirs = state.tracked, one_state.tracked
    assert (mine.open, mine.opened, mine.drifted) == (theirs.open, theirs.opened, theirs.drifted)
    recent, one_recent = state.recent, one_state.recent
    assert (recent.streaks, recent.drifting) == (one_recent.streaks, one_recent.drifting)
    assert len(recent.quartiles) == len(one_recent.quartiles)
    for a, b in zip(recent.quartiles, one_recent.quartiles, strict=True):
        assert np.array_equal(a, b, equal_nan=True)
    for a, b in (
        (window.complete, one_window.complete),
        (window.partial, one_window.partial),
    ):
        assert (a is None) == (b is None)
        for name in ("valid", "below", "wrong", "low", "high") if a is not None else ():
            assert (getattr(a, name) == getattr(b, name)).all()


def troubled(stretches: list[tuple[str, int]], seed: int) -> PredictionBlock:
    """Rows in which one thing after the other goes wrong."""
    rng = np.random.default_rng(seed)
    n = sum(rows for _, rows in stretches)
    x, confidence, at = features(n, seed), rng.uniform(0.7, 1.0, n), 0
    wrong = False
    for trouble, rows in stretches:
        own = slice(at, at + rows)
        some = np.flatnonzero(rng.random(rows) < rng.choice([0.01, 0.3, 1.0])) + at
        if trouble == "missing":
            x[some, 0] = np.nan
        elif trouble == "wrong":
            x[some, WRONG] = np.nan
            wrong = wrong or len(some) > 0
        elif trouble == "unseen":
            x[some, REGION] = -1
        elif trouble == "constant":
            x[own, 2] = 0.25
        elif trouble == "unit":
            x[own, 1] = x[own, 1] * 1.8 + 32
        elif trouble == "shift":
            x[own, 4] += 3
        elif trouble == "range":
            x[some, SHARE] += 0.7
        elif trouble == "doubt":
            confidence[own] -= 0.2
        at += rows
    made = block(x, confidence=confidence)
    return dataclasses.replace(made, wrong_type={f"x{WRONG}": 1}) if wrong else made


def test_observe_does_not_change_the_state_it_is_given() -> None:
    state, _, _ = feed(cut(EVENTFUL, 0, 3_700), [])
    before = state.to_bytes(KEY)
    observe(state, cut(EVENTFUL, 3_700, 8_900), profile=PROFILE, config=CONFIG, partition=PLACE)
    assert state.to_bytes(KEY) == before


def test_an_empty_block_changes_nothing() -> None:
    state, _, _ = feed(cut(EVENTFUL, 0, 700), [])
    step = observe(state, cut(EVENTFUL, 0, 0), profile=PROFILE, config=CONFIG, partition=PLACE)
    assert step.state.to_bytes(KEY) == state.to_bytes(KEY)
    assert len(step.row_windows) == 0


def test_a_stationary_stream_is_told_in_silence() -> None:
    state, found, _ = feed(block(features(100_000, 5), 5), list(range(500, 100_000, 500)))
    assert found == []
    assert state.counted.window.number == 50
    assert len(contributors(state)) <= 10


def test_a_state_holds_nothing_of_the_block_that_it_came_from() -> None:
    state, _, _ = feed(block(features(CONFIG.window_rows + 1_500, 5), 5), [])
    complete = state.counted.window.complete
    assert complete is not None
    kept = [getattr(complete, name) for name in complete.__struct_fields__]
    arrays = [a for a in (*kept, *state.recent.quartiles) if isinstance(a, np.ndarray)]
    assert len(arrays) == 5 + 5
    assert all(a.base is None or a.base.nbytes <= a.nbytes for a in arrays)
    one, _, _ = feed(block(features(CONFIG.window_rows + 500, 5), 5), [])
    assert one.counted.window.complete is not None
    assert one.counted.window.complete.below.base is None


def test_partitions_have_findings_of_their_own() -> None:
    one = observe(None, EVENTFUL, profile=PROFILE, config=CONFIG, partition=("topic", 0))
    two = observe(None, EVENTFUL, profile=PROFILE, config=CONFIG, partition=("topic", 1))
    assert not {f.finding_id for f in one.findings} & {f.finding_id for f in two.findings}
    again = observe(None, EVENTFUL, profile=PROFILE, config=CONFIG, partition=("topic", 0))
    assert again.findings == one.findings


def test_tick_closes_a_window_that_is_old_enough_and_no_other() -> None:
    state, _, _ = feed(cut(EVENTFUL, 0, 300), [])
    early = tick(state, 3_599_000_000, profile=PROFILE, config=CONFIG)
    assert early.windows == []
    late = tick(state, 3_600_000_000, profile=PROFILE, config=CONFIG)
    ((number, rows),) = [(w.number, w.rows) for w in late.windows]
    assert (number, rows) == (0, 300)
    window = late.state.counted.window
    assert (window.number, window.rows) == (1, 0)
    assert tick(late.state, 10**15, profile=PROFILE, config=CONFIG).windows == []


def test_tick_waits_for_two_hundred_rows_unless_a_day_is_over() -> None:
    state, _, _ = feed(cut(EVENTFUL, 0, 10), [])
    assert tick(state, 7_200_000_000, profile=PROFILE, config=CONFIG).windows == []
    assert len(tick(state, 86_400_000_000, profile=PROFILE, config=CONFIG).windows) == 1


def test_a_window_that_the_clock_closed_still_finds_what_is_broken() -> None:
    x = features(450, 3)
    x[:, 2] = np.nan
    state, found, _ = feed(block(x), [])
    assert found == []
    closed = tick(state, 3_600_000_000, profile=PROFILE, config=CONFIG)
    assert [(f.kind, f.scope, f.status) for f in closed.findings] == [("quality", "x2", "open")]


def test_a_version_without_profile_learns_one_from_its_first_rows() -> None:
    whole = block(features(12_000, 8), 8)
    state, found, steps = feed(whole, [4_000, 9_990, 10_010], profile=None, restored=True)
    learned = [s.learned for s in steps if s.learned is not None]
    assert len(learned) == 1
    assert learned[0].provisional
    assert learned[0].rows == 10_000
    direct = build_profile(cut(whole, 0, 10_000), SCHEMA, provisional=True)
    assert [c.below for c in learned[0].columns] == [c.below for c in direct.columns]
    assert state.learning.sample is None
    assert found == []
    assert state.counted.window.number == 6


def test_another_profile_starts_counting_again_and_goes_on_with_the_window() -> None:
    other = build_profile(block(features(5_000, 77)), SCHEMA)
    state, _, _ = feed(cut(EVENTFUL, 0, 700), [])
    step = observe(state, cut(EVENTFUL, 700, 900), profile=other, config=CONFIG, partition=PLACE)
    window = step.state.counted.window
    assert window.partial is not None
    assert (window.partial.rows, window.rows) == (200, 900)
    assert step.state.digest == other.digest


def test_wrong_types_are_told_as_such_and_not_as_missing() -> None:
    x = features(2_000, 4)
    x[::3, 6] = np.nan
    whole = dataclasses.replace(block(x), wrong_type={"x6": int(np.isnan(x[:, 6]).sum())})
    step = observe(None, whole, profile=PROFILE, config=CONFIG, partition=PLACE)
    assert [(f.detector.name, f.scope) for f in step.findings] == [("contract.wrong_type", "x6")]
    assert "wrong type" in step.findings[0].reason


def test_many_columns_that_break_at_once_are_one_finding() -> None:
    x = features(2_000, 4)
    x[1_000:, :7] = np.nan
    _, found, _ = feed(block(x), [])
    ((row, one),) = found
    assert row == 1_499
    assert one.scope == "all"
    assert {c.column for c in one.contributors} == {f"x{i}" for i in range(7)}


def test_a_break_that_comes_back_is_a_finding_of_its_own() -> None:
    x = features(16_000, 6)
    x[2_000:2_500, 3] = np.nan
    x[12_000:12_500, 3] = np.nan
    _, found, _ = feed(block(x), [])
    assert [f.status for _, f in found] == ["open", "resolved", "open"]
    assert found[0][1].finding_id == found[1][1].finding_id != found[2][1].finding_id
    assert found[1][1].resolution == "reverted"


def test_confidence_that_recovers_ends_its_finding() -> None:
    confidence = np.random.default_rng(0).uniform(0.7, 1.0, 12_000)
    confidence[4_000:7_000] -= 0.3
    whole = block(features(12_000, 9), confidence=confidence)
    _, found, _ = feed(whole, [])
    mine = [(row, f) for row, f in found if f.kind == "confidence"]
    assert mine[0][1].status == "open"
    assert mine[-1][1].status == "resolved"
    assert 4_000 < mine[0][0] < 4_200
    assert 7_000 < mine[-1][0] <= 7_999
    assert mine[1][1].impact.current == pytest.approx(0.57, abs=0.03)


def test_infinite_values_count_as_missing_and_make_no_warning() -> None:
    x = features(2_000, 2)
    x[:1_000, 0] = np.inf
    x[500:, 1] = -np.inf
    _, found, _ = feed(block(x), [])
    assert {(f.scope, f.impact.metric) for _, f in found} == {
        ("x0", "missing_rate"),
        ("x1", "missing_rate"),
    }
    msgspec.json.encode([f for _, f in found])

"""Slices in the accounting of outcomes: findings, whatever the cut into calls, and stored state."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import numpy as np
from sliced_errors import REFERENCE_ROWS, Rows, World, reference

from redistill.streams.monitor.accuracy import account
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.expected_error import ExpectedError
from redistill.streams.monitor.outcomes import AccuracyState, Outcomes
from redistill.streams.wire.block import Codes, Schema
from redistill.streams.wire.events import DriftFound
from redistill.times import SECOND

CONFIG = WatchConfig(model="credit", schema=Schema(features=()), tolerance_points=2.0)
KEY = b"state key"
HARMED = ("tenth", 4)


def world_of(seed: int = 0) -> tuple[World, BaseError, ExpectedError, np.random.Generator]:
    rng = np.random.default_rng(seed)
    world = World.drawn(rng, 0.1)
    return (world, *reference(world.rows(rng, REFERENCE_ROWS)), rng)


def outcomes_of(rows: Rows, which: np.ndarray, **more: Any) -> Outcomes:
    return Outcomes(
        error=rows.wrong[which],
        served_at=which * SECOND,
        received_at=(which + 60) * SECOND,
        confidence=rows.confidence[which],
        slices=rows.codes(which),
        **more,
    )


def told(
    rows: Rows,
    base: BaseError,
    expected: ExpectedError | None,
    cuts: list[int],
    *,
    stored: bool,
    shares: tuple[float, ...] = (0.5,),
) -> tuple[AccuracyState, list[tuple[int, DriftFound]]]:
    state: AccuracyState | None = None
    out = []
    for k, (start, end) in enumerate(pairwise(cuts)):
        state, found, positions = account(
            state,
            outcomes_of(rows, np.arange(start, end)),
            version="7",
            base=base,
            expected=expected,
            config=CONFIG,
            label_share=shares[min(k, len(shares) - 1)],
        )
        out += [(start + i, f) for i, f in zip(positions, found, strict=True)]
        if stored:
            data = state.to_bytes(KEY, model="credit")
            state = AccuracyState.from_bytes(data, KEY, model="credit", version="7")
            assert state.to_bytes(KEY, model="credit") == data
    assert state is not None
    return state, out


def story() -> tuple[Rows, BaseError, ExpectedError]:
    """One slice is harmed, then all rows, then none."""
    world, base, expected, rng = world_of()
    parts = [
        world.rows(rng, 1_000),
        world.rows(rng, 2_000, harmed=HARMED, harm="flip"),
        world.rows(rng, 1_500, harm="+20"),
        world.rows(rng, 5_000),
    ]
    rows = Rows(
        {k: np.concatenate([p.slices[k] for p in parts]) for k in parts[0].slices},
        np.concatenate([p.confidence for p in parts]),
        np.concatenate([p.wrong for p in parts]),
    )
    return rows, base, expected


def test_findings_do_not_depend_on_how_outcomes_were_cut_into_calls_or_stored() -> None:
    rows, base, expected = story()
    n = len(rows.wrong)
    rng = np.random.default_rng(7)
    once = told(rows, base, expected, [0, n], stored=False)[1]
    cuts = [0, *sorted(rng.choice(np.arange(1, n), 40, replace=False).tolist()), n]
    assert told(rows, base, expected, cuts, stored=True)[1] == once
    scopes = {f.scope for _, f in once}
    assert scopes == {"all", "slice:tenth=v4"}


def test_an_open_finding_of_a_slice_follows_a_label_share_that_halves_stored_or_not() -> None:
    world, _, _, rng = world_of(2)
    base, expected = reference(world.rows(rng, REFERENCE_ROWS, runs=30))
    harmed = world.rows(rng, 2_000, harmed=HARMED, harm="flip", runs=30)
    healthy = world.rows(rng, 8_000, runs=30)
    rows = Rows(
        {k: np.concatenate([v, healthy.slices[k]]) for k, v in harmed.slices.items()},
        np.concatenate([harmed.confidence, healthy.confidence]),
        np.concatenate([harmed.wrong, healthy.wrong]),
    )
    cuts, shares = [0, 500, 1_000, 1_010, 10_000], (1.0, 1.0, 0.1)
    kept = told(rows, base, expected, cuts, stored=False, shares=shares)[1]
    assert told(rows, base, expected, cuts, stored=True, shares=shares)[1] == kept
    ends = [f.status for _, f in kept if f.scope == "slice:tenth=v4"]
    assert (ends[0], ends[-1]) == ("open", "resolved")


def test_a_slice_finding_says_which_slice_how_bad_and_how_sure() -> None:
    rows, base, expected = story()
    _, found = told(rows, base, expected, [0, len(rows.wrong)], stored=False)
    row, opened = next((i, f) for i, f in found if f.scope == "slice:tenth=v4")
    assert 1_000 < row < 3_000
    assert (opened.status, opened.severity, opened.kind) == ("open", "critical", "accuracy")
    (effect,) = opened.slices
    assert (effect.key, effect.value) == ("tenth", "v4")
    assert effect.reference is not None
    assert effect.expected is not None
    assert effect.low < effect.current < effect.high < effect.expected
    assert opened.impact.n == effect.n == opened.window.labelled
    assert opened.localised_to == "tenth=v4"
    assert opened.statistic.value >= opened.statistic.threshold
    assert opened.change_point is not None
    assert 900 < opened.change_point.high.timestamp() < 1_200
    assert opened.detector.parameters["columns"] == 5
    assert "tenth=v4: error" in opened.reason
    assert f"measured on {effect.n} labels" in opened.reason
    last = [f for _, f in found if f.scope == "slice:tenth=v4"][-1]
    assert (last.status, last.resolution, last.localised_to) == ("resolved", "recovered", None)
    assert last.revision == sum(f.scope == "slice:tenth=v4" for _, f in found) - 1


def test_while_the_whole_model_has_a_finding_slices_rank_it_and_open_nothing() -> None:
    world, base, expected, rng = world_of()
    parts = [
        world.rows(rng, 1_500, harm="+20"),
        world.rows(rng, 3_000, harmed=("twentieth", 3), harm="flip"),  # while that stands
        world.rows(rng, 3_000),
    ]
    rows = Rows(
        {k: np.concatenate([p.slices[k] for p in parts]) for k in parts[0].slices},
        np.concatenate([p.confidence for p in parts]),
        np.concatenate([p.wrong for p in parts]),
    )
    _, found = told(rows, base, expected, [0, len(rows.wrong)], stored=False)
    whole = [(i, f) for i, f in found if f.scope == "all"]
    start = next(i for i, f in whole if f.status == "open")
    end = next(i for i, f in whole if f.status == "resolved")
    assert not [f for i, f in found if start < i < end and f.scope != "all" and f.status == "open"]
    for _, f in whole:
        if f.status == "resolved":
            continue
        assert f.slices
        assert f.mix_moved is not None
        assert f.got_worse is not None
        assert (f.mix_moved.basis, f.got_worse.basis) == ("estimated", "measured")
        assert f.impact.reference is not None
        assert f.impact.current is not None
        lost = f.impact.reference - f.impact.current
        assert abs(f.mix_moved.value + f.got_worse.value - lost) < 1e-9


def test_evidence_from_before_the_whole_model_was_harmed_is_forgotten_when_it_recovers() -> None:
    rows, base, expected = story()
    _, found = told(rows, base, expected, [0, len(rows.wrong)], stored=False)
    ended = next(i for i, f in found if f.scope == "all" and f.status == "resolved")
    before = told(rows, base, expected, [0, ended], stored=False)[0]
    after = told(rows, base, expected, [0, ended + 1], stored=False)[0]
    assert before.slices is not None
    assert after.slices is not None
    others = np.array([s not in after.slices.open for s in range(len(expected.slices))])
    assert before.slices.seen[others].max() > 100
    assert not after.slices.seen[others].any()
    assert not after.slices.statistic[others].any()
    assert (after.slices.since[others] == ended + 1).all()


def test_a_loss_of_one_slice_is_named_and_one_of_all_rows_is_not() -> None:
    world, base, expected, rng = world_of(3)
    one = world.rows(rng, 1_500, harmed=("fifth", 0), harm="flip", since=500)
    _, found = told(one, base, expected, [0, 1_500], stored=False)
    last = [f for _, f in found if f.scope == "all"][-1]
    assert last.localised_to == "fifth=v0"
    assert last.slices[0].key == "fifth"
    assert last.outside is not None
    assert last.outside.low < 0.02
    assert "in fifth=v0: error " in last.reason
    every = world.rows(rng, 1_500, harm="+20", since=500)
    _, found = told(every, base, expected, [0, 1_500], stored=False)
    last = [f for _, f in found if f.scope == "all"][-1]
    assert (last.localised_to, last.outside) == (None, None)
    assert "everywhere, or not localised yet" in last.reason


def test_a_harder_mix_is_said_to_be_one() -> None:
    world, base, expected, rng = world_of(4)
    hard = int(np.argmax(world.effects["twentieth"]))
    rows = world.rows(rng, 6_000, grown=("twentieth", hard, 0.8))
    _, found = told(rows, base, expected, [0, 6_000], stored=False)
    whole = [f for _, f in found if f.scope == "all"][-1]
    assert whole.mix_moved is not None
    assert whole.got_worse is not None
    assert whole.mix_moved.low > 0.02
    assert whole.got_worse.low < 0.01 < whole.mix_moved.value
    assert {f.scope for _, f in found} == {"all"}


def test_rows_that_one_slice_asked_for_feed_its_test_only() -> None:
    world, base, expected, rng = world_of(5)
    rows = world.rows(rng, 600, harmed=HARMED, harm="flip")
    mine = rows.slices[HARMED[0]] == HARMED[1]
    which = np.flatnonzero(mine)
    asked = Codes(np.zeros(len(which), np.int32), ("tenth=v4",))
    none = np.zeros(len(which), np.bool_)

    def run(only: Codes | None) -> tuple[AccuracyState, list[DriftFound]]:
        state, found, _ = account(
            None,
            outcomes_of(rows, which, uniform=none, slice_only=only),
            version="7",
            base=base,
            expected=expected,
            config=CONFIG,
            label_share=0.1,
        )
        return state, found

    state, found = run(asked)
    assert {f.scope for f in found} == {"slice:tenth=v4"}
    assert state.uniform_n == 0
    assert state.slices is not None
    others = np.array([s.name != "tenth=v4" for s in expected.slices])
    assert (state.slices.seen[others] == 0).all()
    assert not state.slices.memory.rows.random.any()
    all_of_them = expected.tested(rows.codes(which), rows=len(which))  # another may explain it
    assert (state.slices.memory.rows.slices == all_of_them).all()
    state, found = run(None)  # picked for their worth: nobody's test
    assert found == []
    assert state.slices is not None
    assert state.slices.memory.total == 0
    unknown = Codes(asked.codes, ("tenth=gone",))
    assert run(unknown)[1] == []


def test_rows_that_one_slice_asked_for_have_no_part_in_what_is_said_of_all_rows() -> None:
    world, base, expected, rng = world_of(5)
    rows = world.rows(rng, 1_500, harm="+20")
    mine = rows.slices[HARMED[0]] == HARMED[1]
    rows.wrong[mine] = 1
    _, found, _ = account(
        None,
        outcomes_of(
            rows,
            np.arange(1_500),
            uniform=~mine,
            slice_only=Codes(np.where(mine, 0, -1).astype(np.int32), ("tenth=v4",)),
        ),
        version="7",
        base=base,
        expected=expected,
        config=CONFIG,
        label_share=0.5,
    )
    whole = [f for f in found if f.scope == "all"]
    assert whole
    for f in whole:
        assert f.mix_moved is not None
        assert f.got_worse is not None
        assert f.impact.reference is not None
        assert f.impact.current is not None
        lost = f.impact.reference - f.impact.current
        assert abs(f.mix_moved.value + f.got_worse.value - lost) < 1e-9
        assert "v4" not in {s.value for s in f.slices if s.key == "tenth"}


def test_harm_shown_in_a_slice_is_not_said_to_lie_there_until_the_rest_is_known() -> None:
    world, base, expected, rng = world_of(5)
    rows = world.rows(rng, 3_000, harmed=HARMED, harm="flip")
    mine = rows.slices[HARMED[0]] == HARMED[1]
    early = np.arange(3_000) < 1_000
    asked = Codes(np.where(early & mine, 0, -1).astype(np.int32), ("tenth=v4",))

    def run(cuts: list[int]) -> list[DriftFound]:
        state: AccuracyState | None = None
        out: list[DriftFound] = []
        for start, end in pairwise(cuts):
            which = np.arange(start, end)
            which = which[mine[which] | ~early[which]]
            state, found, _ = account(
                state,
                outcomes_of(
                    rows,
                    which,
                    uniform=~early[which],
                    slice_only=Codes(asked.codes[which], asked.values),
                ),
                version="7",
                base=base,
                expected=expected,
                config=CONFIG,
                label_share=0.5,
            )
            out += [f for f in found if f.scope == "slice:tenth=v4"]
            data = state.to_bytes(KEY, model="credit")
            state = AccuracyState.from_bytes(data, KEY, model="credit", version="7")
        return out

    found = run([0, 3_000])
    assert run([0, 400, 900, 1_100, 1_500, 3_000]) == found
    first, last = found[0], found[-1]
    assert (first.status, first.localised_to) == ("open", None)
    assert first.reason.startswith("in tenth=v4: error ")
    assert first.reason.endswith("; everywhere, or not localised yet")
    assert (last.status, last.localised_to) == ("update", "tenth=v4")
    assert "not localised" not in last.reason


def test_another_table_ends_what_is_open_and_starts_again() -> None:
    world, base, expected, rng = world_of(6)
    rows = world.rows(rng, 2_000, harmed=HARMED, harm="flip")
    state, found = told(rows, base, expected, [0, 700], stored=False)
    assert "slice:tenth=v4" in [f.scope for _, f in found if f.status == "open"]
    other = dataclasses.replace(expected, mean=expected.mean * 1.01)
    for table in (other, None):
        after, said, _ = account(
            state,
            outcomes_of(rows, np.arange(700, 720)),
            version="7",
            base=base,
            expected=table,
            config=CONFIG,
            label_share=0.5,
        )
        ends = [(f.status, f.resolution) for f in said if f.scope != "all"]
        assert ends == [("resolved", "superseded")]
        assert (after.slices is None) == (table is None)
        assert after.slice_findings == {}


def test_a_base_error_that_is_learned_from_traffic_makes_no_tests_of_slices() -> None:
    world, _, expected, rng = world_of(8)
    rows = world.rows(rng, 2_000)
    state, _, _ = account(
        None,
        outcomes_of(rows, np.arange(2_000)),
        version="7",
        base=None,
        expected=expected,
        config=CONFIG,
    )
    assert state.base is not None
    assert state.slices is None


def test_stored_state_stays_small() -> None:
    world, base, expected, rng = world_of(9)
    state, _ = told(world.rows(rng, 20_000), base, expected, [0, 20_000], stored=False)
    assert len(state.to_bytes(KEY, model="credit")) < 300_000


def test_labels_that_come_late_of_rows_before_a_recovery_are_left_out() -> None:
    rows, base, expected = story()
    state, found = told(rows, base, expected, [0, len(rows.wrong)], stored=False)
    assert found[-1][1].status == "resolved"
    assert state.slices is not None
    s = next(i for i, x in enumerate(expected.slices) if x.name == "tenth=v4")
    before = state.slices.statistic[s].copy()
    bad = np.flatnonzero((rows.slices["tenth"] == 4) & (rows.wrong == 1))
    late = bad[(bad > 1_000) & (bad < 3_000)][:60]
    after, said, _ = account(
        state,
        outcomes_of(rows, late),
        version="7",
        base=base,
        expected=expected,
        config=CONFIG,
        label_share=0.5,
    )
    assert said == []
    assert after.slices is not None
    assert (after.slices.statistic[s] == before).all()

"""From outcomes to findings of harm: the same however they are cut, and what a version without a
base error does."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monitor_blocks import CONFIG

from redistill.streams.monitor.accuracy import account
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.outcomes import AccuracyState, Outcomes
from redistill.streams.monitor.seal import Place, unseal
from redistill.streams.wire.events import Contributor, DriftFound

TIGHT = dataclasses.replace(CONFIG, tolerance_points=2.0, rows_per_alarm=1e5)
BASE = BaseError.from_errors((np.random.default_rng(0).random(20_000) < 0.1).astype(int))
STORY = np.random.default_rng(1).random(4_500) < np.repeat([0.1, 0.3, 0.1], 1_500)


def outcomes(errors: np.ndarray, start: int = 0, uniform: np.ndarray | None = None) -> Outcomes:
    at = (start + np.arange(len(errors), dtype=np.int64)) * 1_000_000
    return Outcomes(
        error=errors.astype(np.uint8), served_at=at, received_at=at + 60_000_000, uniform=uniform
    )


def told(findings: list[DriftFound]) -> list[tuple[str, bool | None]]:
    return [(f.status, f.impact.harmful) for f in findings]


def test_a_drop_opens_one_finding_that_is_updated_and_resolved() -> None:
    state, found, rows = account(
        None, outcomes(STORY), version="7", base=BASE, config=TIGHT, label_share=1.0
    )
    assert told(found)[0] == ("open", True)
    assert told(found)[-1] == ("resolved", True)
    assert len({f.finding_id for f in found}) == 1
    assert [f.revision for f in found] == list(range(len(found)))
    assert 1_500 < rows[0] < 1_650
    opened = found[0]
    assert opened.severity == "critical"
    assert opened.impact.reference == pytest.approx(1 - BASE.rate)
    assert opened.impact.low < opened.impact.current < opened.impact.high
    assert opened.impact.n == opened.window.labelled
    low, high = (t.timestamp() for t in (opened.change_point.low, opened.change_point.high))
    assert 1_470 <= low <= high <= 1_530
    assert opened.at.timestamp() == rows[0] + 60
    assert f"measured on {opened.impact.n} labels" in opened.reason
    assert found[-1].resolution == "recovered"
    assert state.finding is None
    assert (state.n, state.errors) == (4_500, int(STORY.sum()))


def test_every_event_names_the_test_whose_statistic_it_shows() -> None:
    _, found, _ = account(
        None, outcomes(STORY), version="7", base=BASE, config=TIGHT, label_share=1.0
    )
    assert len({f.status for f in found}) == 3
    for f in found:
        up = f.status == "open"
        assert f.detector.parameters["test"] == ("upward" if up else "downward")
        assert f.statistic.threshold == (2e5 if up else 1e4)  # half of the budget
        null = f.detector.parameters["null"]
        assert null == BASE.upper if up else BASE.upper < null < 0.5
        if f.status != "update":
            assert f.statistic.value >= f.statistic.threshold
    assert any(f.statistic.value < f.statistic.threshold for f in found)


def test_finding_that_a_new_base_ends_keeps_its_test_beside_its_statistic() -> None:
    state, found, _ = account(None, outcomes(STORY[:1_700]), version="7", base=BASE, config=TIGHT)
    other = dataclasses.replace(BASE, n=BASE.n + 1)
    _, ended, _ = account(
        state, outcomes(STORY[1_700:1_701], 1_700), version="7", base=other, config=TIGHT
    )
    assert (ended[0].status, ended[0].resolution) == ("resolved", "superseded")
    assert (ended[0].detector, ended[0].statistic) == (found[-1].detector, found[-1].statistic)


def test_harm_that_stands_while_the_base_is_replaced_keeps_its_beginning() -> None:
    state, found, _ = account(None, outcomes(STORY[:1_700]), version="7", base=BASE, config=TIGHT)
    other = dataclasses.replace(BASE, n=BASE.n + 1)
    _, again, _ = account(
        state, outcomes(STORY[1_700:2_500], 1_700), version="7", base=other, config=TIGHT
    )
    assert [f.status for f in again][:2] == ["resolved", "open"]
    assert again[1].finding_id != found[0].finding_id
    assert again[1].change_point == found[0].change_point
    assert again[1].impact.n > found[-1].impact.n


def test_harm_that_began_while_learning_is_dated_there() -> None:
    errors = np.random.default_rng(2).random(3_000) < np.repeat([0.1, 0.35], [700, 2_300])
    _, found, _ = account(None, outcomes(errors), version="7", base=None, config=TIGHT)
    harm = next(f for f in found if f.impact.harmful)
    assert 650 <= harm.change_point.low.timestamp() <= 750  # it was learning until row 1,000


def plain(state: AccuracyState) -> dict[str, Any]:
    """What is stored of a state."""
    place = Place("accuracy", "credit", "7")
    body = unseal(state.to_bytes(b"key", model="credit"), b"key", place)
    told: dict[str, Any] = msgspec.msgpack.decode(body)
    return told


@settings(max_examples=15)
@given(cuts=st.lists(st.integers(0, len(STORY)), max_size=5), restored=st.booleans())
def test_any_cut_of_the_outcomes_gives_the_same_findings_and_state(
    cuts: list[int], restored: bool
) -> None:
    whole_state, whole, _ = account(
        None, outcomes(STORY), version="7", base=BASE, config=TIGHT, label_share=0.5
    )
    state, found, at = None, [], 0
    for end in [*sorted(cuts), len(STORY)]:
        part = outcomes(STORY[at:end], at)
        state, new, _ = account(state, part, version="7", base=BASE, config=TIGHT, label_share=0.5)
        if restored:
            data = state.to_bytes(b"key", model="credit")
            state = AccuracyState.from_bytes(data, b"key", model="credit", version="7")
        found += new
        at = end
    assert found == whole
    one, other = (plain(s) for s in (state, whole_state))
    (
        one.pop("settled"),
        other.pop("settled"),
    )  # depends on how many calls there were, not on outcomes
    assert one == other


def test_account_does_not_change_the_state_it_is_given() -> None:
    state, _, _ = account(None, outcomes(STORY[:1_600]), version="7", base=BASE, config=TIGHT)
    before = plain(state)
    account(state, outcomes(STORY[1_600:], 1_600), version="7", base=BASE, config=TIGHT)
    assert plain(state) == before


def test_rows_picked_for_their_worth_never_reach_the_test() -> None:
    picked = np.ones(500)
    state, found, _ = account(
        None,
        outcomes(picked, uniform=np.zeros(500, bool)),
        version="7",
        base=BASE,
        config=TIGHT,
    )
    assert found == []
    assert (state.n, state.errors, state.uniform_n) == (500, 500, 0)


def test_runs_of_errors_in_rows_that_were_asked_for_weigh_less() -> None:
    rng = np.random.default_rng(3)
    runs = np.repeat(rng.random(1_000) < 0.1, 20).astype(int)
    base = BaseError.from_errors(runs)
    errors = np.ones(15, int)

    def statistic(p: float | None, share: float = 0.1) -> float:
        some = outcomes(errors)
        if p is not None:
            some = dataclasses.replace(some, p_include=np.full(15, p))
        state, _, _ = account(None, some, version="7", base=base, config=TIGHT, label_share=share)
        assert state.test is not None
        return state.test.mixture.value

    assert statistic(1.0) < statistic(None) / 2
    assert statistic(0.1) == statistic(np.nan) == statistic(None)
    assert statistic(1.0, share=1.0) == statistic(None, share=1.0)


def test_contributors_are_attached_to_what_opens() -> None:
    moved = [Contributor(column="income", distance="psi", value=1.0, noise_floor=0.01)]
    _, found, _ = account(
        None, outcomes(STORY), version="7", base=BASE, config=TIGHT, contributors=moved
    )
    assert found[0].contributors == moved


def test_version_without_base_learns_one_and_is_provisional() -> None:
    healthy = np.random.default_rng(2).random(1_000) < 0.1
    state, found, _ = account(None, outcomes(healthy), version="8", base=None, config=TIGHT)
    assert found == []
    assert state.base is not None
    assert state.base.provisional
    assert (state.base.n, state.base.errors) == (1_000, int(healthy.sum()))
    worse = np.random.default_rng(3).random(1_000) < 0.4
    _, found, _ = account(state, outcomes(worse, 1_000), version="8", base=None, config=TIGHT)
    assert told(found)[0] == ("open", True)
    assert found[0].provisional


def test_drift_while_learning_opens_a_finding_that_does_not_say_harm() -> None:
    rng = np.random.default_rng(4)
    errors = rng.random(1_000) < np.repeat([0.05, 0.5], 500)
    state, found, _ = account(None, outcomes(errors), version="8", base=None, config=TIGHT)
    assert told(found) == [("open", None), ("resolved", None)]
    assert found[0].detector.name == "adwin"
    assert found[0].severity == "info"
    assert found[1].resolution == "superseded"
    assert state.base.rate < 0.1  # learned from the rows before the change
    assert state.base.n < 600


def test_a_base_of_few_rows_is_not_believed() -> None:
    few = BaseError.from_errors(np.zeros(10, int))
    state, _, _ = account(None, outcomes(STORY[:200]), version="7", base=few, config=TIGHT)
    assert state.base is None


def test_another_base_ends_the_open_finding_and_starts_again() -> None:
    state, found, _ = account(None, outcomes(STORY[:1_700]), version="7", base=BASE, config=TIGHT)
    assert found[-1].status != "resolved"
    worse = BaseError.from_errors((np.random.default_rng(5).random(5_000) < 0.35).astype(int))
    state, found, _ = account(
        state, outcomes(STORY[1_700:2_000], 1_700), version="7", base=worse, config=TIGHT
    )
    assert [(f.status, f.resolution) for f in found] == [("resolved", "superseded")]
    assert state.base == worse


def test_a_changed_tolerance_starts_the_test_again() -> None:
    state, _, _ = account(None, outcomes(STORY[:1_000]), version="7", base=BASE, config=TIGHT)
    wide = dataclasses.replace(TIGHT, tolerance_points=60.0)
    state, found, _ = account(
        state, outcomes(STORY[1_000:], 1_000), version="7", base=BASE, config=wide
    )
    assert found == []
    assert state.test.tolerance == 0.6


def test_threshold_follows_the_label_share_until_a_hundred_outcomes_and_then_freezes() -> None:
    state, _, _ = account(
        None, outcomes(STORY[:50]), version="7", base=BASE, config=TIGHT, label_share=1.0
    )
    assert state.test.threshold == 2e5
    state, _, _ = account(
        state, outcomes(STORY[50:150], 50), version="7", base=BASE, config=TIGHT, label_share=0.1
    )
    assert state.test.threshold == 2e4
    for share, expected in ((0.11, 0.11), (0.09, 0.11), (0.03, 0.03)):
        state, _, _ = account(
            state, outcomes(STORY[150:151]), version="7", base=BASE, config=TIGHT, label_share=share
        )
        assert state.test.threshold == pytest.approx(2.2e4)
        assert state.test.share == expected

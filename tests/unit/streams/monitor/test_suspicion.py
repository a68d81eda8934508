"""What raises a suspicion: evidence short of an alarm, and a confidence that fell."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sliced_errors import REFERENCE_ROWS, World, reference

from redistill.streams.monitor.accuracy import account
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.observe import observe
from redistill.streams.monitor.outcomes import AccuracyState, Outcomes
from redistill.streams.monitor.suspicion import Suspicion, suspicions
from redistill.streams.wire.block import Codes, PredictionBlock, Schema
from redistill.streams.wire.events import DriftFound

CONFIG = WatchConfig(model="m", schema=Schema(features=()), tolerance_points=2.0)
BASE = BaseError.from_errors(np.tile([0] * 9 + [1], 2_000))
SECOND = 1_000_000


def after(state: AccuracyState | None, errors: list[int]) -> tuple[AccuracyState, list[DriftFound]]:
    first = 0 if state is None else state.n
    at = (first + np.arange(len(errors))) * SECOND
    outcomes = Outcomes(error=np.array(errors, np.uint8), served_at=at, received_at=at)
    new, found, _ = account(state, outcomes, version="1", base=BASE, config=CONFIG, label_share=0.1)
    return new, found


def fall(until: int, seed: int = 0) -> list[DriftFound]:
    """Open findings of a stream whose confidence falls at row 3,000."""
    rng = np.random.default_rng(seed)
    score = np.where(np.arange(until) < 3_000, 0.95, 0.7) + rng.normal(scale=0.02, size=until)
    block = PredictionBlock(
        model="m",
        version="1",
        ids=[""] * until,
        served_at=np.arange(until) * SECOND,
        feature_names=(),
        features=np.zeros((until, 0), np.float32),
        prediction=Codes(np.zeros(until, np.int32), ("a", "b")),
        scores=np.stack([score, 1 - score], 1).astype(np.float32),
    )
    state = observe(None, block, profile=None, config=CONFIG, partition=("t", 0)).state
    return [o.finding for o in state.tracked.open.values()]


def test_nothing_is_suspected_while_errors_are_as_usual() -> None:
    assert suspicions(None) == []
    state, _ = after(None, ([0] * 9 + [1]) * 300)
    assert suspicions(state) == []


def test_harm_is_suspected_before_it_is_found_and_dated_to_its_change() -> None:
    state, _ = after(None, ([0] * 9 + [1]) * 100)
    suspected: list[Suspicion] = []
    for n in range(300):
        state, found = after(state, [[0, 1, 0][n % 3]])
        if found:
            assert suspected
            assert suspicions(state) == []  # decided
            return
        suspected += suspicions(state)
        if suspected:
            assert {s.why for s in suspected} == {"harm"}
            assert 950 <= suspected[-1].since // SECOND <= 1_010
    pytest.fail("harm was not found")


def test_a_fall_of_the_confidence_is_a_suspicion_until_it_is_over() -> None:
    assert suspicions(None, fall(2_999)) == []
    (finding,) = fall(4_000)
    (suspected,) = suspicions(None, [finding])
    assert suspected.why == "confidence"
    assert 1_900 <= suspected.since // SECOND <= 3_100
    assert suspicions(None, [dataclasses.replace(finding, status="resolved")]) == []


def test_a_slice_is_suspected_before_it_is_found_and_dated_to_its_change() -> None:
    rng = np.random.default_rng(0)
    world = World.drawn(rng, 0.1)
    base, expected = reference(world.rows(rng, REFERENCE_ROWS))
    rows = world.rows(rng, 2_000, harmed=("small", 5), harm="flip", since=1_000)
    state, suspected = None, []
    for i in range(0, 2_000, 10):
        at = np.arange(i, i + 10)
        outcomes = Outcomes(
            error=rows.wrong[at],
            served_at=at * SECOND,
            received_at=at * SECOND,
            confidence=rows.confidence[at],
            slices=rows.codes(at),
        )
        state, found, _ = account(
            state, outcomes, version="1", base=base, expected=expected, config=CONFIG
        )
        if found:
            assert found[0].scope == "slice:small=v5"
            break
        suspected += [s for s in suspicions(state) if s.why == "slice:small=v5"]
    assert found
    assert suspected
    assert 950 <= suspected[-1].since // SECOND <= 1_100
    assert all(s.why != "slice:small=v5" for s in suspicions(state))

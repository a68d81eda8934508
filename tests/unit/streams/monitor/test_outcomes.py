"""Outcomes that are remembered, and that they can be stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from redistill.streams.errors import StateError
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.harm import HarmTest
from redistill.streams.monitor.outcomes import AccuracyState, Outcomes
from redistill.streams.monitor.seal import Place, seal, unseal
from redistill.streams.wire.block import Codes

GOLDEN = Path(__file__).parents[3] / "golden"
KEY = b"state key"
PLACE = Place("accuracy", "credit", "7")
BASE = BaseError.from_errors((np.random.default_rng(0).random(5_000) < 0.1).astype(int))


def data_of(state: AccuracyState) -> bytes:
    return state.to_bytes(KEY, model="credit")


def read(data: bytes) -> AccuracyState:
    return AccuracyState.from_bytes(data, KEY, model="credit", version="7")


def state_of(rows: int, rate: float) -> AccuracyState:
    test = HarmTest(BASE, tolerance=0.02, labels_per_alarm=1e4, strictness=0.25, share=0.5)
    errors = np.random.default_rng(1).random(rows) < rate
    for i, error in enumerate(errors.tolist()):
        test.update(int(error), 1_000_000 * i - 5)
    return AccuracyState(
        version="7", n=rows + 3, errors=int(errors.sum()), base=BASE, share=0.5, test=test
    )


@pytest.mark.parametrize(("rows", "rate"), [(50, 0.1), (400, 0.6), (40_000, 0.1)])
def test_a_state_goes_on_after_its_bytes_as_if_nothing_had_happened(rows: int, rate: float) -> None:
    state = state_of(rows, rate)
    again = read(data_of(state))
    assert data_of(again) == data_of(state)
    assert (again.n, again.errors, again.base, again.share) == (
        state.n,
        state.errors,
        BASE,
        0.5,
    )
    assert state.test is not None
    assert again.test is not None
    assert again.test.open == state.test.open == (rate > 0.5)
    errors = (np.random.default_rng(2).random(2_000) < 0.3).astype(int).tolist()
    for i, error in enumerate(errors):
        at = 1_000_000 * (rows + i)
        assert again.test.update(error, at) == state.test.update(error, at)


@pytest.mark.parametrize("was_open", [False, True], ids=["closed", "open"])
def test_state_of_the_first_format_is_read_and_goes_on(was_open: bool) -> None:
    name = f"accuracy-state.1.{'open' if was_open else 'closed'}.msgpack"
    state = read(seal((GOLDEN / name).read_bytes(), KEY, PLACE))
    test = state.test
    assert test is not None
    assert test.open == was_open == (state.finding is not None)
    assert len(test.memory) == test.seen == state.n == (1_500 if was_open else 900)
    assert (test.behind, test.ended) == (0, None)
    assert test.mixture.threshold == (1e4 if was_open else 1e5)  # half of the budget, not all
    harm, health = np.tile([0, 1], 100), np.tile([0] * 9 + [1], 400)
    said = [
        change.status
        for i, error in enumerate((health if was_open else harm).tolist())
        if (change := test.update(error, 1_000_000 * (state.n + i))) is not None
    ]
    assert ("resolved" if was_open else "open") in said
    again = read(data_of(state))
    assert data_of(again) == data_of(state)


@pytest.mark.parametrize("was_open", [False, True], ids=["closed", "open"])
def test_state_of_before_there_were_tests_of_slices_is_read(was_open: bool) -> None:
    name = f"accuracy-state.2.{'open' if was_open else 'closed'}.msgpack"
    state = read(seal((GOLDEN / name).read_bytes(), KEY, PLACE))
    assert (state.slices, state.slice_findings) == (None, {})
    assert state.test is not None
    assert (state.n, state.test.open) == (600, was_open)
    assert state.test.threshold == 2e5
    again = read(data_of(state))
    assert data_of(again) == data_of(state)


def test_state_after_a_recovery_remembers_the_harm_before_it() -> None:
    state = state_of(400, 0.6)
    assert state.test is not None
    for i in range(300):
        state.test.update(0, 1_000_000 * (400 + i))
    assert not state.test.open
    again = read(data_of(state))
    assert again.test is not None
    assert again.test.ended is not None
    assert again.test.ended == state.test.ended
    assert again.test.behind == state.test.behind > 0
    relapse = [1] * 30
    assert [again.test.update(e, 10**9) for e in relapse] == [
        state.test.update(e, 10**9) for e in relapse
    ]


def test_a_state_that_is_learning_keeps_its_outcomes() -> None:
    state = AccuracyState(version="7", n=3, errors=1)
    for error, at in ((0, 5), (1, 9), (0, 7)):
        state.learning.append(error, at)
    again = read(data_of(state))
    assert again.test is None
    assert (again.learning.errors, again.learning.times) == ([0, 1, 0], [5, 9, 7])


def test_a_copy_is_independent() -> None:
    state = state_of(50, 0.1)
    state.learning.append(1, 1)
    before, twin = data_of(state), state.copy()
    assert twin.test is not None
    twin.test.update(1, 10**9)
    twin.learning.append(1, 2)
    assert data_of(state) == before
    assert len(state.learning) == 1


def test_state_refuses_newer_and_broken_bytes() -> None:
    data = data_of(AccuracyState(version="7"))
    body = unseal(data, KEY, PLACE)
    with pytest.raises(StateError, match="cannot be read"):
        read(seal(body[:-3], KEY, PLACE))
    with pytest.raises(StateError, match="authentic"):
        read(data[:-3])
    with pytest.raises(StateError, match="not sealed"):
        read(body)
    plain = msgspec.msgpack.decode(body)
    assert plain["format"] == 3
    with pytest.raises(StateError, match="format 99"):
        read(seal(msgspec.msgpack.encode({**plain, "format": 99}), KEY, PLACE))
    with pytest.raises(StateError, match="without a base error"):
        read(seal(msgspec.msgpack.encode({**plain, "test": {"open": False}}), KEY, PLACE))


def test_state_of_many_outcomes_stays_small() -> None:
    assert len(data_of(state_of(40_000, 0.1))) < 100_000


ROWS = {
    "error": np.array([0, 1], np.uint8),
    "served_at": np.array([1, 2]),
    "received_at": np.array([3, 4]),
}


def test_outcomes_carry_their_slices_and_what_one_slice_asked_for() -> None:
    regions = Codes.of(["EU", None])
    asked = Codes.of([None, "region=EU"])
    uniform = np.array([True, False])
    rows = Outcomes(**ROWS, uniform=uniform, slices={"region": regions}, slice_only=asked)
    assert rows.slices["region"].strings() == ["EU", None]
    assert dict(Outcomes(**ROWS).slices) == {}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"slices": {"region": Codes.of(["EU"])}}, "slices of 'region' are of 1 rows, not of 2"),
        ({"slice_only": Codes.of([None])}, "slice_only is of 1 rows, not of 2"),
        ({"slice_only": Codes.of([None, "region=EU"])}, "not drawn uniformly"),
        (
            {"slice_only": Codes.of([None, "a=b"]), "uniform": np.array([False, True])},
            "not drawn uniformly",
        ),
    ],
)
def test_outcomes_that_contradict_themselves_are_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Outcomes(**ROWS, **given)

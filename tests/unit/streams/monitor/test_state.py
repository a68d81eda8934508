"""Input state: stored under names that stay, readable for what an earlier program wrote."""

from __future__ import annotations

import pickle
from typing import Any

import msgspec
import numpy as np
import pytest
from monitor_blocks import CONFIG, SCHEMA, block, features

from redistill.streams.errors import StateError
from redistill.streams.monitor import detectors
from redistill.streams.monitor.counts import Counts
from redistill.streams.monitor.detectors import ConfidenceWatch
from redistill.streams.monitor.finding_tracker import OpenFinding, Tracked
from redistill.streams.monitor.findings import Span
from redistill.streams.monitor.observe import observe
from redistill.streams.monitor.reference import build_profile
from redistill.streams.monitor.reports import Origin, drift_impact, opened
from redistill.streams.monitor.sample import Learning, Sample
from redistill.streams.monitor.seal import Place, seal, unseal
from redistill.streams.monitor.state import InputState
from redistill.streams.monitor.subwindows import Counted, WindowCounts
from redistill.streams.monitor.verdicts import Recent
from redistill.streams.wire.events import Contributor, Statistic

KEY = b"state key"
FINDING = opened(
    Origin(model="credit", version="7", partition=("topic", 3), provisional=False),
    Span(1, 2, 3),
    kind="input",
    scope="all",
    name="psi",
    count=0,
    severity="info",
    parameters={"windows": 2},
    statistic=Statistic(value=1.0, threshold=0.25),
    impact=drift_impact(1.0, 3),
    contributors=(),
    reason="x0 is far",
)
COLUMN = Contributor(column="x0", distance="psi", value=1.0, noise_floor=0.1)


def counts(rows: int) -> Counts:
    return Counts(
        rows=rows,
        valid=np.array([rows, rows - 1]),
        below=np.array([1, 2, 3]),
        low=np.array([-1, 0], np.float32),
        high=np.array([1, 2], np.float32),
        wrong=np.array([0, 1]),
    )


def full() -> InputState:
    """A state in which nothing is empty."""
    confidence = ConfidenceWatch(1e-5)
    confidence.update([0.9, 0.8, 0.7])
    confidence.settle()
    return InputState(
        model="credit",
        version="7",
        partition=("topic", 3),
        digest="0123456789abcdef",
        counted=Counted(
            rows=4_321,
            first_served_at=5,
            last_served_at=99,
            window=WindowCounts(
                number=2,
                rows=321,
                first_served_at=50,
                last_served_at=99,
                partial=counts(21),
                complete=counts(300),
            ),
            unseen={"region": ("MARS", "MOON")},
        ),
        recent=Recent(
            quartiles=(np.arange(6.0).reshape(3, 2), np.ones((3, 2))),
            streaks={"constant|2": 1},
            drifting={"input": 1, "prediction": 0},
            confidence=confidence,
            healthy=(counts(200), counts(201)),
        ),
        tracked=Tracked(
            open={"input|psi|all": OpenFinding(finding=FINDING, columns=(1,), quiet_windows=2)},
            opened={"input|psi|all": 1},
            drifted=(COLUMN,),
        ),
        learning=Learning(sample=Sample(("x",)).plus(block(features(2, 0)), 0, 2)),
    )


PLACE = Place("input", "credit", "7", "topic", 3)


def plain_of(state: InputState) -> dict[str, Any]:
    """What is stored of a state."""
    body = unseal(state.to_bytes(KEY), KEY, PLACE)
    plain: dict[str, Any] = msgspec.msgpack.decode(body)
    return plain


def read(data: bytes, key: bytes = KEY) -> InputState:
    return InputState.from_bytes(data, key, model="credit", version="7", partition=("topic", 3))


def test_a_state_is_stored_under_the_names_that_it_always_had() -> None:
    plain = plain_of(full())
    assert list(plain) == [
        "format",
        "model",
        "version",
        "partition",
        "rows",
        "first_served_at",
        "last_served_at",
        "window",
        "window_rows",
        "window_first",
        "window_last",
        "digest",
        "pane",
        "whole",
        "shapes",
        "streaks",
        "open",
        "opened",
        "opened_before",
        "moved",
        "moving",
        "unseen",
        "confidence",
        "healthy",
        "sample",
        "learned",
    ]
    assert list(plain["open"]["input|psi|all"]) == ["found", "columns", "calm"]
    assert list(plain["pane"]) == [
        "rows",
        "valid",
        "below",
        "low",
        "high",
        "wrong",
    ]
    assert (plain["format"], plain["window"], plain["window_rows"]) == (3, 2, 321)
    assert (plain["pane"]["rows"], plain["whole"]["rows"]) == (21, 300)
    assert (plain["moving"], plain["learned"]) == ({"input": 1, "prediction": 0}, False)


def test_a_state_survives_its_bytes() -> None:
    state = full()
    again = read(state.to_bytes(KEY))
    assert again.to_bytes(KEY) == state.to_bytes(KEY)
    assert again.partition == ("topic", 3)
    assert again.counted.window.span == state.counted.window.span
    assert again.counted.unseen == {"region": ("MARS", "MOON")}
    assert again.tracked.open == state.tracked.open
    assert again.tracked.drifted == (COLUMN,)
    assert again.recent.quartiles[0].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert again.recent.confidence is not None
    assert again.recent.confidence.level == pytest.approx(0.8)
    assert again.counted.window.complete is not None
    assert again.counted.window.complete.low.dtype == np.float32
    assert again.learning.sample is not None
    assert again.learning.sample.rows == 2


def test_a_state_of_another_profile_keeps_its_window_its_findings_and_its_confidence() -> None:
    state, profile = full(), build_profile(block(features(500, 0)), SCHEMA)
    other = state.under(profile)
    assert other.digest == profile.digest
    window = other.counted.window
    assert (window.partial, window.complete, window.rows) == (None, None, 321)
    assert other.counted.unseen == state.counted.unseen
    assert (other.recent.quartiles, other.recent.streaks, other.recent.drifting) == ((), {}, {})
    assert other.recent.confidence is state.recent.confidence
    assert (other.tracked.open, other.tracked.opened) == (
        state.tracked.open,
        state.tracked.opened,
    )
    assert other.tracked.drifted == ()
    assert (other.learning.sample, other.learning.done) == (None, True)
    assert other.under(profile) is other
    without = other.under(None)
    assert (without.digest, without.learning.done) == (None, True)


def written(**changes: Any) -> bytes:
    plain = plain_of(full())
    return seal(msgspec.msgpack.encode({**plain, **changes}), KEY, PLACE)


def test_stored_state_of_another_key_or_format_is_refused() -> None:
    with pytest.raises(StateError, match="authentic"):
        read(written(), b"another")
    with pytest.raises(StateError, match="format 99"):
        read(written(format=99))


@pytest.mark.parametrize(
    "data",
    [seal(b"\x00", KEY, PLACE), seal(b"", KEY, PLACE), written(open={"x": {}}), written(pane=3)],
)
def test_a_stored_state_that_cannot_be_read_is_refused(data: bytes) -> None:
    with pytest.raises(StateError, match="cannot be read"):
        read(data)


def test_a_detector_of_another_river_starts_again_and_the_rest_goes_on() -> None:
    confidence = {**ConfidenceWatch(1e-5).plain(), "river": "0.1"}
    state = read(written(confidence=confidence))
    assert state.recent.confidence is None
    assert state.counted.rows == 4_321


def test_a_new_state_is_empty_and_can_be_stored() -> None:
    state = InputState(model="m", version="1", partition=("t", 0))
    again = InputState.from_bytes(
        state.to_bytes(KEY), KEY, model="m", version="1", partition=("t", 0)
    )
    assert again.to_bytes(KEY) == state.to_bytes(KEY)
    step = observe(again, block(features(10, 0)), profile=None, config=CONFIG, partition=("t", 0))
    assert step.state.counted.rows == 10


class _Canary:
    """Tells when it is unpickled."""

    unpickled = 0

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return _sing, ()


def _sing() -> None:
    _Canary.unpickled += 1


def test_nothing_is_unpickled_before_the_seal_is_right_nor_what_is_not_rivers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bytes] = []
    unpickle = detectors.unpickle
    monkeypatch.setattr(detectors, "unpickle", lambda body: asked.append(body) or unpickle(body))
    pickled = pickle.dumps(_Canary())
    forged = written(confidence={**ConfidenceWatch(1e-5).plain(), "adwin": pickled})
    for place in range(len(forged)):
        changed = bytearray(forged)
        changed[place] ^= 1
        with pytest.raises(StateError):
            read(bytes(changed))
    assert asked == [], "a byte was changed, and the pickle was looked at"
    with pytest.raises(StateError, match="not allowed"):
        read(forged)
    assert (asked, _Canary.unpickled) == ([pickled], 0)


def test_a_state_in_place_of_a_lost_one_takes_no_number_twice() -> None:
    lost = InputState.anew(
        "credit", "7", ("topic", 3), rows=4_321, first_served_at=5, last_served_at=99, window=8
    )
    again = read(lost.to_bytes(KEY))
    assert (again.counted.rows, again.counted.first_served_at) == (4_321, 5)
    assert (again.counted.window.number, again.tracked.before) == (8, 4_321)
    step = observe(
        again, block(features(10, 0)), profile=None, config=CONFIG, partition=("topic", 3)
    )
    assert (step.state.counted.rows, set(step.row_windows.tolist())) == (4_331, {8})
    assert step.state.tracked.before == 4_321
    assert step.state.under(build_profile(block(features(500, 0)), SCHEMA)).tracked.before == 4_321

"""Input state: stored under names that stay, readable for what an earlier program wrote."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from monitor_blocks import CONFIG, SCHEMA, block, features

from redistill.streams.errors import StateError
from redistill.streams.monitor.counts import Counts
from redistill.streams.monitor.detectors import ConfidenceWatch
from redistill.streams.monitor.finding_tracker import OpenFinding, Tracked
from redistill.streams.monitor.findings import Span
from redistill.streams.monitor.observe import observe
from redistill.streams.monitor.reference import build_profile
from redistill.streams.monitor.reports import Origin, drift_impact, opened
from redistill.streams.monitor.sample import Learning, Sample
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
        ),
        tracked=Tracked(
            open={"input|psi|all": OpenFinding(finding=FINDING, columns=(1,), quiet_windows=2)},
            opened={"input|psi|all": 1},
            drifted=(COLUMN,),
        ),
        learning=Learning(sample=Sample(("x",)).plus(block(features(2, 0)), 0, 2)),
    )


def test_a_state_is_stored_under_the_names_that_it_always_had() -> None:
    plain = msgspec.msgpack.decode(full().to_bytes(KEY))
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
        "moved",
        "moving",
        "unseen",
        "confidence",
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
    assert (plain["format"], plain["window"], plain["window_rows"]) == (2, 2, 321)
    assert (plain["pane"]["rows"], plain["whole"]["rows"]) == (21, 300)
    assert (plain["moving"], plain["learned"]) == ({"input": 1, "prediction": 0}, False)


def test_a_state_of_the_first_format_is_read_without_the_sums_that_it_held() -> None:
    state = full()
    plain = msgspec.msgpack.decode(state.to_bytes(KEY))
    for counts in (plain["pane"], plain["whole"]):
        counts |= {"total": np.zeros(2).tobytes(), "squares": np.zeros(2).tobytes()}
    first = msgspec.msgpack.encode(plain | {"format": 1})
    assert InputState.from_bytes(first, KEY).to_bytes(KEY) == state.to_bytes(KEY)


def test_a_state_survives_its_bytes() -> None:
    state = full()
    again = InputState.from_bytes(state.to_bytes(KEY), KEY)
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
    plain = msgspec.msgpack.decode(full().to_bytes(KEY))
    return msgspec.msgpack.encode({**plain, **changes})


def test_stored_state_of_another_key_or_format_is_refused() -> None:
    with pytest.raises(StateError, match="authentic"):
        InputState.from_bytes(written(), b"another")
    with pytest.raises(StateError, match="format 99"):
        InputState.from_bytes(written(format=99), KEY)


@pytest.mark.parametrize(
    "data",
    [b"\x00", b"", written(partition=3), written(open={"x": {}}), written(pane={"rows": 1})],
)
def test_a_stored_state_that_cannot_be_read_is_refused(data: bytes) -> None:
    with pytest.raises(StateError, match="cannot be read"):
        InputState.from_bytes(data, KEY)


def test_a_detector_of_another_river_starts_again_and_the_rest_goes_on() -> None:
    confidence = {**ConfidenceWatch(1e-5).plain(KEY), "river": "0.1"}
    state = InputState.from_bytes(written(confidence=confidence), KEY)
    assert state.recent.confidence is None
    assert state.counted.rows == 4_321


def test_a_new_state_is_empty_and_can_be_stored() -> None:
    state = InputState(model="m", version="1", partition=("t", 0))
    again = InputState.from_bytes(state.to_bytes(KEY), KEY)
    assert again.to_bytes(KEY) == state.to_bytes(KEY)
    step = observe(again, block(features(10, 0)), profile=None, config=CONFIG, partition=("t", 0))
    assert step.state.counted.rows == 10

"""What is lag, what waits for a transaction to end, and what is said about that."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from faust.types import TP
from structlog.testing import capture_logs

from redistill.streams.engine.health import Health, LivenessCheck
from redistill.streams.engine.lag import SAY_AFTER_SECONDS, SAY_AGAIN_SECONDS, Lag, LogEnd
from redistill.streams.engine.metrics import StreamMetrics
from redistill.streams.store.process_rows import TopicLag

P0, P1 = TP("labels", 0), TP("labels", 1)
OPEN = {P0: LogEnd(100, 130)}
AT = {P0: 100, P1: 0}
T0 = 1_790_000_000.0


class Rig:
    """A worker's lag, and what it shows."""

    def __init__(self) -> None:
        self.health, self.metrics = Health(joined=True, assigned=True), StreamMetrics()
        self.lag = Lag(self.health, self.metrics)
        self.said: list[dict[str, object]] = []

    def measured(
        self, ends: Mapping[TP, LogEnd], seconds: float, stored: Mapping[TP, int] = AT
    ) -> list[str]:
        """Measure; returns the actions that were said."""
        with capture_logs() as lines:
            self.lag.measured(ends, stored, T0 + seconds)
        self.said += lines  # type: ignore[arg-type]
        return [line["action"] for line in lines]

    def gauge(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"redistill_stream_{name}")


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_lag_ends_at_the_last_stable_offset(rig: Rig) -> None:
    rig.measured({P0: LogEnd(110, 500), P1: LogEnd(5, 5)}, 0)
    assert (rig.health.lag, rig.gauge("lag")) == (15, 15)
    assert rig.gauge("held") == 0, "the worker itself has something to do"
    rig.measured({P0: LogEnd(90, 500)}, 1)  # counted before this was read committed
    assert (rig.health.lag, rig.gauge("held")) == (0, 410)


def test_open_transaction_is_shown_at_once_and_said_when_it_lasts(rig: Rig) -> None:
    assert rig.measured(OPEN, 0) == []
    assert (rig.gauge("held"), rig.gauge("held_seconds")) == (30, 0)
    assert rig.measured(OPEN, SAY_AFTER_SECONDS - 1) == []
    assert rig.measured(OPEN, SAY_AFTER_SECONDS) == ["transaction_open"]
    assert rig.gauge("held_seconds") == SAY_AFTER_SECONDS
    (line,) = rig.said
    assert {k: line[k] for k in ("topic", "partition", "offset", "since", "waiting")} == {
        "topic": "labels", "partition": 0, "offset": 100, "since": "2026-09-21T14:13:20+00:00",
        "waiting": 30,
    }  # fmt: skip
    assert line["log_level"] == "warning"
    assert "kafka-transactions.sh" in str(line["hint"])


def test_it_is_said_again_seldom_and_when_it_ended(rig: Rig) -> None:
    rig.measured(OPEN, 0)
    said = [rig.measured(OPEN, 60 + i) for i in range(round(SAY_AGAIN_SECONDS) + 1)]
    assert [i for i, lines in enumerate(said) if lines] == [0, round(SAY_AGAIN_SECONDS)]
    assert rig.measured({P0: LogEnd(131, 131)}, 700, {P0: 131}) == ["transaction_ended"]
    assert (rig.gauge("held"), rig.gauge("held_seconds")) == (0, 0)
    assert rig.measured({P0: LogEnd(131, 131)}, 701, {P0: 131}) == []


def test_transactions_that_follow_one_another_are_no_hung_one(rig: Rig) -> None:
    for i in range(200):
        at = 100 + 10 * i
        assert rig.measured({P0: LogEnd(at, at + 5)}, i, {P0: at}) == []
    assert rig.gauge("held_seconds") == 0


def test_partition_that_is_taken_away_is_forgotten(rig: Rig) -> None:
    rig.measured(OPEN, 0)
    rig.measured({}, 1)
    assert rig.measured(OPEN, SAY_AFTER_SECONDS) == []
    assert rig.gauge("held_seconds") == 0


def test_hung_transaction_never_ends_a_worker(rig: Rig) -> None:
    check = LivenessCheck(patience=30)
    for second in range(0, 3_600, 10):
        rig.measured(OPEN, second)
        rig.health.ticked_at = rig.health.fetched_at = float(second)
        assert check.verdict(rig.health, float(second)) is None


def test_lag_is_told_by_topic_with_the_age_of_the_oldest_record_that_is_known(rig: Rig) -> None:
    ends = {P0: LogEnd(110, 110), P1: LogEnd(5, 5), TP("predictions", 0): LogEnd(7, 7)}
    stored = {P0: 100, P1: 0, TP("predictions", 0): 7}
    rig.lag.measured(ends, stored, T0, since={P0: 1_790_000_000_123, P1: 1_790_000_000_999})
    assert rig.health.topic_lag == {
        "labels": TopicLag(behind=15, oldest_at=1_790_000_000_123_000),
        "predictions": TopicLag(behind=0, oldest_at=None),
    }
    assert rig.health.lag_measured_at is not None

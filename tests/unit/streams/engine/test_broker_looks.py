"""Looks at the broker: lag where it answers, and in words why not where it does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
from faust.types import TP
from structlog.testing import capture_logs

from redistill.streams.engine import broker_looks as module
from redistill.streams.engine.broker_looks import BrokerLooks
from redistill.streams.engine.broker_watch import BrokerWatch
from redistill.streams.engine.health import Health
from redistill.streams.engine.lag import Lag, LogEnd
from redistill.streams.engine.metrics import StreamMetrics
from redistill.streams.errors import BrokerRefused, BrokerUnavailable, StreamsError

HERE = TP("predictions", 0)


class Rig:
    """A consumer and a broker, and what was found out about them."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.health, self.metrics = Health(joined=True), StreamMetrics()
        self.watch = BrokerWatch(self.health, self.metrics, clock=lambda: self.now)
        self.broker: StreamsError | None = None
        self.error: Exception | None = None
        self.pending: Exception | None = None
        self.refused: tuple[float, Exception] | None = None
        self.positions = {HERE: 5}
        self.assigned = {HERE}
        self.asked: list[Exception | None] = []
        self.seen: list[Mapping[TP, LogEnd]] = []
        self.tried_again = 0
        self.said: list[str] = []
        self.looks = BrokerLooks(
            why_not=self._why_not,
            consumer=lambda: self,
            positions=lambda: self.positions,
            watch=self.watch,
            lag=Lag(self.health, self.metrics),
            looked=self.seen.append,
            health=self.health,
            clock=lambda: 1_790_000_000.0,
            monotonic=lambda: self.now,
        )

    def _why_not(self, error: Exception | None) -> StreamsError | None:
        self.asked.append(error)
        return self.broker

    def assignment(self) -> set[TP]:
        return self.assigned

    async def ends(self, *tps: TP) -> dict[TP, LogEnd]:
        if self.error is not None:
            raise self.error
        return dict.fromkeys(tps, LogEnd(8, 8))

    def waiting_since(self, stored: dict[TP, int]) -> dict[TP, int]:
        return dict.fromkeys(stored, 1_789_999_940_000)

    def pending_error(self) -> Exception | None:
        return self.pending

    async def try_again(self) -> None:
        self.tried_again += 1

    def look(self, seconds: int = 2) -> Health:
        with capture_logs() as lines:
            for _ in range(0, seconds, 2):
                self.now += 2
                asyncio.run(self.looks.look())
        self.said += [x["action"] for x in lines if x["log_level"] != "debug"]
        return self.health

    def gauge(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"redistill_stream_{name}")


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_lag_is_what_sql_has_not_seen_and_how_old_it_is(rig: Rig) -> None:
    assert rig.look().lag == 3
    assert (rig.gauge("lag"), rig.gauge("lag_seconds"), rig.gauge("broker_up")) == (3, 60, 1)
    rig.positions, rig.assigned = {}, set()
    assert rig.look().lag == 0
    assert rig.asked == []


def test_who_stores_it_is_told_where_logs_end(rig: Rig) -> None:
    rig.look()
    assert rig.seen == [{HERE: LogEnd(8, 8)}]


def test_broker_that_is_away_is_said_in_its_own_words_and_lag_stays_as_it_was(rig: Rig) -> None:
    rig.look()
    rig.error, rig.broker = TimeoutError(), BrokerUnavailable("kafka:9092 does not answer")
    assert rig.look(60).broker_away == "kafka:9092 does not answer"
    assert 8 <= len(rig.asked) <= 20
    assert (rig.gauge("lag"), rig.gauge("broker_up")) == (3, 0)
    rig.error = rig.broker = None
    assert rig.look().broker_away is None
    assert rig.said == ["broker_away", "broker_back"]


def test_broker_that_refuses_is_asked_seldom(rig: Rig) -> None:
    rig.error, rig.broker = TimeoutError(), BrokerRefused("refuses the credentials")
    rig.look(600)
    assert len(rig.asked) < 30
    assert rig.said[0] == "broker_refused"
    assert len(rig.said) < 6


def test_consumer_that_does_not_find_a_broker_that_answers_is_blind(rig: Rig) -> None:
    rig.error = TimeoutError()
    health = rig.look()
    assert (health.blind, health.broker_away) == (True, None)
    rig.error = None
    assert not rig.look().blind


def test_pending_error_is_shown_and_tried_again(rig: Rig) -> None:
    rig.pending, rig.broker = PermissionError("group"), BrokerRefused("may not use the group")
    assert rig.look().pending_error == "PermissionError('group')"
    assert (rig.asked, rig.tried_again) == ([rig.pending], 1)
    assert rig.health.broker_away == "may not use the group"
    rig.look(600)
    assert 15 < rig.tried_again < 30
    rig.pending = rig.broker = None
    assert rig.look().pending_error is None
    assert rig.said[-1] == "broker_back"


def test_lag_is_not_nothing_while_reading_has_not_begun(rig: Rig) -> None:
    rig.look()
    rig.positions = {}  # SQL and the broker are being asked where to begin
    assert rig.look().lag == 3
    rig.assigned = set()
    assert rig.look().lag == 0, "others have all of it"


def test_group_that_is_being_joined_is_left_in_peace(rig: Rig) -> None:
    rig.positions, rig.health.joined = {}, False
    rig.look(4)
    assert rig.asked == []
    rig.broker = BrokerUnavailable("away")
    rig.look(6)
    assert set(rig.asked) == {None}
    assert rig.health.broker_away == "away"
    rig.broker = None
    rig.look(6)
    assert rig.health.broker_away is None, "it lets us in: the group is waited for"


def test_reading_that_is_refused_is_trouble_until_it_is_not(rig: Rig) -> None:
    rig.refused = (rig.now + 2, PermissionError("predictions"))
    assert "predictions" in str(rig.look().broker_away)
    assert rig.look(6).broker_away is None
    assert rig.said == ["broker_refused", "broker_back"]


def test_run_looks_again_and_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0)

    async def until(done: Callable[[], bool]) -> None:
        task = asyncio.create_task(rig.looks.run())
        while not done():
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(until(lambda: rig.health.lag == 3))

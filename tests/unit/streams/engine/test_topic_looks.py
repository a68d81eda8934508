"""Looks at the topics: missing ones are trouble, and one that was made again is begun anew."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest
from structlog.testing import capture_logs

from redistill.streams.engine import topic_looks as module
from redistill.streams.engine.broker_watch import BrokerWatch
from redistill.streams.engine.health import Health
from redistill.streams.engine.metrics import StreamMetrics
from redistill.streams.engine.topic_looks import TopicLooks
from redistill.streams.errors import BrokerRefused, BrokerUnavailable, StreamsError

BOTH = {"predictions": "p", "labels": "l"}


class Rig:
    """Topics of a broker, and what is held of them."""

    def __init__(self) -> None:
        self.there: dict[str, str] | StreamsError = dict(BOTH)
        self.held = dict(BOTH)
        self.asked = self.changes = 0
        self.health = Health()
        self.watch = BrokerWatch(self.health, StreamMetrics())
        self.looks = TopicLooks(
            ask=self._ask,
            topics=BOTH,
            held=lambda: self.held,
            watch=self.watch,
            changed=self._changed,
        )

    def _ask(self) -> Mapping[str, str]:
        self.asked += 1
        if isinstance(self.there, StreamsError):
            raise self.there
        return self.there

    def _changed(self) -> None:
        self.changes += 1

    def look(self) -> list[str]:
        """One look, and the actions logged in it."""
        with capture_logs() as said:
            asyncio.run(self.looks.look())
        return [x["action"] for x in said]


def test_topics_that_are_as_they_were_are_nothing() -> None:
    rig = Rig()
    assert rig.look() == []
    assert (rig.asked, rig.changes, rig.watch.away) == (1, 0, False)


def test_broker_is_not_asked_before_something_is_read() -> None:
    rig = Rig()
    rig.held = {}
    assert rig.look() == []
    assert rig.asked == 0
    rig.watch.trouble("topics", BrokerUnavailable("away"))
    assert rig.look() == ["broker_back"]
    assert not rig.watch.away


@pytest.mark.parametrize("error", [BrokerUnavailable("away"), BrokerRefused("not you")])
def test_what_the_broker_answers_instead_is_trouble(error: StreamsError) -> None:
    rig = Rig()
    rig.there = error
    rig.look()
    assert rig.health.broker_away == str(error)
    rig.there = dict(BOTH)
    assert rig.look() == ["broker_back"]


def test_missing_topic_is_named_and_begins_nothing() -> None:
    rig = Rig()
    rig.there = {"predictions": "p"}
    assert rig.look() == ["broker_refused"]
    assert "missing topics: labels" in str(rig.health.broker_away)
    assert rig.changes == 0


def test_topic_that_was_made_again_is_said_and_begun_anew() -> None:
    rig = Rig()
    rig.there = {**BOTH, "labels": "new"}
    assert rig.look() == ["topic_recreated"]
    assert rig.changes == 1


def test_it_looks_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    rig = Rig()

    async def story() -> None:
        running = asyncio.create_task(rig.looks.run())
        while rig.asked < 3:
            await asyncio.sleep(0)
        running.cancel()

    asyncio.run(story())

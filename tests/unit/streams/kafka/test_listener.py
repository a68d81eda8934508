"""The listener without a broker; with a group it is tried by the consumer of events."""

from __future__ import annotations

from typing import Any

import pytest

from redistill.streams.errors import BrokerRefused, BrokerUnavailable
from redistill.streams.kafka.broker import Broker
from redistill.streams.kafka.listener import LONGEST_PAUSE_SECONDS, LOOK_SECONDS, TopicListener


class FakeConsumer:
    """Hands out records once; commits are not allowed."""

    def __init__(self, site: Site, options: dict[str, Any]) -> None:
        self.site, self.options = site, options
        self.closed = False

    def topics(self) -> set[str]:
        return self.site.topics

    def poll(self, timeout_ms: int) -> dict[str, list[Any]]:
        found, self.site.records = self.site.records, []
        return {"incidents-0": found}

    def assignment(self) -> set[str]:
        return {"incidents-0"}

    def end_offsets(self, tps: set[str], timeout_ms: int) -> None:
        if self.site.away is not None:
            raise self.site.away

    def close(self, timeout_ms: int) -> None:
        self.closed = True


class Site:
    """A listener without a group, with everything around it replaced."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.heard: list[Any] = []
        self.topics = {"x.incidents"}
        self.made: list[FakeConsumer] = []
        self.away: Exception | None = None
        self.now = 0.0
        self.listener = TopicListener(
            Broker("127.0.0.1:9", namespace="x"), ["incidents"], group=None, handle=self.heard.extend,
            connect=self.connect, clock=lambda: self.now,
        )  # fmt: skip

    def connect(self, broker: Broker, *names: str, **options: Any) -> FakeConsumer:
        if self.away is not None:
            raise self.away
        assert names == ("x.incidents",)
        self.made.append(FakeConsumer(self, options))
        return self.made[-1]


def test_without_a_group_it_hears_what_comes_from_now_on_and_commits_nothing() -> None:
    site = Site()
    site.records = [b"anything"]
    assert site.listener.run_once()
    assert site.heard == [b"anything"]
    assert site.made[0].options["group_id"] is None
    assert site.made[0].options["auto_offset_reset"] == "latest"
    site.listener.close()
    assert site.made[0].closed


def test_topic_that_is_not_there_is_named() -> None:
    site = Site()
    site.topics = set()
    with pytest.raises(BrokerRefused, match=r"x\.incidents: make them with"):
        site.listener.run_once()


def test_broker_that_goes_away_is_noticed_and_one_that_refuses_is_asked_seldom() -> None:
    site = Site()
    site.listener.run_once()
    site.away, site.now = BrokerUnavailable("it does not answer"), LOOK_SECONDS
    with pytest.raises(BrokerUnavailable):
        site.listener.run_once()
    site.away = BrokerRefused("no right to read")
    with pytest.raises(BrokerRefused):
        site.listener.run_once()
    site.away = None
    with pytest.raises(BrokerRefused):
        site.listener.run_once()
    site.now += LONGEST_PAUSE_SECONDS
    assert site.listener.run_once()

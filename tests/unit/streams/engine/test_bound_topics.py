"""Topics of bound sources: subscribed to while a worker runs, missed, and forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from redistill.streams.engine.bound_topics import ASK_SECONDS, BoundTopics
from redistill.streams.engine.broker_watch import BrokerWatch
from redistill.streams.engine.health import Health
from redistill.streams.engine.metrics import StreamMetrics
from redistill.streams.errors import (
    BrokerRefused,
    BrokerUnavailable,
    StoreUnavailable,
    StreamsError,
)

COMMON = {"x.predictions": "predictions", "x.labels": "labels"}
LEDGER = {"x.labels.ledger": "labels.ledger"}
BANK = {"x.labels.bank": "labels.bank"}


class Rig:
    """What is bound, what is there, and what was subscribed to."""

    def __init__(self) -> None:
        self.bound: dict[str, str] = {}
        self.once: dict[str, str] | StreamsError = {}
        self.there: set[str] | StreamsError = set()
        self.asked = 0
        self.now = 0.0
        self.topics = dict(COMMON)
        self.subscribed: list[list[str]] = []
        self.health = Health()
        self.topics_task = BoundTopics(
            bound=lambda: self.bound,
            once_bound=self._once,
            ask=self._ask,
            topics=self.topics,
            watch=BrokerWatch(self.health, StreamMetrics()),
            monotonic=lambda: self.now,
        )

    def _once(self) -> dict[str, str]:
        if isinstance(self.once, StreamsError):
            raise self.once
        return self.once

    def _ask(self, topics: Iterable[str]) -> dict[str, str]:
        self.asked += 1
        if isinstance(self.there, StreamsError):
            raise self.there
        return {t: "id" for t in topics if t in self.there}

    async def _subscribe(self, topics: Iterable[str]) -> None:
        self.subscribed.append(sorted(topics))

    def look(self, later: float = 0.0) -> None:
        self.now += later
        asyncio.run(self.topics_task.look(self._subscribe))


def test_topic_is_subscribed_to_once_it_is_bound_and_there() -> None:
    rig = Rig()
    rig.look()
    rig.bound = LEDGER
    rig.look(0.1)
    assert rig.subscribed == []
    assert "missing topics: x.labels.ledger; make them with" in str(rig.health.broker_away)
    rig.there = set(LEDGER)
    rig.look(ASK_SECONDS - 1)
    assert rig.subscribed == [], "a missing topic is not asked for each second"
    rig.look(1)
    assert rig.subscribed == [sorted(COMMON | LEDGER)]
    assert rig.topics == COMMON | LEDGER
    assert rig.health.broker_away is None


def test_one_more_is_found_at_once_and_nothing_is_asked_while_nothing_changes() -> None:
    rig = Rig()
    rig.bound, rig.there = LEDGER, {*LEDGER, *BANK}
    rig.look()
    asked = rig.asked
    rig.look(ASK_SECONDS / 2)
    assert rig.asked == asked
    rig.bound = LEDGER | BANK
    rig.look()
    assert rig.subscribed[-1] == sorted(COMMON | LEDGER | BANK)


def test_source_that_is_bound_no_more_is_read_until_its_topic_is_deleted() -> None:
    rig = Rig()
    rig.bound, rig.there = LEDGER, set(LEDGER)
    rig.look()
    rig.bound, rig.once = {}, LEDGER
    rig.look(ASK_SECONDS)
    assert rig.topics == COMMON | LEDGER
    rig.there = set()
    rig.look(ASK_SECONDS)
    assert rig.subscribed[-1] == sorted(COMMON)
    assert rig.health.broker_away is None, "nobody needs it"


def test_bound_topic_that_was_deleted_is_missed_and_stays_subscribed() -> None:
    rig = Rig()
    rig.bound, rig.there = LEDGER, set(LEDGER)
    rig.look()
    rig.there = set()
    rig.look(ASK_SECONDS)
    assert rig.topics == COMMON | LEDGER
    assert len(rig.subscribed) == 1
    assert "missing topics: x.labels.ledger" in str(rig.health.broker_away)


def test_broker_or_database_that_does_not_answer_changes_nothing() -> None:
    rig = Rig()
    rig.bound = LEDGER
    for error in (BrokerUnavailable("away"), BrokerRefused("may not describe x.labels.ledger")):
        rig.there = error
        rig.look(ASK_SECONDS)
        assert rig.health.broker_away == str(error)
    rig.once = StoreUnavailable("away")
    rig.look(ASK_SECONDS)
    assert (rig.topics, rig.subscribed) == (COMMON, [])
    rig.once, rig.there = {}, set(LEDGER)
    rig.look(0)
    assert rig.topics == COMMON | LEDGER, "and is asked again at once"

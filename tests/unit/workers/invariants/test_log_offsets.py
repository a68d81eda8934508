"""Where logs begin and end, and which events are in them, as a broker's client tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition

from redistill.streams.errors import BrokerUnavailable
from redistill.streams.kafka.broker import Broker
from redistill.workers.invariants import log_offsets
from redistill.workers.invariants.topic_facts import Log

BROKER = Broker("127.0.0.1:9", namespace="n")


@dataclass
class FakeClient:
    """A consumer and an admin client of a broker that holds these logs."""

    ends: dict[tuple[str, int], tuple[int, int]]
    """(topic, partition) -> begin, end."""
    stable: dict[tuple[str, int], int] = field(default_factory=dict)
    """Where what is committed ends, where a transaction is open."""
    events: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    broken: bool = False
    stuck: bool = False
    deleted: set[str] = field(default_factory=set)
    closed: int = 0
    sought: bool = False
    assigned: list[Any] = field(default_factory=list)
    read: set[Any] = field(default_factory=set)

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """Partitions, or ``None`` where there is no such topic."""
        if self.broken:
            raise OSError("connection refused")
        return {p for t, p in self.ends if t == topic} or None

    def beginning_offsets(self, partitions: Sequence[Any]) -> dict[Any, int]:
        """Begins."""
        return {tp: self.ends[tp.topic, tp.partition][0] for tp in partitions}

    def end_offsets(self, partitions: Sequence[Any]) -> dict[Any, int]:
        """Ends."""
        return {tp: self.ends[tp.topic, tp.partition][1] for tp in partitions}

    def describe_topics(self) -> list[dict[str, Any]]:
        """Topics with their ids."""
        topics = sorted({t for t, _ in self.ends})
        return [
            {"name": t, "topic_id": f"id of {t}", "error_code": 3 * (t in self.deleted)}
            for t in topics
        ]

    def assign(self, partitions: list[Any]) -> None:
        """Read these."""
        self.assigned = partitions

    def seek_to_beginning(self, *partitions: Any) -> None:
        """From their beginning."""
        assert list(partitions) == self.assigned
        self.sought = True

    def poll(self, timeout_ms: int) -> dict[Any, list[Any]]:
        """All records of the next partition."""
        if self.broken:
            raise OSError("connection reset")
        left = [tp for tp in self.assigned if tp not in self.read]
        if self.stuck or not left or not self.sought:
            return {}
        tp = left[0]
        self.read.add(tp)
        headers = [
            [("ce_id", i.encode()), ("ce_type", b"drift")] if i else [("ce_id", None), ("x", None)]
            for i in self.events.get((tp.topic, tp.partition), [])
        ]
        return {
            tp: [
                SimpleNamespace(
                    headers=h, key=None, value=b"v", offset=i, partition=tp.partition, timestamp=7
                )
                for i, h in enumerate(headers)
            ]
        }

    def position(self, tp: Any) -> int:
        """Behind what was read, control records among it."""
        begin, end = self.ends[tp.topic, tp.partition]
        return end if tp in self.read else begin

    def close(self) -> None:
        """Count."""
        self.closed += 1


@dataclass
class Reader:
    """One consumer of that broker."""

    client: FakeClient
    isolation_level: str = "read_committed"

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)

    def end_offsets(self, partitions: Sequence[Any]) -> dict[Any, int]:
        """Ends of what it reads."""
        ends = self.client.end_offsets(partitions)
        if self.isolation_level == "read_uncommitted":
            return ends
        return {tp: self.client.stable.get((tp.topic, tp.partition), e) for tp, e in ends.items()}

    def poll(self, timeout_ms: int) -> dict[Any, list[Any]]:
        """All records, whatever transaction is open."""
        assert self.isolation_level == "read_uncommitted"
        return self.client.poll(timeout_ms)


def use(monkeypatch: pytest.MonkeyPatch, client: FakeClient) -> FakeClient:
    monkeypatch.setattr(log_offsets, "consumer", lambda broker, **over: Reader(client, **over))
    monkeypatch.setattr(log_offsets, "admin", lambda broker: client)
    return client


def test_logs_carry_topic_ids_and_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = {("n.predictions", 0): (3, 9), ("n.predictions", 1): (0, 0), ("n.drift", 0): (0, 5)}
    client = use(monkeypatch, FakeClient(ends))
    assert log_offsets.logs(BROKER, ["predictions"]) == [
        Log("n.predictions", "id of n.predictions", 0, 3, 9, 9),
        Log("n.predictions", "id of n.predictions", 1, 0, 0, 0),
    ]
    assert client.closed == 3


def test_logs_tell_what_is_committed_from_what_an_open_transaction_holds_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends = {("n.labels", 0): (0, 9), ("n.labels", 1): (0, 4)}
    use(monkeypatch, FakeClient(ends, stable={("n.labels", 0): 6}))
    held, free = log_offsets.logs(BROKER, ["labels"])
    assert (held.end, held.stable) == (9, 6)
    assert [held.pending(following) for following in (2, 6, 8, 12)] == [4, 0, 0, 0]
    assert [held.held(following) for following in (2, 6, 8, 12)] == [3, 3, 1, 0]
    assert (free.pending(1), free.held(1)) == (3, 0)


def test_topics_that_are_not_there_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    client = use(monkeypatch, FakeClient({("n.drift", 0): (0, 5)}))
    assert log_offsets.logs(BROKER, ["labels"]) == []
    client.ends["n.gone", 0] = (0, 5)  # it is being deleted: it has partitions, and an error
    client.deleted = {"n.gone"}
    assert log_offsets.logs(BROKER, ["gone"]) == []


def test_dev_broker_names_its_topics_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, FakeClient({("n.drift", 0): (0, 5)}))
    monkeypatch.setattr(log_offsets, "dev_topic_id", lambda broker, name: f"dev {name}")
    dev = SimpleNamespace(is_dev=True, topic=lambda t: f"n.{t}")
    (found,) = log_offsets.logs(dev, ["drift"])  # type: ignore[arg-type]
    assert found.topic_id == "dev n.drift"


def test_broker_that_is_away_is_told_and_its_client_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = use(monkeypatch, FakeClient({("n.drift", 0): (0, 5)}, broken=True))
    with pytest.raises(BrokerUnavailable):
        log_offsets.logs(BROKER, ["drift"])
    assert client.closed == 3
    with pytest.raises(BrokerUnavailable):
        log_offsets.announced(BROKER, [Log("n.drift", "x", 0, 0, 5, 5)], before={})
    assert client.closed == 4


def test_all_announcements_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = {("n.drift", 0): (0, 4), ("n.drift", 1): (0, 1), ("n.incidents", 0): (0, 0)}
    events = {("n.drift", 0): ["a", "b", ""], ("n.drift", 1): ["c"]}  # "": its headers are null
    client = use(monkeypatch, FakeClient(ends, events=events))
    logs = [
        Log("n.drift", "x", 0, 0, 4, 1),  # its last record is a control record
        Log("n.drift", "x", 1, 0, 1, 1),
        Log("n.incidents", "y", 0, 0, 0, 0),
    ]
    found = log_offsets.announced(BROKER, logs, before={("n.drift", 0): 2}) or []
    assert [(a.topic, a.event_id, a.at, a.before) for a in found] == [
        ("drift", "a", 7_000, True),
        ("drift", "b", 7_000, True),
        ("drift", "0:2", 7_000, False),  # it has no id: that of its place, which nobody gave
        ("drift", "c", 7_000, False),
    ]
    assert found[0].digest != found[2].digest
    assert client.assigned == [TopicPartition("n.drift", 0), TopicPartition("n.drift", 1)]
    assert client.closed == 1


def test_empty_logs_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    client = use(monkeypatch, FakeClient({}))
    assert log_offsets.announced(BROKER, [Log("n.drift", "x", 0, 5, 5, 5)], before={}) == []
    assert client.closed == 0


def test_reading_that_takes_too_long_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    client = use(monkeypatch, FakeClient({("n.drift", 0): (0, 5)}, stuck=True))
    logs = [Log("n.drift", "x", 0, 0, 5, 5)]
    assert log_offsets.announced(BROKER, logs, before={}, seconds=0.0) is None
    assert client.closed == 1

"""The thread that owns the producer: what comes back is sent again, and what is wrong is said."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from waiting import PATIENCE_SECONDS, eventually

from redistill.streams.client import sender as module
from redistill.streams.client.batcher import Outgoing
from redistill.streams.client.send_buffer import SendBuffer
from redistill.streams.client.sender import Sender
from redistill.streams.errors import BrokerUnavailable
from redistill.streams.kafka.broker import Broker

AWAY = BrokerUnavailable("is the broker running?")


class KafkaTimeoutError(Exception):
    """As kafka-python names them."""


class MessageSizeTooLargeError(Exception):
    pass


class TopicAuthorizationFailedError(Exception):
    pass


class UnknownTopicOrPartitionError(Exception):
    pass


class NotLeaderForPartitionError(Exception):
    pass


class Future:
    """An acknowledgement that is given by hand."""

    def __init__(self, value: bytes) -> None:
        self.value = value

    def add_callback(self, call: Callable[..., None], number: int) -> None:
        self.acknowledge = lambda: call(number, "metadata")

    def add_errback(self, call: Callable[..., None], *told: Any) -> None:
        self.fail = lambda error: call(*told, error)


class FakeProducer:
    """Keeps what it was given."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Future]] = []
        self.refuses: Exception | None = None
        self.closed = False

    def send(self, topic: str, *, value: bytes, key: Any, headers: Any) -> Future:
        if self.refuses is not None:
            raise self.refuses
        self.sent.append((topic, Future(value)))
        return self.sent[-1][1]

    def close(self, timeout: float) -> None:
        self.closed = True

    def _cleanup(self) -> None:
        """Registered at exit by kafka-python."""


class Rig:
    """A sender, and what it said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.buffer = SendBuffer(1 << 20)
        self.sent: list[bytes] = []
        self.dropped: list[tuple[bytes, str]] = []
        self.trouble: list[str | None] = []
        self.producers: list[FakeProducer] = []
        self.connecting: list[Exception] = []
        self.checks: list[Any] = []
        monkeypatch.setattr(module, "producer", self._producer)
        monkeypatch.setattr(
            module, "check", lambda broker: (self.checks and self.checks.pop(0)) or None
        )
        monkeypatch.setattr(module, "_FIRST_PAUSE", 0.001)
        self.sender = Sender(
            Broker("b:1", namespace="ns"),
            self.buffer,
            sent=lambda record: self.sent.append(record.value),
            dropped=lambda record, why: self.dropped.append((record.value, why)),
            trouble=self.trouble.append,
        )

    def _producer(self, broker: Broker, **options: Any) -> FakeProducer:
        if self.connecting:
            raise self.connecting.pop(0)
        self.producers.append(FakeProducer())
        return self.producers[-1]

    def put(self, *texts: str, topic: str = "predictions") -> None:
        for text in texts:
            assert self.buffer.put(Outgoing(topic, b"m", text.encode(), [], 1))

    def send(self) -> Future:
        """Hand the next record to the producer, as the thread does."""
        if self.sender.producer is None:
            assert self.sender._connect()
        taken = self.buffer.take(self.sender._resting, 1 << 20)
        assert taken is not None
        self.sender._send(*taken)
        return self.producers[-1].sent[-1][1] if self.producers[-1].sent else None  # type: ignore[return-value]


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    return Rig(monkeypatch)


def test_acknowledged_record_is_settled_and_all_is_well(rig: Rig) -> None:
    rig.put("a")
    future = rig.send()
    assert rig.producers[0].sent[0][0] == "ns.predictions"
    assert not rig.buffer.is_settled(1)
    future.acknowledge()
    assert (rig.sent, rig.buffer.rows) == ([b"a"], 0)
    assert rig.trouble[-1] is None
    future.acknowledge()
    assert rig.sent == [b"a"], "told twice is told once"


def test_record_that_failed_is_sent_again_and_its_topic_rests(rig: Rig) -> None:
    rig.put("a", "b")
    first, _ = rig.send(), rig.send()
    first.fail(NotLeaderForPartitionError("moved"))
    assert "ns.predictions" in str(rig.trouble[-1])
    assert "NotLeaderForPartitionError: moved" in str(rig.trouble[-1])
    assert rig.buffer.take(rig.sender._resting, 1 << 20) is None, "the topic is left alone a while"
    assert rig.buffer.take((), 1 << 20) == (1, Outgoing("predictions", b"m", b"a", [], 1))
    assert rig.sender._broken, "the producer is made anew"


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (TopicAuthorizationFailedError("no"), "no permission to write"),
        (UnknownTopicOrPartitionError("no"), "is missing; make it with `redistill topics apply`"),
        (AWAY, "is the broker running"),
    ],
)
def test_what_somebody_has_to_mend_keeps_the_producer(rig: Rig, error: Exception, why: str) -> None:
    rig.put("a")
    assert rig.sender._connect()
    rig.producers[0].refuses = error
    rig.send()
    assert why in str(rig.trouble[-1])
    assert not rig.sender._broken
    assert rig.buffer.rows == 1


def test_first_error_that_is_answered_is_the_producers_last_and_says_nothing_of_others(
    rig: Rig,
) -> None:
    """An idempotent one fails everything from then on, also what is of another topic or size."""
    rig.put("a", "b")
    rig.put("c", topic="labels")
    futures = [rig.send() for _ in range(3)]
    for future in futures:
        future.fail(TopicAuthorizationFailedError("ns.predictions"))
    assert [t for t in rig.trouble if t] == [
        "topic 'ns.predictions': no permission to write (ns.predictions); grant it by an ACL"
    ]
    assert list(rig.sender._resting) == ["predictions"]
    assert rig.sender._broken
    rig.sender._disconnect()
    futures[1].fail(MessageSizeTooLargeError("told late"))
    assert (rig.buffer.rows, rig.dropped) == (3, []), "all are sent by the next one"


def test_record_that_no_broker_takes_is_dropped_and_holds_up_none(rig: Rig) -> None:
    rig.put("a", "b")
    rig.send().fail(MessageSizeTooLargeError("2 MB"))
    assert rig.dropped == [(b"a", "MessageSizeTooLargeError: 2 MB")]
    rig.send().acknowledge()
    assert rig.sent == [b"b"]


@pytest.mark.parametrize("name", ["InvalidTimestampError", "InvalidRecordError"])
def test_record_that_is_refused_for_the_machines_clock_waits_until_it_is_right(
    rig: Rig, name: str
) -> None:
    """What the broker says of one record and of several; the next producer stamps them anew."""
    rig.put("a")
    why = "Timestamp 1799385543012 of message with offset 0 is out of range"
    rig.send().fail(type(name, (Exception,), {})(why))
    assert (rig.buffer.rows, rig.dropped, rig.sender._broken) == (1, [], True)
    assert "this machine's clock says" in str(rig.trouble[-1])


def test_topic_without_metadata_is_missing_or_the_broker_away(rig: Rig) -> None:
    rig.put("a")
    assert rig.sender._connect()
    rig.producers[0].refuses = KafkaTimeoutError("no metadata")
    rig.checks = [AWAY]
    rig.send()
    assert "is the broker running" in str(rig.trouble[-1])
    rig.sender._resting.clear()
    rig.send()
    assert "'ns.predictions' is missing" in str(rig.trouble[-1])


def test_nobody_connects_while_there_is_nothing_to_send(rig: Rig) -> None:
    rig.sender.stopping.set()
    assert not rig.sender._connect()
    assert rig.producers == []


def test_thread_connects_sends_and_gives_back_what_was_never_settled(rig: Rig) -> None:
    rig.connecting = [AWAY, RuntimeError("odd")]
    rig.put("a", "b")
    thread = threading.Thread(target=rig.sender.run, daemon=True)
    thread.start()
    eventually(lambda: rig.producers and len(rig.producers[0].sent) == 2)
    assert rig.trouble == ["is the broker running?", "RuntimeError: odd"]
    rig.producers[0].sent[0][1].acknowledge()
    assert rig.trouble[-1] is None, "connected is not well yet"
    rig.sender.stopping.set()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()
    assert rig.producers[0].closed
    assert rig.sent == [b"a"]
    taken = rig.buffer.take((), 1 << 20)
    assert taken is not None
    assert taken[1].value == b"b"


def test_producer_that_broke_is_made_anew(rig: Rig) -> None:
    rig.put("a")
    thread = threading.Thread(target=rig.sender.run, daemon=True)
    thread.start()
    eventually(lambda: rig.producers and rig.producers[0].sent)
    rig.producers[0].sent[0][1].fail(NotLeaderForPartitionError("moved"))
    eventually(lambda: len(rig.producers) == 2)
    assert rig.producers[0].closed
    rig.sender._resting.clear()
    eventually(lambda: rig.producers[1].sent)
    rig.sender.stopping.set()
    thread.join(PATIENCE_SECONDS)


def test_silent_broker_is_asked_why(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SILENCE", 0.0)
    rig.checks = [AWAY]
    rig.put("a")
    thread = threading.Thread(target=rig.sender.run, daemon=True)
    thread.start()
    eventually(lambda: "is the broker running?" in rig.trouble)
    rig.sender.stopping.set()
    thread.join(PATIENCE_SECONDS)


def test_childs_of_a_fork_leave_the_parents_connection_alone(rig: Rig) -> None:
    rig.sender.forget()  # nothing was sent yet
    rig.put("a")
    rig.send()
    rig.sender.forget()
    assert rig.producers[0].closed is False
    assert rig.producers[0]._closed is True  # type: ignore[attr-defined]

"""Log offsets of the broker: where each partition's log begins and ends, where what is committed
ends, and the ids of the events in it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from redistill.streams.kafka.broker import Broker, admin, cause, consumer
from redistill.streams.kafka.dev_broker import topic_id as dev_topic_id

__all__ = ["Log", "event_ids", "logs"]

_EVERYTHING = "read_uncommitted"

READ_SECONDS = 60.0
"""How long a topic is read at most; the announcements of a month are read in some seconds."""


@dataclass(frozen=True, slots=True)
class Log:
    """One partition's log."""

    topic: str
    """With its namespace."""
    topic_id: str
    """A topic that was deleted and made again has another one."""
    partition: int
    begin: int
    """First offset that is still there."""
    end: int
    """Offset of the next record to be written."""
    stable: int
    """Where the oldest open transaction begins: nobody reads further until it ends."""

    def pending(self, following: int) -> int:
        """Offsets from ``following`` on that may be read."""
        return max(0, self.stable - following)

    def held(self, following: int) -> int:
        """Offsets from ``following`` on that open transactions hold up."""
        return max(0, self.end - max(self.stable, following))


def logs(broker: Broker, topics: Iterable[str]) -> list[Log]:
    """Logs of topics (named without the namespace); topics that are not there are left out.

    Raises
    ------
    BrokerUnavailable, BrokerRefused
        With the cause.
    """
    from kafka import TopicPartition

    names = [broker.topic(t) for t in topics]
    ids = _ids(broker, names)
    with _client(broker) as committed, _client(broker, isolation_level=_EVERYTHING) as whole:
        partitions = [
            TopicPartition(name, p)
            for name in names
            for p in sorted(committed.partitions_for_topic(name) or ())
            if name in ids
        ]
        if not partitions:
            return []
        begins = committed.beginning_offsets(partitions)
        stable = committed.end_offsets(partitions)
        ends = whole.end_offsets(partitions)
    return [
        Log(tp.topic, ids[tp.topic], tp.partition, int(begins[tp]), int(ends[tp]), int(stable[tp]))
        for tp in partitions
    ]


@contextmanager
def _client(broker: Broker, **over: Any) -> Iterator[Any]:
    """A consumer, for one question."""
    client = consumer(broker, **over)
    try:
        yield client
    except Exception as error:
        raise cause(error, broker) from error
    finally:
        client.close()


def event_ids(
    broker: Broker, partition_logs: Sequence[Log], *, seconds: float = READ_SECONDS
) -> set[str] | None:
    """``ce_id`` of every record in the given logs, which are of our own topics: what we wrote there
    is in no transaction, and somebody else's does not hide it.

    Returns
    -------
    set of str, or None
        ``None``: reading took longer than ``seconds``.

    Raises
    ------
    BrokerUnavailable, BrokerRefused
        With the cause.
    """
    from kafka import TopicPartition

    left = {TopicPartition(x.topic, x.partition): x.end for x in partition_logs if x.end > x.begin}
    out: set[str] = set()
    if not left:
        return out
    deadline = time.monotonic() + seconds
    with _client(broker, isolation_level=_EVERYTHING) as client:
        client.assign(list(left))
        client.seek_to_beginning(*left)
        while left:
            if time.monotonic() > deadline:
                return None
            for records in client.poll(timeout_ms=500).values():
                for record in records:
                    ids = (text for name, text in record.headers if name == "ce_id" and text)
                    out |= {text.decode(errors="replace") for text in ids}
            # The position moves past control records too, which no poll returns.
            left = {tp: end for tp, end in left.items() if client.position(tp) < end}
    return out


def _ids(broker: Broker, names: Sequence[str]) -> dict[str, str]:
    if broker.is_dev:
        return {name: dev_topic_id(broker, name) for name in names}
    client = admin(broker)
    try:
        described = client.describe_topics()
    except Exception as error:
        raise cause(error, broker) from error
    finally:
        client.close()
    return {
        t["name"]: str(t["topic_id"])
        for t in described
        if t["name"] in names and not t.get("error_code")
    }

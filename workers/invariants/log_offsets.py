"""Log offsets of the broker: where each partition's log begins and ends, where what is committed
ends, and what is announced in it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from redistill.streams.kafka.broker import Broker, admin, cause, consumer
from redistill.streams.kafka.dev_broker import topic_id as dev_topic_id
from redistill.workers.invariants.topic_facts import Announced, Log, digest

__all__ = ["announced", "logs"]

_EVERYTHING = "read_uncommitted"

READ_SECONDS = 60.0
"""How long a topic is read at most; the announcements of a month are read in some seconds."""


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


def announced(
    broker: Broker,
    partition_logs: Sequence[Log],
    *,
    before: Mapping[tuple[str, int], int],
    seconds: float = READ_SECONDS,
) -> list[Announced] | None:
    """Every record in the given logs, which are of our own topics: what we wrote there is in no
    transaction, and somebody else's does not hide it.

    Parameters
    ----------
    before
        By topic and partition, where its log ended before the database was read.

    Returns
    -------
    list of Announced, or None
        In the order of each log; ``None``: reading took longer than ``seconds``.

    Raises
    ------
    BrokerUnavailable, BrokerRefused
        With the cause.
    """
    from kafka import TopicPartition

    left = {TopicPartition(x.topic, x.partition): x.end for x in partition_logs if x.end > x.begin}
    out: list[Announced] = []
    if not left:
        return out
    deadline = time.monotonic() + seconds
    with _client(broker, isolation_level=_EVERYTHING) as client:
        client.assign(list(left))
        client.seek_to_beginning(*left)
        while left:
            if time.monotonic() > deadline:
                return None
            for tp, records in client.poll(timeout_ms=500).items():
                end = before.get((tp.topic, tp.partition), 0)
                topic = tp.topic.removeprefix(broker.topic(""))
                out += [_announced(topic, r, before=r.offset < end) for r in records]
            # The position moves past control records too, which no poll returns.
            left = {tp: end for tp, end in left.items() if client.position(tp) < end}
    return out


def _announced(topic: str, record: Any, *, before: bool) -> Announced:
    """A record of one of our topics; one without an id has that of its place, which nobody gave."""
    ids = [text for name, text in record.headers if name == "ce_id" and text]
    event_id = ids[0].decode(errors="replace") if ids else f"{record.partition}:{record.offset}"
    return Announced(
        topic=topic,
        event_id=event_id,
        digest=digest(record.key, record.value, record.headers),
        at=int(record.timestamp or 0) * 1_000,
        before=before,
    )


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

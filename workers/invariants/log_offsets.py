"""Log offsets of the broker: where each partition's log begins and ends, and the ids of the events
in it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from redistill.streams.kafka.broker import Broker, admin, cause, consumer
from redistill.streams.kafka.dev_broker import topic_id as dev_topic_id

__all__ = ["Log", "event_ids", "logs"]

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
    client = consumer(broker)
    try:
        partitions = [
            TopicPartition(name, p)
            for name in names
            for p in sorted(client.partitions_for_topic(name) or ())
            if name in ids
        ]
        if not partitions:
            return []
        begins, ends = client.beginning_offsets(partitions), client.end_offsets(partitions)
    except Exception as error:
        raise cause(error, broker) from error
    finally:
        client.close()
    return [
        Log(tp.topic, ids[tp.topic], tp.partition, int(begins[tp]), int(ends[tp]))
        for tp in partitions
    ]


def event_ids(
    broker: Broker, partition_logs: Sequence[Log], *, seconds: float = READ_SECONDS
) -> set[str] | None:
    """``ce_id`` of every record in the given logs.

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
    client = consumer(broker)
    deadline = time.monotonic() + seconds
    try:
        client.assign(list(left))
        client.seek_to_beginning(*left)
        while left:
            if time.monotonic() > deadline:
                return None
            for records in client.poll(timeout_ms=500).values():
                for record in records:
                    out |= {v.decode() for k, v in record.headers if k == "ce_id"}
            # The position moves past control records too, which no poll returns.
            left = {tp: end for tp, end in left.items() if client.position(tp) < end}
    except Exception as error:
        raise cause(error, broker) from error
    finally:
        client.close()
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

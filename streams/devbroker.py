"""An in-memory Kafka for the demo and for fast tests: librdkafka's mock cluster, in this process.

It starts in a fifth of a second and needs neither Java nor Docker; other processes connect to it
over loopback. It is no judge of correctness, and it forgets: some 5 MB a partition, then the oldest
records are gone, and everything when the process ends. ``forgotten`` says whether that happened.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from streams.broker import Broker, consumer
from streams.errors import StreamsError
from streams.wire.events import TOPICS

PARTITIONS = 4
"""The mock cluster's own number; it cannot be changed."""


class DevBroker:
    """A dev broker. It lives as long as the process that started it, or until :meth:`stop`.

    Parameters
    ----------
    namespace
        Put in front of its topics.
    """

    def __init__(self, *, namespace: str = "") -> None:
        self._namespace = namespace
        self._owner: Any = None
        self._broker: Broker | None = None

    def start(self) -> Broker:
        """Start it, with every topic of the wire contract.

        Returns
        -------
        Broker
            ``dev://127.0.0.1:PORT?start=UUID``.

        Raises
        ------
        StreamsError
            confluent-kafka is not installed, or the mock cluster did not start.
        """
        try:
            from confluent_kafka import KafkaException, Producer
        except ImportError as error:
            raise StreamsError(
                "the dev broker needs confluent-kafka: pip install 'redistill[demo]', "
                "or name a broker with REDISTILL_BROKER"
            ) from error
        owner = Producer(
            {
                "test.mock.num.brokers": 1,
                "bootstrap.servers": "mock",
                "log_level": 3,  # else a notice about the mock cluster on stderr at each start
            }
        )
        try:
            found = next(iter(owner.list_topics(timeout=10).brokers.values()))
            broker = Broker(
                f"dev://{found.host}:{found.port}?start={uuid.uuid4()}", namespace=self._namespace
            )
            for name in TOPICS.values():
                owner.list_topics(broker.topic(name), timeout=10)  # asking for a topic makes it
        except (KafkaException, StopIteration) as error:
            raise StreamsError(f"the dev broker did not start: {error}") from error
        self._owner, self._broker = owner, broker
        return broker

    def stop(self) -> None:
        """Stop it; everything in it is gone."""
        self._owner = self._broker = None

    def __enter__(self) -> Broker:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def forgotten(self, read: Mapping[tuple[str, int], int] | None = None) -> list[str]:
        """Partitions that dropped records before they were read: the limit was exceeded.

        Parameters
        ----------
        read
            The next offset to read, by topic (with its namespace) and partition, for example from
            the table ``offsets``; what is not named was not read at all.

        Returns
        -------
        list of str
            A sentence for each such partition; empty: nothing was lost.
        """
        if self._broker is None:
            return []
        from kafka import TopicPartition

        topics = [self._broker.topic(t) for t in TOPICS.values()]
        places = [TopicPartition(t, p) for t in topics for p in range(PARTITIONS)]
        client = consumer(self._broker)
        try:
            starts = client.beginning_offsets(places)
        finally:
            client.close()
        known = read or {}
        return [
            f"{tp.topic}/{tp.partition}: the log starts at {start}, read up to {next_offset}"
            for tp, start in starts.items()
            if start > (next_offset := known.get((tp.topic, tp.partition), 0))
        ]


def topic_id(broker: Broker, topic: str) -> str:
    """Id of a dev broker's topic, which has none of its own: another start is another topic."""
    start = broker.dev_start
    if start is None:
        raise ValueError(f"{broker.servers} is no dev broker")
    return str(uuid.uuid5(uuid.UUID(start), topic))

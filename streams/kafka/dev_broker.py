"""Dev broker: an in-memory Kafka for the demo and for fast tests: librdkafka's mock cluster, in
this process.

It starts in milliseconds and needs neither Java nor Docker; other processes connect to it over
loopback. The library comes with confluent-kafka, which has no Python door to the mock cluster's own
functions: they are called as C. It is no judge of correctness (of transactions it keeps markers
alone: what was aborted counts there), and it forgets: some 5 MB a partition, then the oldest
records are gone, and everything when the process ends. ``forgotten`` says whether that happened.
"""

from __future__ import annotations

import ctypes
import uuid
from collections.abc import Iterable, Mapping

from redistill.streams.errors import StreamsError
from redistill.streams.kafka.broker import Broker, close_producer, consumer, producer
from redistill.streams.kafka.port_forward import PortForward
from redistill.streams.wire.events import TOPICS

__all__ = ["PARTITIONS", "DevBroker", "make_topics", "topic_id"]

PARTITIONS = 4
"""Of every topic."""
JOIN_DELAY_MS = 0
"""How long a new group waits for more members: the library's own 3 s are for clusters, and every
start of a stream worker would take them."""
PRODUCER = 0
"""``RD_KAFKA_PRODUCER``: the kind of client that owns a mock cluster."""


class DevBroker:
    """A dev broker. It lives as long as the process that started it, or until :meth:`stop`.

    Parameters
    ----------
    namespace
        Put in front of its topics.
    port
        Of loopback, at which clients find it whichever port it got; ``None``: at that port only.
    """

    def __init__(self, *, namespace: str = "", port: int | None = None) -> None:
        self._namespace = namespace
        self._port = port
        self._forward: PortForward | None = None
        self._cluster: _Cluster | None = None
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
            confluent-kafka is not installed, the mock cluster did not start, or the port is taken.
        """
        cluster = _Cluster()
        address = cluster.address
        if self._port is not None:
            try:
                self._forward = PortForward(self._port, address)
            except StreamsError:
                cluster.close()
                raise
            address = self._forward.address
        broker = Broker(f"dev://{address}?start={uuid.uuid4()}", namespace=self._namespace)
        for name in TOPICS.values():
            cluster.make_topic(broker.topic(name))
        self._cluster, self._broker = cluster, broker
        return broker

    def stop(self) -> None:
        """Stop it; everything in it is gone."""
        if self._forward is not None:
            self._forward.stop()
        self._forward = None
        if self._cluster is not None:
            self._cluster.close()
        self._cluster = self._broker = None

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
        partitions = [TopicPartition(t, p) for t in topics for p in range(PARTITIONS)]
        client = consumer(self._broker)
        try:
            starts = client.beginning_offsets(partitions)
        finally:
            client.close()
        known = read or {}
        return [
            f"{tp.topic}/{tp.partition}: the log starts at {start}, read up to {next_offset}"
            for tp, start in starts.items()
            if start > (next_offset := known.get((tp.topic, tp.partition), 0))
        ]


class _Cluster:
    """librdkafka's mock cluster of one broker (``rdkafka_mock.h``), and the client that owns it."""

    def __init__(self) -> None:
        try:
            from confluent_kafka import cimpl
        except ImportError as error:
            raise StreamsError(
                "the dev broker needs confluent-kafka: pip install 'redistill[demo]', "
                "or name a broker with REDISTILL_BROKER"
            ) from error
        self._library = library = ctypes.CDLL(cimpl.__file__)  # finds what the module links to, too
        pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
        for name, result, arguments in (
            ("conf_new", pointer, []),
            ("conf_set", number, [pointer, text, text, text, ctypes.c_size_t]),
            ("new", pointer, [number, pointer, text, ctypes.c_size_t]),
            ("destroy", None, [pointer]),
            ("mock_cluster_new", pointer, [pointer, number]),
            ("mock_cluster_bootstraps", text, [pointer]),
            ("mock_cluster_destroy", None, [pointer]),
            ("mock_group_initial_rebalance_delay_ms", None, [pointer, ctypes.c_int32]),
            ("mock_topic_create", number, [pointer, text, number, number]),
        ):
            function = getattr(library, f"rd_kafka_{name}")
            function.restype, function.argtypes = result, arguments
        why = ctypes.create_string_buffer(512)
        settings = library.rd_kafka_conf_new()
        # else a notice about the mock cluster on stderr at each start
        library.rd_kafka_conf_set(settings, b"log_level", b"3", why, len(why))
        self._owner = library.rd_kafka_new(PRODUCER, settings, why, len(why))
        if not self._owner:
            raise StreamsError(f"the dev broker did not start: {why.value.decode()}")
        self._cluster = library.rd_kafka_mock_cluster_new(self._owner, 1)
        if not self._cluster:
            library.rd_kafka_destroy(self._owner)
            raise StreamsError("the dev broker did not start: no port or no memory is left")
        library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, JOIN_DELAY_MS)
        self.address: str = library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()
        """``host:port``."""

    def make_topic(self, name: str) -> None:
        """Make a topic of ``PARTITIONS`` partitions, one copy each."""
        if code := self._library.rd_kafka_mock_topic_create(
            self._cluster, name.encode(), PARTITIONS, 1
        ):
            raise StreamsError(f"the dev broker did not make the topic {name!r}: error {code}")

    def close(self) -> None:
        """End it. Not to be called twice."""
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._owner)


def make_topics(broker: Broker, topics: Iterable[str]) -> None:
    """Make topics from another process, named as the broker knows them: it makes each that a
    producer asks about.

    Raises
    ------
    BrokerUnavailable
        It is away.
    """
    client = producer(broker)
    try:
        for topic in topics:
            client.partitions_for(topic)
    finally:
        close_producer(client)


def topic_id(broker: Broker, topic: str) -> str:
    """Id of a dev broker's topic, which has none of its own: another start is another topic."""
    start = broker.dev_start
    if start is None:
        raise ValueError(f"{broker.servers} is no dev broker")
    return str(uuid.uuid5(uuid.UUID(start), topic))

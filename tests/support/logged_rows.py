"""Rows that a logger sent, read from the broker's topics from their start to their end."""

from __future__ import annotations

from redistill.streams.client.logger import PredictionLogger
from redistill.streams.kafka.broker import Broker, admin, consumer
from redistill.streams.wire.block import Feature, Schema
from redistill.streams.wire.codec import Record, decode_predictions

SCHEMA = Schema(features=(Feature(name="x"), Feature(name="y")), classes=("no", "yes"))


def make_topics(broker: Broker, *names: str) -> None:
    client = admin(broker)
    client.create_topics(
        {broker.topic(n): {"num_partitions": 2, "replication_factor": 1} for n in names},
        wait_for_metadata=True,
    )
    client.close()


def read_all(broker: Broker, topic: str) -> list[Record]:
    """Every record of a topic, from its start to its present end."""
    from kafka import TopicPartition

    client = consumer(broker)
    parts = [
        TopicPartition(broker.topic(topic), n)
        for n in client.partitions_for_topic(broker.topic(topic))
    ]
    client.assign(parts)
    client.seek_to_beginning(*parts)
    ends = client.end_offsets(parts)
    out: list[Record] = []
    while any(client.position(p) < ends[p] for p in parts):
        for p, records in client.poll(timeout_ms=500).items():
            out += [
                Record(p.topic, p.partition, r.offset, r.timestamp, r.key, r.value, r.headers)
                for r in records
            ]
    client.close()
    return out


def ids(broker: Broker) -> list[str]:
    decoded = decode_predictions(read_all(broker, "predictions"), lambda model: SCHEMA)
    assert decoded.dead == []
    return [i for block in decoded.blocks for i in block.ids]


def log_rows(log: PredictionLogger, n: int, prefix: str = "r") -> list[str]:
    return [
        log.log(
            model="credit", version="7", prediction="yes", scores=[0.25, 0.75],
            features={"x": i / 2, "y": None}, id=f"{prefix}{i}",
        )
        for i in range(n)
    ]  # fmt: skip

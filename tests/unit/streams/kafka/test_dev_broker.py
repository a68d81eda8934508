from __future__ import annotations

import pytest

from redistill.streams.kafka.broker import Broker, consumer, producer
from redistill.streams.kafka.dev_broker import PARTITIONS, DevBroker, make_topics, topic_id
from redistill.streams.wire.events import TOPICS


def test_every_topic_is_there_and_records_come_back() -> None:
    with DevBroker(namespace="staging") as broker:
        assert broker.is_dev
        reader = consumer(broker)
        assert {f"staging.{t}" for t in TOPICS.values()} <= reader.topics()
        assert reader.partitions_for_topic("staging.labels") == set(range(PARTITIONS))
        writer = producer(broker)
        writer.send("staging.labels", b"x", partition=2).get(timeout=10)
        writer.close()
        from kafka import TopicPartition

        reader.assign([TopicPartition("staging.labels", 2)])
        reader.seek_to_beginning()
        values = [r.value for rs in reader.poll(5_000).values() for r in rs]
        assert values == [b"x"]
        reader.close()


def test_what_was_forgotten_before_it_was_read_is_said() -> None:
    dev = DevBroker()
    writer = producer(dev.start(), linger_ms=0)
    for _ in range(60):
        writer.send("labels", b"x" * 200_000, partition=0).get(timeout=10)
    writer.close()
    assert dev.forgotten({("labels", 0): 60}) == []
    (sentence,) = dev.forgotten()
    assert "labels/0" in sentence
    dev.stop()
    assert dev.forgotten() == []


def test_topic_ids_differ_between_starts() -> None:
    a, b = (Broker(f"dev://h:1?start={c * 8}-0000-0000-0000-000000000000") for c in "ab")
    assert topic_id(a, "labels") == topic_id(a, "labels") != topic_id(b, "labels")
    assert topic_id(a, "labels") != topic_id(a, "predictions")
    with pytest.raises(ValueError, match="no dev broker"):
        topic_id(Broker("h:1"), "labels")


def test_topics_are_made_from_another_process_as_well() -> None:
    with DevBroker(namespace="x") as broker:
        client = consumer(broker)
        assert not client.partitions_for_topic("x.labels.ledger")
        make_topics(broker, ["x.labels.ledger", "x.labels"])
        assert client.topics() >= {"x.labels.ledger", "x.labels"}
        assert client.partitions_for_topic("x.labels.ledger") == set(range(PARTITIONS))
        client.close()

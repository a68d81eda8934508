"""A pointer event on a real Kafka wakes a service, which reports what it activated."""

from __future__ import annotations

import gc
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kafka_server as kafka
import pytest
from release_kit import install
from waiting import eventually

from redistill.streams.client.logger import PredictionLogger
from redistill.streams.client.model import ModelClient
from redistill.streams.kafka.broker import Broker, admin, consumer
from redistill.streams.store.relay import Relay
from redistill.streams.wire.codec import Record, decode
from redistill.streams.wire.events import VersionActivated

pytestmark = [
    pytest.mark.kafka,
    # kafka-python leaves the sockets of failed connections to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


@pytest.fixture
def broker(kafka_server: kafka.KafkaServer) -> Iterator[Broker]:
    broker = Broker(kafka_server.bootstrap, namespace=f"t{uuid.uuid4().hex[:8]}")
    client = admin(broker)
    client.create_topics(
        {
            broker.topic(n): {"num_partitions": 2, "replication_factor": 1}
            for n in ("pointers", "activations", "releases", "predictions")
        },
        wait_for_metadata=True,
    )
    client.close()
    yield broker
    gc.collect()


def activations(broker: Broker, wanted: int) -> list[VersionActivated]:
    reader = consumer(broker, broker.topic("activations"), auto_offset_reset="earliest")
    found: list[Any] = []

    def read() -> bool:
        nonlocal found
        for records in reader.poll(timeout_ms=200).values():
            found += [
                decode(
                    Record(
                        r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, r.headers or ()
                    )
                )
                for r in records
            ]
        return len(found) >= wanted

    eventually(read, f"{wanted} activations", every=0.0)
    reader.close()
    return found


def test_publish_and_roll_back_reach_a_listening_service_without_a_poll(
    broker: Broker, tmp_path: Path
) -> None:
    inst = install(tmp_path / "home", f"sqlite:///{tmp_path}/r.db", clock=time.time)
    inst.register("credit")
    inst.add("credit", "v1", 1, "baseline")
    inst.add("credit", "v2", 2)
    inst.publish("credit", "v1")
    relay = Relay(inst.database, broker, holder="test")
    with (
        PredictionLogger(broker.servers, namespace=broker.namespace) as log,
        ModelClient(
            "credit",
            repository=inst.layout.repository,
            trust=inst.trust,
            cache=tmp_path / "cache",
            log=log,
            poll_s=3_600,
        ) as model,
    ):
        assert relay.run_once() > 0
        inst.publish("credit", "v2")
        assert relay.run_once() > 0
        eventually(lambda: model.version == "v2", "the publish is served", every=0.01)
        inst.rollback("credit")
        assert relay.run_once() > 0
        eventually(lambda: model.version == "v1", "the roll back is served", every=0.01)
        assert model.epoch == 3
        assert log.flush(60)
        reported = activations(broker, 3)
    assert [(a.version, a.epoch, a.previous) for a in reported] == [
        ("v1", 1, None),
        ("v2", 2, "v1"),
        ("v1", 3, "v2"),
    ]
    relay.close()
    inst.database.dispose()

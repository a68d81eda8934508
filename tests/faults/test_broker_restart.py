"""The broker is killed under a stream worker and comes back: the worker waits, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import kafka_server as kafka
import pytest
from stream_lab import PARTITIONS, Lab
from stream_rows import prediction
from waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture
def own_kafka(
    kafka_server: kafka.KafkaServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[kafka.KafkaServer]:
    server = kafka.KafkaServer(tmp_path_factory.mktemp("own-kafka"))
    server.start()
    yield server
    server.stop()


def test_worker_waits_for_a_broker_that_was_killed(
    own_kafka: kafka.KafkaServer, tmp_path: Path
) -> None:
    lab = Lab(own_kafka.bootstrap, f"sqlite:///{tmp_path / 'r.db'}", tmp_path).make_topics()
    try:
        lab.send(prediction(i) for i in range(40))
        worker = lab.worker().start()
        lab.wait_counted(40)
        lab.hang_up()
        own_kafka.kill()
        eventually(lambda: "aiokafka" in worker.tail(20_000), "a word about the broker")
        own_kafka.start()
        lab.send(prediction(i) for i in range(40, 80))
        lab.wait_counted(80)
        assert worker.alive
        assert worker.starts == 1
        assert {r.counted for r in lab.offsets().values()} == {0, 80 // PARTITIONS}
        # the flood of error lines of the time without a broker was held back
        assert worker.log.read_text().count("\n") < 400
        lab.hang_up()
        own_kafka.kill()
        assert worker.stop() == 0, "SIGTERM ends it in time although the broker is away"
    finally:
        lab.close()

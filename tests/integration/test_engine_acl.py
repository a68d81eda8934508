"""A broker with permissions: a worker that may not use its group is told so, instead of hanging in
silence."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kafka_server as kafka
import pytest
from broker_faults import DESCRIBE, GROUP, TOPIC, grant, guarded, revoke
from kafka import KafkaAdminClient
from kafka.admin import NewTopic
from processes import Worker
from stream_lab import Lab
from stream_rows import prediction
from waiting import eventually

from redistill.streams.engine import start
from redistill.streams.errors import BrokerRefused
from redistill.streams.kafka.broker import Broker

PATIENCE_SECONDS = 8.0
pytestmark = pytest.mark.kafka

TOPICS = ["predictions", "labels"]


@pytest.fixture(scope="module")
def closed(
    kafka_server: kafka.KafkaServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[kafka.KafkaServer, Broker]]:
    server, broker = guarded(tmp_path_factory.mktemp("guarded"))
    server.start()
    admin = KafkaAdminClient(bootstrap_servers=server.bootstrap)
    admin.create_topics([NewTopic(t, 1, 1) for t in TOPICS])
    admin.close()
    yield server, broker
    server.stop()


def test_each_missing_permission_is_named_until_all_are_there(
    closed: tuple[kafka.KafkaServer, Broker],
) -> None:
    server, broker = closed
    with pytest.raises(BrokerRefused, match=r"may not describe the topic 'labels'.*ACL"):
        start.check(broker, TOPICS, group="g", session_seconds=6)
    for topic in TOPICS:
        grant(server, TOPIC, topic)
    with pytest.raises(BrokerRefused, match=r"may not use the consumer group 'g'.*ACL"):
        start.check(broker, TOPICS, group="g", session_seconds=6)
    grant(server, GROUP, "g")
    start.check(broker, TOPICS, group="g", session_seconds=6)


@pytest.fixture
def guarded_lab(closed: tuple[kafka.KafkaServer, Broker], tmp_path: Path) -> Iterator[Lab]:
    server, broker = closed
    lab = Lab(
        server.bootstrap,
        f"sqlite:///{tmp_path / 'r.db'}",
        tmp_path,
        settings={
            "kafka_security_protocol": "SASL_PLAINTEXT",
            "kafka_username": "svc",
            "kafka_password": "right",
            "metrics_port": "0",
        },
    ).make_topics()
    lab.env["REDISTILL_BROKER"] = broker.servers
    for topic in TOPICS:
        grant(server, TOPIC, lab.broker.topic(topic))
    yield lab
    lab.close()


def test_worker_whose_permissions_are_taken_away_waits_and_goes_on_when_it_has_them_again(
    closed: tuple[kafka.KafkaServer, Broker], guarded_lab: Lab
) -> None:
    """Its watchdog, which is hurried, does not end it: starting again would help nobody."""
    server, lab = closed[0], guarded_lab
    group, topic = f"{lab.namespace}.redistill", lab.broker.topic("predictions")
    # the start finds nothing wrong, and aiokafka waits for ever without a word
    grant(server, GROUP, group, DESCRIBE)
    worker = lab.impatient("stream", PATIENCE_SECONDS).start()
    sent = 0

    def said(*words: str) -> bool:
        lines = [x for x in said_by(worker) if x.get("action") == "broker_refused"]
        return any(all(word in x["error"] for word in words) for x in lines)

    def goes_on() -> None:
        nonlocal sent
        sent += 40
        lab.send(prediction(i) for i in range(sent - 40, sent))
        lab.wait_counted(sent)
        assert worker.alive, worker.tail()

    eventually(lambda: said("GroupAuthorizationFailed"), "it is said")
    grant(server, GROUP, group)
    goes_on()
    for kind, name in ((TOPIC, topic), (GROUP, group)):
        revoke(server, kind, name)
    # it may have been said within this minute already: what it finds is seen in its metrics
    eventually(lambda: up(worker) == 0, "it notices")
    for kind, name in ((TOPIC, topic), (GROUP, group)):
        grant(server, kind, name)
    goes_on()
    eventually(lambda: up(worker) == 1, "it notices that too")
    lines = said_by(worker)
    assert [x for x in lines if x.get("action") in ("crashed", "watchdog")] == []
    assert len(lines) < 60
    assert {r.counted for (name, _), r in lab.offsets().items() if name == "predictions"} == {20}


def up(worker: Worker) -> float | None:
    (port,) = [x["port"] for x in said_by(worker) if x.get("action") == "metrics"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as page:
        found = re.search(r"(?m)^\S+_stream_broker_up (\S+)", page.read().decode())
    return float(found[1]) if found else None


def said_by(worker: Worker) -> list[dict[str, Any]]:
    lines = worker.log.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]

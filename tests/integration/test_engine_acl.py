"""A broker with permissions: a worker that may not use its group is told so, instead of hanging in
silence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kafka_server as kafka
import pytest
import waiting
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    NewTopic,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
)
from ports import free_port
from processes import Worker
from stream_lab import Lab
from stream_rows import prediction

from redistill.streams.engine import start
from redistill.streams.errors import BrokerRefused
from redistill.streams.kafka.broker import Broker, Security

PATIENCE_SECONDS = 8.0
pytestmark = pytest.mark.kafka

TOPICS = ["predictions", "labels"]
JAAS = 'org.apache.kafka.common.security.scram.ScramLoginModule required username="a" password="b";'


@pytest.fixture(scope="module")
def guarded(
    kafka_server: kafka.KafkaServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[kafka.KafkaServer, Broker]]:
    plain, control, sasl = (free_port() for _ in range(3))
    listeners = f"PLAINTEXT://127.0.0.1:{plain},LOGIN://127.0.0.1:{sasl}"
    server = kafka.KafkaServer(
        tmp_path_factory.mktemp("guarded"),
        port=plain,
        controller_port=control,
        scram={"svc": "right"},
        extra={
            "listeners": f"{listeners},CONTROLLER://127.0.0.1:{control}",
            "advertised.listeners": listeners,
            "listener.security.protocol.map": (
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,LOGIN:SASL_PLAINTEXT"
            ),
            "sasl.enabled.mechanisms": "SCRAM-SHA-256",
            "listener.name.login.scram-sha-256.sasl.jaas.config": JAAS,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        },
    )
    server.start()
    admin = KafkaAdminClient(bootstrap_servers=server.bootstrap)
    admin.create_topics([NewTopic(t, 1, 1) for t in TOPICS])
    admin.close()
    login = Security(protocol="SASL_PLAINTEXT", username="svc", password="right")
    yield server, Broker(f"127.0.0.1:{sasl}", login)
    server.stop()


def grant(
    server: kafka.KafkaServer,
    kind: ResourceType,
    name: str,
    operation: ACLOperation = ACLOperation.READ,
) -> None:
    admin = KafkaAdminClient(bootstrap_servers=server.bootstrap)
    admin.create_acls(
        [
            ACL(
                principal="User:svc",
                host="*",
                operation=operation,
                permission_type=ACLPermissionType.ALLOW,
                resource_pattern=ResourcePattern(kind, name),
            )
        ]
    )
    admin.close()


def test_each_missing_permission_is_named_until_all_are_there(
    guarded: tuple[kafka.KafkaServer, Broker],
) -> None:
    server, broker = guarded
    with pytest.raises(BrokerRefused, match=r"may not describe the topic 'labels'.*ACL"):
        start.check(broker, TOPICS, group="g", session_seconds=6)
    for topic in TOPICS:
        grant(server, ResourceType.TOPIC, topic)
    with pytest.raises(BrokerRefused, match=r"may not use the consumer group 'g'.*ACL"):
        start.check(broker, TOPICS, group="g", session_seconds=6)
    grant(server, ResourceType.GROUP, "g")
    start.check(broker, TOPICS, group="g", session_seconds=6)


def revoke(server: kafka.KafkaServer, kind: ResourceType, name: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=server.bootstrap)
    admin.delete_acls(
        [
            ACLFilter(
                principal=None,
                host=None,
                operation=ACLOperation.ANY,
                permission_type=ACLPermissionType.ANY,
                resource_pattern=ResourcePatternFilter(kind, name, ACLResourcePatternType.LITERAL),
            )
        ]
    )
    admin.close()


@pytest.fixture
def guarded_lab(guarded: tuple[kafka.KafkaServer, Broker], tmp_path: Path) -> Iterator[Lab]:
    server, broker = guarded
    lab = Lab(
        server.bootstrap,
        f"sqlite:///{tmp_path / 'r.db'}",
        tmp_path,
        settings={
            "kafka_security_protocol": "SASL_PLAINTEXT",
            "kafka_username": "svc",
            "kafka_password": "right",
        },
    ).make_topics()
    lab.env["REDISTILL_BROKER"] = broker.servers
    for topic in TOPICS:
        grant(server, ResourceType.TOPIC, lab.broker.topic(topic))
    yield lab
    lab.close()


def test_worker_that_may_look_at_its_group_and_not_join_it_is_ended_by_its_watchdog(
    guarded: tuple[kafka.KafkaServer, Broker], guarded_lab: Lab
) -> None:
    """The start finds nothing wrong, and Faust would wait for ever without a word."""
    lab = guarded_lab
    grant(guarded[0], ResourceType.GROUP, f"{lab.namespace}.redistill", ACLOperation.DESCRIBE)
    worker = lab.impatient("stream", PATIENCE_SECONDS).start()
    assert worker.process is not None
    assert worker.process.wait(waiting.PATIENCE_SECONDS) == 70
    why = worker.tail().splitlines()[-1]
    assert "GroupAuthorizationFailed" in why, worker.tail()
    assert float(re.findall(r"for (\d+) s", why)[0]) >= PATIENCE_SECONDS


@pytest.mark.parametrize("gone", ["group", "topic"])
def test_worker_whose_permission_was_taken_away_ends_and_says_why(
    guarded: tuple[kafka.KafkaServer, Broker], guarded_lab: Lab, gone: str
) -> None:
    server, lab = guarded[0], guarded_lab
    grant(server, ResourceType.GROUP, f"{lab.namespace}.redistill")
    lab.send(prediction(i) for i in range(40))
    worker = lab.impatient("stream", PATIENCE_SECONDS).start()
    lab.wait_counted(40)
    kind, name = {
        "group": (ResourceType.GROUP, f"{lab.namespace}.redistill"),
        "topic": (ResourceType.TOPIC, lab.broker.topic("predictions")),
    }[gone]
    revoke(server, kind, name)
    lab.send(prediction(i) for i in range(40, 80))
    assert worker.process is not None
    assert worker.process.wait(waiting.PATIENCE_SECONDS) == 70, worker.tail()
    (said,) = [x for x in said_by(worker) if x.get("action") in ("crashed", "watchdog")]
    assert f"{gone.title()}AuthorizationFailedError" in str(said), worker.tail()
    assert name in str(said)


def said_by(worker: Worker) -> list[dict[str, Any]]:
    lines = worker.log.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]

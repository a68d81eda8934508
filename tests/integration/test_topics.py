from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.errors import RequestTimedOutError
from typer.testing import CliRunner

from redistill.streams.errors import BrokerUnavailable
from redistill.streams.kafka.broker import Broker, admin
from redistill.streams.wire.events import TOPICS
from redistill.workers.exit_codes import ExitCode
from redistill.workers.processes import topics

pytestmark = pytest.mark.kafka

Run = Callable[..., tuple[int, list[dict[str, Any]]]]


@pytest.fixture
def namespace(kafka_server: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"t{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("REDISTILL_BROKER", kafka_server.bootstrap)
    monkeypatch.setenv("REDISTILL_NAMESPACE", name)
    return name


@pytest.fixture
def run(namespace: str) -> Run:
    from redistill.workers.cli.topics import app

    def call(*args: str) -> tuple[int, list[dict[str, Any]]]:
        result = CliRunner().invoke(app, ["apply", "--json", *args])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, json.loads(result.stdout)

    return call


def test_apply_creates_every_topic_once(run: Run, namespace: str) -> None:
    code, found = run("--dry-run")
    assert code == ExitCode.REFUSED
    assert {f["state"] for f in found} == {"missing"}
    code, found = run("--partitions", "4")
    assert code == 0
    assert {f["topic"]: f["partitions"] for f in found} == {
        f"{namespace}.{t}": 4 if t in ("predictions", "labels") else 1 for t in TOPICS.values()
    }
    assert {f["state"] for f in found} == {"created"}
    code, found = run("--partitions", "4")
    assert code == 0
    assert {f["state"] for f in found} == {"fine"}


def test_controller_that_does_not_answer_in_time_is_told_from_a_broker_that_is_away(
    namespace: str, kafka_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker(kafka_server.bootstrap, namespace=namespace)

    def simulated(
        *_: Any, **__: Any
    ) -> Any:  # a controller in the broker's own process is too quick
        raise RequestTimedOutError("simulated: the controller did not answer")

    monkeypatch.setattr(KafkaAdminClient, "create_topics", simulated)
    with pytest.raises(BrokerUnavailable) as raised:
        topics.apply(broker, topics.wanted(broker), replication=1, seconds=0.001)
    assert kafka_server.bootstrap in str(raised.value)
    assert "the controller of its cluster did not make the topics within 0.001 s" in str(
        raised.value
    )
    assert "run `redistill topics apply` again" in str(raised.value)


def test_apply_says_what_differs_and_changes_nothing(
    run: Run, namespace: str, kafka_server: Any
) -> None:
    client = admin(Broker(kafka_server.bootstrap))
    client.create_topics(
        {
            f"{namespace}.pointers": {"num_partitions": 1, "replication_factor": 1},
            f"{namespace}.predictions": {
                "num_partitions": 2,
                "replication_factor": 1,
                "configs": {"retention.ms": "60000"},
            },
        }
    )
    client.close()
    for _ in range(2):
        code, found = run()
        notes = {f["topic"].removeprefix(f"{namespace}."): " ".join(f["notes"]) for f in found}
        assert code == ExitCode.REFUSED
        assert "cleanup.policy is 'delete', 'compact' was expected" in notes["pointers"]
        assert "retention.ms is 60000" in notes["predictions"]
        assert "at most 2 stream workers" in notes["predictions"]
        assert notes["labels"] == ""

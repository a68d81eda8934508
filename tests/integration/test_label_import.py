from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from redistill.streams.errors import BrokerRefused, BrokerUnavailable
from redistill.streams.kafka.broker import Broker, admin, consumer
from redistill.streams.wire.codec import Record, decode
from redistill.streams.wire.events import LabelObserved
from redistill.workers.errors import SettingsError, UsageError
from redistill.workers.exit_codes import ExitCode


def invoke(*args: str) -> Any:
    from redistill.workers.cli.label import app

    result = CliRunner().invoke(app, ["import", *args])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REDISTILL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("REDISTILL_BROKER", raising=False)
    return tmp_path


@pytest.mark.kafka
def test_labels_arrive_and_rejects_are_kept(
    home: Path, kafka_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker(kafka_server.bootstrap, namespace=f"l{uuid.uuid4().hex[:8]}")
    monkeypatch.setenv("REDISTILL_BROKER", kafka_server.bootstrap)
    monkeypatch.setenv("REDISTILL_NAMESPACE", broker.namespace)
    client = admin(broker)
    client.create_topics({broker.topic("labels"): {"num_partitions": 2, "replication_factor": 1}})
    client.close()
    path = home / "labels.csv"
    rows = "".join(
        f"r{i},{'yes' if i % 2 else 'no'},2026-03-01T00:00:{i % 60:02}\n" for i in range(300)
    )
    path.write_text(f"id,label,at\n{rows},yes,2026-03-01\n")

    result = invoke(str(path), "--model", "credit", "--source", "ledger", "--time", "at", "--json")
    assert result.exit_code == ExitCode.REFUSED
    said = json.loads(result.stdout)
    assert (said["sent"], said["rejected"]) == (300, 1)
    assert Path(said["rejects"]).read_text().splitlines() == [
        "row,id,label,reason",
        "301,,yes,the id is missing",
    ]
    assert "credit is not registered" in result.stderr

    reader = consumer(broker, broker.topic("labels"))
    found: dict[str, LabelObserved] = {}
    for _ in range(50):
        for records in reader.poll(timeout_ms=500).values():
            for r in records:
                record = Record(
                    r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, r.headers
                )
                label = decode(record, expect=LabelObserved)
                assert label.id not in found
                found[label.id] = label
        if len(found) == 300:
            break
    reader.close()
    assert len(found) == 300
    assert (found["r1"].label, found["r1"].source, found["r1"].model) == ("yes", "ledger", "credit")


def test_a_missing_broker_is_said_before_the_file_is_read(home: Path) -> None:
    with pytest.raises(SettingsError, match="REDISTILL_BROKER"):
        invoke("nowhere.csv", "--model", "credit")


def test_a_broker_that_is_away_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDISTILL_BROKER", "127.0.0.1:1")
    path = home / "labels.csv"
    path.write_text("id,label\na,yes\n")
    with pytest.raises(BrokerUnavailable):
        invoke(str(path), "--model", "credit")


@pytest.mark.kafka
def test_a_missing_topic_and_rejects_without_a_place_are_said(
    home: Path, kafka_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = Broker(kafka_server.bootstrap, namespace=f"l{uuid.uuid4().hex[:8]}")
    monkeypatch.setenv("REDISTILL_BROKER", kafka_server.bootstrap)
    monkeypatch.setenv("REDISTILL_NAMESPACE", broker.namespace)
    path = home / "labels.csv"
    path.write_text("id,label\na,yes\n,yes\n")
    topic = broker.topic("labels")
    with pytest.raises(BrokerRefused, match=f"missing topic: {topic}.*redistill topics apply"):
        invoke(str(path), "--model", "credit")
    client = admin(broker)
    client.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}})
    client.close()
    with pytest.raises(UsageError, match="No such file or directory; choose another"):
        invoke(str(path), "--model", "credit", "--rejects", str(home / "nowhere" / "r.csv"))


@pytest.mark.parametrize("option", [("--model", "Credit Card"), ("--model", "m", "--source", "")])
def test_names_that_are_none_are_said_at_once(home: Path, option: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=r"no name of a model|--source has 0 characters"):
        invoke("labels.csv", *option)

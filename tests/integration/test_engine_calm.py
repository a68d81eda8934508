"""A healthy life on a real Kafka, from an empty topic to a clean stop: no line of it is an error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient
from processes import Worker
from stream_lab import PARTITIONS, Lab
from stream_rows import label, prediction, record
from waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

LOOKS = 3


def looks(worker: Worker) -> int:
    """How often Faust looked for what stands still, since the worker's start."""
    return worker.log.read_text(errors="replace").count('"action": "looked"')


def errors(worker: Worker) -> list[dict[str, Any]]:
    lines = [json.loads(x) for x in worker.log.read_text().splitlines() if x.startswith("{")]
    assert lines
    return [x for x in lines if x["level"] in ("error", "critical")]


def test_healthy_worker_logs_no_error(kafka_server: Any, postgres_url: str, tmp_path: Path) -> None:
    lab = Lab(kafka_server.bootstrap, postgres_url, tmp_path).make_topics()
    first, second = lab.hurried("first"), lab.hurried("second")
    sent = 0

    def send(n: int = 400) -> None:
        nonlocal sent
        lab.send(prediction(i) for i in range(sent, sent + n))
        lab.send(label(i) for i in range(sent, sent + n, 10))
        sent += n

    def looked(worker: Worker, n: int = LOOKS, *, load: bool = True) -> None:
        before = looks(worker)

        def enough() -> bool:
            if load:
                send()
            return looks(worker) >= before + n

        eventually(enough, f"{n} looks\n{lab.logs()}", every=0.1)

    try:
        first.start()
        looked(first, load=False)  # nothing was ever sent
        looked(first)
        lab.wait_counted(sent)
        looked(first, load=False)  # idle again
        second.start()
        eventually(lambda: send() or second.says("assigned"), "the second has an assignment")
        looked(second)
        lab.wait_counted(sent)

        admin = KafkaAdminClient(bootstrap_servers=lab.bootstrap)
        topic, added = lab.broker.topic("predictions"), PARTITIONS
        admin.create_partitions({topic: PARTITIONS + 2})
        admin.close()
        made = record(prediction(sent), 0)
        lab.hang_up()  # a producer that knows them
        for _ in range(20):
            lab.client.send(topic, made.value, headers=list(made.headers), partition=added)
        lab.client.flush(timeout=30)
        eventually(
            lambda: (
                ("predictions", added) in lab.offsets()
                and lab.offsets()["predictions", added].counted == 20
            ),
            f"the first records of the new partition\n{lab.logs()}",
        )
        looked(first)
        assert second.stop() == 0, second.tail()
        looked(first)
        lab.wait_counted(sent + 20)
        assert first.stop() == 0, first.tail()
        assert {r.dead for r in lab.offsets().values()} == {0}
    finally:
        lab.close()
    assert errors(first) == []
    assert errors(second) == []

"""The stream worker as a process on a real Kafka: what it stores, announces, refuses and survives."""

from __future__ import annotations

import json
import re
import sqlite3
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import NewTopic
from processes import Worker
from stream_lab import PARTITIONS, Lab
from stream_rows import label, prediction, record
from waiting import eventually

from redistill.streams.engine import start
from redistill.streams.engine.health import CANNOT_START
from redistill.streams.errors import BrokerRefused
from redistill.streams.kafka.broker import Broker, consumer
from redistill.streams.store import tables as t

pytestmark = pytest.mark.kafka

Make = Callable[..., Lab]


@pytest.fixture
def sqlite_lab(kafka_server: Any, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(kafka_server.bootstrap, f"sqlite:///{tmp_path / 'redistill.db'}", tmp_path)
    yield lab
    lab.close()


@pytest.fixture
def postgres_lab(kafka_server: Any, postgres_url: str, tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(kafka_server.bootstrap, postgres_url, tmp_path)
    yield lab
    lab.close()


def read(lab: Lab, topic: str) -> list[Any]:
    reader = consumer(Broker(lab.bootstrap))
    partitions = [TopicPartition(lab.broker.topic(topic), p) for p in range(PARTITIONS)]
    reader.assign(partitions)
    reader.seek_to_beginning()
    ends = reader.end_offsets(partitions)
    records: list[Any] = []
    while any(reader.position(tp) < end for tp, end in ends.items()):
        for fetched in reader.poll(500).values():
            records += fetched
    reader.close()
    return records


def metrics(worker: Worker) -> str:
    match = eventually(
        lambda: re.search(r'"action": "metrics"[^}]*"port": (\d+)', worker.tail(20_000)), "a port"
    )
    url = f"http://127.0.0.1:{match[1]}/metrics"  # type: ignore[index]
    return urllib.request.urlopen(url, timeout=5).read().decode()


def test_worker_from_records_to_announcements_and_back_to_nothing(sqlite_lab: Lab) -> None:
    lab = sqlite_lab.make_topics()
    n = 400
    lab.send(prediction(i) for i in range(n))
    lab.send(label(i) for i in range(n))
    good = lab.client
    good.send(lab.broker.topic("predictions"), b"no event at all", partition=1).get(timeout=10)
    lab.send([prediction(0, model="stranger")])
    worker = lab.worker(metrics_port="0").start()
    lab.wait_counted(n + 1)
    lab.wait_counted(n, topic="labels")
    outcomes = sa.select(sa.func.count()).select_from(t.outcomes)
    eventually(lambda: lab.scalar(outcomes) == n, "outcomes")

    # the dead letter is announced, the stranger counted
    assert lab.offsets()["predictions", 1].dead == 1
    eventually(lambda: len(read(lab, "dlq")) == 1, f"a dead letter\n{lab.logs()}")
    letter = json.loads(read(lab, "dlq")[0].value)
    assert (letter["topic"], letter["partition"]) == (lab.broker.topic("predictions"), 1)
    assert lab.rows(t.unregistered)[0].model == "stranger"

    # harm is found and announced
    lab.send(prediction(i, right=i % 4 == 0) for i in range(n, 2 * n))
    lab.send(label(i) for i in range(n, 2 * n))
    eventually(lambda: len(lab.rows(t.findings)) >= 1, f"a finding\n{lab.logs()}")
    eventually(lambda: len(read(lab, "drift")) >= 1, "an announcement")
    announced = json.loads(read(lab, "drift")[0].value)
    assert announced["finding_id"] == next(
        f.finding_id for f in lab.rows(t.findings) if f.kind == announced["kind"]
    )
    eventually(lambda: "stream_lag 0.0" in metrics(worker), "no lag")
    page = metrics(worker)
    assert re.search(r'redistill_stream_dead_letters_total\{topic="[^"]*predictions"\} 1\.0', page)

    # a second worker on the same file is refused while the first lives
    second = lab.worker("second").start()
    assert second.process is not None
    assert second.process.wait(60) == CANNOT_START
    assert "PostgreSQL" in second.tail()

    # SIGTERM: everything stored, committed, and out before anybody has to kill it
    assert worker.stop() == 0, worker.tail()
    admin = KafkaAdminClient(bootstrap_servers=lab.bootstrap)
    group = f"{lab.namespace}.redistill"
    committed = admin.list_group_offsets({group: None})[group]
    admin.close()
    for (topic, partition), row in lab.offsets().items():
        tp = TopicPartition(lab.broker.topic(topic), partition)
        assert committed[tp].offset == row.next_offset


def test_records_that_expired_unread_are_a_gap_of_exactly_their_range(sqlite_lab: Lab) -> None:
    lab = sqlite_lab.make_topics()
    lab.send(prediction(i) for i in range(80))
    first = lab.worker().start()
    lab.wait_counted(80)
    assert first.stop() == 0
    lab.send(prediction(i) for i in range(80, 160))
    admin = KafkaAdminClient(bootstrap_servers=lab.bootstrap)
    admin.delete_records({TopicPartition(lab.broker.topic("predictions"), 2): 30})
    admin.close()
    lab.worker().start()
    lab.wait_counted(150)
    (gap,) = lab.rows(t.gaps)
    assert (gap.partition, gap.first, gap.last) == (2, 20, 29)
    row = lab.offsets()["predictions", 2]
    assert (row.counted, row.skipped, row.next_offset) == (30, 10, 40)


def test_topic_made_again_is_counted_from_its_start(sqlite_lab: Lab) -> None:
    # with partitions that the new one has not: commits for them come too late
    lab = sqlite_lab.make_topics(["labels", "dlq", "drift"])
    admin = KafkaAdminClient(bootstrap_servers=lab.bootstrap)
    admin.create_topics([NewTopic(lab.broker.topic("predictions"), PARTITIONS + 2, 1)])
    admin.close()
    worker = lab.worker().start()
    lab.send(prediction(i) for i in range(40))
    lab.wait_counted(40)
    for i in (4, 5):
        made = record(prediction(i), 0)
        lab.client.send(
            lab.broker.topic("predictions"), made.value, headers=list(made.headers), partition=i
        )
    lab.client.flush(timeout=30)
    lab.wait_counted(42)
    lab.delete_topics("predictions")
    lab.make_topics(["predictions"])
    lab.send(prediction(i) for i in range(100, 120))

    def new_rows() -> int:
        with lab.db.read() as conn:
            rows = conn.execute(
                sa.select(t.offsets).where(t.offsets.c.topic == lab.broker.topic("predictions"))
            ).all()
        by_id: dict[str, int] = {}
        for r in rows:
            by_id[r.topic_id] = by_id.get(r.topic_id, 0) + r.counted
        return sorted(by_id.values()) == [20, 42]

    eventually(new_rows, f"20 records of the new topic\n{lab.logs()}")
    assert worker.alive


@pytest.mark.slow
def test_workers_that_join_and_leave_lose_and_double_nothing(postgres_lab: Lab) -> None:
    lab = postgres_lab.make_topics()
    sent = 0

    def send(n: int = 400) -> None:
        nonlocal sent
        lab.send(prediction(i) for i in range(sent, sent + n))
        sent += n

    first = lab.worker("first").start()
    send()
    lab.wait_counted(sent)
    second = lab.worker("second").start()

    def assigned_under_load() -> bool:
        send()
        return '"assigned"' in second.tail(20_000)

    eventually(assigned_under_load, "the second has an assignment", every=0.5)
    send()
    lab.wait_counted(sent)
    assert first.stop() == 0, first.tail()
    send()
    lab.wait_counted(sent)
    assert second.stop() == 0, second.tail()
    assert {r.counted for r in lab.offsets().values()} == {0, sent // PARTITIONS}
    assert lab.scalar(sa.select(sa.func.sum(t.input_states.c.rows))) == sent
    assert lab.scalar(sa.select(sa.func.count()).select_from(t.join_rows)) == sent


def test_start_says_what_is_missing(sqlite_lab: Lab) -> None:
    lab = sqlite_lab
    topics = [lab.broker.topic("predictions")]
    with pytest.raises(BrokerRefused, match="redistill topics apply"):
        start.check(lab.broker, topics, group="g", session_seconds=6)
    lab.make_topics()
    with pytest.raises(BrokerRefused, match="REDISTILL_SESSION_TIMEOUT_SECONDS"):
        start.check(lab.broker, topics, group="g", session_seconds=2)
    start.check(lab.broker, topics, group="g", session_seconds=6)


def test_broker_that_is_away_at_the_start_is_said_and_waited_for(sqlite_lab: Lab) -> None:
    worker = sqlite_lab.worker(broker="127.0.0.1:1").start()
    eventually(lambda: worker.says("broker_away"), "it says so")
    assert "127.0.0.1:1" in worker.tail()
    assert worker.alive
    worker.stop()
    assert "Traceback" not in worker.tail()


@pytest.mark.slow
def test_locked_database_is_waited_for_and_nothing_is_lost(sqlite_lab: Lab) -> None:
    lab = sqlite_lab.make_topics()
    lab.send(prediction(i) for i in range(40))
    worker = lab.worker().start()
    lab.wait_counted(40)
    other = sqlite3.connect(str(lab.db.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    lab.send(prediction(i) for i in range(40, 80))
    eventually(lambda: '"store_away"' in worker.tail(20_000), "a word about it")
    other.execute("ROLLBACK")
    other.close()
    lab.wait_counted(80)
    assert worker.alive
    assert {r.counted for r in lab.offsets().values()} == {0, 20}

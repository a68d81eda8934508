"""The stream worker on the in-memory dev broker: what the demo stands on."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from kafka import TopicPartition
from stream_lab import PARTITIONS, Lab
from stream_rows import label, prediction, record
from transactions import Producers
from waiting import PATIENCE_SECONDS, eventually

from redistill.streams.kafka.broker import consumer
from redistill.streams.kafka.dev_broker import DevBroker, topic_id
from redistill.streams.store import tables as t


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with DevBroker(namespace="dev") as broker:
        url = f"sqlite:///{tmp_path / 'redistill.db'}"
        made = Lab(broker.servers, url, tmp_path, namespace="dev")
        yield made
        made.close()


def test_rows_are_counted_joined_and_announced_and_survive_kill(lab: Lab) -> None:
    n = 400
    lab.send(prediction(i) for i in range(n))
    lab.send(label(i) for i in range(n))
    worker = lab.worker().start()
    lab.wait_counted(n)
    worker.kill()
    worker.start()
    lab.send(prediction(i, right=i % 4 == 0) for i in range(n, 2 * n))
    lab.send(label(i) for i in range(n, 2 * n))
    lab.wait_counted(2 * n)
    eventually(
        lambda: lab.scalar(sa.select(sa.func.count()).select_from(t.outcomes)) == 2 * n,
        "outcomes",
    )
    assert {r.counted for r in lab.offsets().values()} == {2 * n // PARTITIONS}
    assert lab.offsets()["labels", 0].topic_id == topic_id(lab.broker, "dev.labels")

    reader = consumer(lab.broker)
    reader.assign([TopicPartition("dev.drift", p) for p in range(PARTITIONS)])
    reader.seek_to_beginning()
    announcements: list[bytes] = []

    def announced() -> list[bytes]:
        announcements.extend(r.value for records in reader.poll(500).values() for r in records)
        return announcements

    eventually(announced, f"an announcement\n{lab.logs()}")
    reader.close()
    assert json.loads(announcements[0])["model"] == "credit"
    assert worker.stop() == 0, worker.tail()


def test_transactions_stop_nobody(lab: Lab) -> None:
    feed = Producers("librdkafka", lab.broker.bootstrap[0]).open()
    for end in (feed.commit, feed.abort):
        feed.begin()
        feed.send("dev.predictions", 0, [record(prediction(i), 0) for i in range(8)])
        end()
    lab.send([prediction(8)])
    worker = lab.worker().start()
    lab.wait_counted(9)  # of what was aborted this broker says nothing
    eventually(lambda: lab.offsets()["predictions", 0].next_offset == 19, lab.logs())
    assert worker.alive

    reader = consumer(lab.broker)
    reader.assign([TopicPartition("dev.predictions", 0)])
    reader.seek_to_beginning()

    def read() -> bool:
        reader.poll(500)
        return bool(reader.position(TopicPartition("dev.predictions", 0)) == 19)

    eventually(read, "the end", every=0.0)
    reader.close()


def test_worker_whose_event_loop_is_stuck_is_ended_by_its_watchdog(lab: Lab) -> None:
    lab.send(prediction(i) for i in range(40))
    worker = lab.impatient("stream", 4.0, "blocked").start()
    lab.wait_counted(40)
    assert worker.process is not None
    worker.process.send_signal(signal.SIGUSR1)
    assert worker.process.wait(PATIENCE_SECONDS) == 75
    # both stand still, and either may have turned last
    told = re.findall(r'"action": "watchdog", "reason": "([^"]*)"', worker.tail())
    assert re.fullmatch(r"the (event|main) loop has not run for \d+ s", *told)

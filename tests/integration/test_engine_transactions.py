"""Read committed, on a real Kafka, with the transactions of librdkafka and of Java: what was aborted
counts for nothing, what is open is waited for, and every offset is accounted for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import AbortTransactionSpec
from kafka_server import Unavailable
from stream_lab import PARTITIONS, Lab
from stream_rows import label, prediction, record
from transactions import CLIENTS, Producers, Transactional
from waiting import eventually

from redistill.streams.kafka.broker import consumer
from redistill.streams.store import tables as t
from redistill.workers.invariants import streams
from redistill.workers.invariants.log_offsets import logs
from redistill.workers.invariants.rule import RuleResult
from redistill.workers.invariants.topic_facts import TopicFacts

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@pytest.fixture
def lab(kafka_server: Any, tmp_path: Path) -> Iterator[Lab]:
    made = Lab(kafka_server.bootstrap, f"sqlite:///{tmp_path / 'redistill.db'}", tmp_path)
    yield made.make_topics()
    made.close()


@pytest.fixture(params=CLIENTS)
def producers(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Producers]:
    made = Producers(request.param, lab.bootstrap)
    try:
        made.open()
    except Unavailable as why:
        pytest.skip(str(why))
    yield made
    made.die()


def against_logs(lab: Lab) -> RuleResult:
    """What the logs of the broker say of what is counted; the two looks see two moments."""
    held = TopicFacts(logs=logs(lab.broker, ("predictions", "labels")))
    inputs: Any = SimpleNamespace(offsets=list(lab.offsets().values()))
    return streams.against_logs(inputs).settled(held)


class Feed:
    """Predictions and their labels, and what of them counts."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.serial = 0
        self.good: set[int] = set()
        """Rows that were sent for good."""
        self.bad: set[int] = set()
        """Rows of transactions that were aborted."""

    def send(self, n: int, *, by: Transactional | None = None, good: bool = True) -> None:
        """``n`` predictions and their labels on one partition; by a plain producer, or in the
        transaction that is open."""
        rows = range(self.serial, self.serial + n)
        partition = self.serial % PARTITIONS
        self.serial += n
        for topic, event in (("predictions", prediction), ("labels", label)):
            made = [record(event(i), 0) for i in rows]  # type: ignore[operator]
            if by is not None:
                by.send(self.lab.broker.topic(topic), partition, made)
                continue
            for r in made:
                self.lab.client.send(
                    self.lab.broker.topic(topic), r.value, key=r.key, headers=list(r.headers),
                    partition=partition,
                )  # fmt: skip
            self.lab.client.flush(timeout=30)
        (self.good if good else self.bad).update(rows)

    def settled(self) -> bool:
        """Whether all that counts is counted, exactly, and the whole log is accounted for."""
        checked = against_logs(self.lab)
        assert checked.violations == []
        return checked.figures["pending"] == 0 and self.exact()

    def exact(self) -> bool:
        offsets = self.lab.offsets()
        for r in offsets.values():
            assert r.next_offset - r.first_offset == r.counted + r.dead + r.skipped
            assert r.dead == 0
        assert {int(r.id.removeprefix("row-")) for r in self.lab.rows(t.labels)} <= self.good
        sums = {
            topic: sum(r.counted for (name, _), r in offsets.items() if name == topic)
            for topic in ("predictions", "labels")
        }
        assert max(sums.values(), default=0) <= len(self.good), "an aborted row was counted"
        return set(sums.values()) == {len(self.good)}

    def check(self) -> None:
        """What SQL holds is what counts: rows, labels, outcomes."""
        lab = self.lab
        eventually(self.settled, f"{lab.offsets()}\n{lab.logs()}")
        assert lab.scalar(sa.select(sa.func.sum(t.input_states.c.rows))) == len(self.good)
        labels = {int(r.id.removeprefix("row-")) for r in lab.rows(t.labels)}
        assert labels == self.good
        outcomes = sa.select(sa.func.count()).select_from(t.outcomes)
        eventually(lambda: lab.scalar(outcomes) == len(self.good), f"outcomes\n{lab.logs()}")
        assert lab.rows(t.gaps) == []


def test_what_counts_is_what_was_committed(lab: Lab, producers: Producers) -> None:
    feed = Feed(lab)
    x, y = producers.open(codec="lz4"), producers.open()
    worker = lab.worker(metrics_port="0").start()
    for codec in CODECS:
        z = producers.open(codec=codec)
        x.begin()
        y.begin()
        feed.send(7, by=x, good=False)
        feed.send(4)
        feed.send(5, by=y)
        z.begin()
        feed.send(6, by=x, good=False)
        feed.send(3, by=z, good=False)
        feed.send(1)
        x.abort()
        feed.send(5, by=y)
        feed.send(4, by=z, good=False)
        y.commit()
        x.begin()
        feed.send(8, by=x)
        z.abort()
        x.commit()
    feed.send(9)
    feed.check()
    assert worker.alive
    assert not worker.says("transaction_open")
    page = _metrics(worker)
    for topic in ("predictions", "labels"):
        name = f'redistill_stream_aborted_records_total{{topic="{lab.broker.topic(topic)}"}}'
        assert f"{name} {len(feed.bad)}.0" in page
    # measured every two seconds, the last time perhaps before all was counted
    eventually(lambda: "redistill_stream_lag 0.0" in _metrics(worker), "there is no lag")


@pytest.mark.parametrize("counted_before", [0, 3])
def test_worker_that_was_killed_takes_up_in_the_middle_of_transactions(
    lab: Lab, producers: Producers, counted_before: int
) -> None:
    feed = Feed(lab)
    x, y = producers.open(codec="zstd"), producers.open()
    feed.send(8)
    worker = lab.worker().start()
    lab.wait_counted(8)
    x.begin()
    y.begin()
    feed.send(12, by=x, good=False)  # multiples of the partitions: all of it on one
    feed.send(8, by=y)
    feed.send(4)
    worker.kill()
    feed.send(8, by=x, good=False)
    x.abort()
    y.commit()
    feed.send(4)
    if counted_before:  # a flush that came between two chunks
        with lab.db.begin() as conn:
            c = t.offsets.c
            conn.execute(
                sa.update(t.offsets)
                .where(c.partition == 0)
                .values(
                    next_offset=c.next_offset + 3,
                    fence=c.next_offset + 3,
                    skipped=c.skipped + 3,
                    log_end=c.log_end + 3,
                )
            )
    worker.start()
    feed.check()


def test_hung_transaction_is_waited_for_said_and_shown(lab: Lab, producers: Producers) -> None:
    feed = Feed(lab)
    x = producers.open(timeout_seconds=600.0)
    worker = lab.impatient("stream", 8.0)  # longer than a busy machine keeps a fetcher waiting
    worker.env |= {"REDISTILL_METRICS_PORT": "0"}
    worker.start()
    feed.send(8)
    feed.check()
    x.begin()
    feed.send(4, by=x, good=False)
    feed.send(12)  # behind it, by somebody else
    eventually(
        lambda: _said_open(worker, "labels"), f"a word about it\n{lab.logs()}"
    )  # twice the watchdog's patience, and each topic has its own
    assert _said_open(worker, "labels") == {(lab.broker.topic("labels"), 0, 8)}
    page = _metrics(worker)
    assert "redistill_stream_lag 0.0" in page
    assert "redistill_stream_held 32.0" in page
    shown = _command(lab, "models")
    assert (shown["lag"], shown["held"]) == (0, 32)
    assert "32 more wait for open transactions" in _command(lab, "models", as_json=False)
    checked = against_logs(lab)
    assert (checked.violations, checked.figures["pending"], checked.figures["held"]) == ([], 0, 32)
    assert lab.counted() == lab.counted("labels") == 8

    producers.die()
    for topic in ("predictions", "labels"):
        _abort(lab, TopicPartition(lab.broker.topic(topic), 0))
    feed.check()
    eventually(lambda: worker.says("transaction_ended"), f"a word about it\n{lab.logs()}")
    assert (worker.alive, worker.starts) == (True, 1)
    assert '"level": "error"' not in worker.log.read_text()


def _said_open(worker: Any, topic: str) -> set[tuple[str, int, int]]:
    """Where the worker said that a transaction is open."""
    return {
        (line["topic"], line["partition"], line["offset"])
        for line in map(json.loads, worker.log.read_text().splitlines())
        if line.get("action") == "transaction_open" and line["topic"].endswith(topic)
    }


def _abort(lab: Lab, partition: TopicPartition) -> None:
    """As kafka-transactions.sh does."""
    admin = KafkaAdminClient(bootstrap_servers=lab.bootstrap)
    try:
        for held in admin.describe_producers([partition])[partition].active_producers:
            if held.current_transaction_start_offset >= 0:
                admin.abort_transaction(
                    AbortTransactionSpec(partition, held.producer_id, held.producer_epoch)
                )
    finally:
        admin.close()


def _command(lab: Lab, *args: str, as_json: bool = True) -> Any:
    """What a command of redistill prints."""
    done = subprocess.run(
        [sys.executable, "-m", "redistill", *args, *(["--json"] if as_json else [])],
        env=lab.env, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return json.loads(done.stdout) if as_json else done.stdout


def test_consumers_of_kafka_python_read_what_is_committed(lab: Lab, producers: Producers) -> None:
    """Ours stand on its filter: whatever begins, ends and is compressed within a fetch."""
    topic = lab.broker.topic("labels")
    good: list[int] = []
    serial = 0

    def send(by: Transactional, n: int, *, counts: bool) -> None:
        nonlocal serial
        made = range(serial, serial + n)
        by.send(topic, 0, [record(label(i), 0) for i in made])
        good.extend(made if counts else [])
        serial += n

    for codec in CODECS:
        x, y = producers.open(codec=codec), producers.open()
        x.begin()
        y.begin()
        send(x, 3, counts=False)
        send(y, 2, counts=True)
        send(x, 2, counts=False)
        x.abort()
        send(y, 2, counts=True)
        y.commit()
        x.begin()
        send(x, 2, counts=True)
        x.commit()
    last = producers.open()
    last.begin()
    send(last, 3, counts=False)
    last.abort()
    whole = _read(lab, topic, 0)
    assert [i for _, i in whole] == good
    for first in range(1, whole[-1][0] + 4, 5):
        assert _read(lab, topic, first) == [(o, i) for o, i in whole if o >= first]
    last.begin()
    send(last, 1, counts=False)
    assert [i for _, i in _read(lab, topic, 0)] == good, "an open one is waited for"


def _read(lab: Lab, topic: str, first: int) -> list[tuple[int, int]]:
    """Offsets and rows from an offset to the end."""
    client = consumer(lab.broker)
    partition = TopicPartition(topic, 0)
    out: list[tuple[int, int]] = []
    try:
        client.assign([partition])
        client.seek(partition, first)
        (end,) = client.end_offsets([partition]).values()

        def at_end() -> bool:
            for records in client.poll(timeout_ms=200).values():
                out.extend((r.offset, int(json.loads(r.value)["id"][4:])) for r in records)
            return bool(client.position(partition) >= end)

        eventually(at_end, "the end", every=0.0)
    finally:
        client.close()
    return out


def _metrics(worker: Any) -> str:
    found = re.search(r'"action": "metrics"[^}]*"port": (\d+)', worker.log.read_text())
    assert found is not None
    with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/metrics", timeout=30) as answer:
        text: str = answer.read().decode()
    return text

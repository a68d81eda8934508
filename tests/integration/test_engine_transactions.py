"""Read committed, on a real Kafka, with the transactions of librdkafka and of Java: what was aborted
counts for nothing, what is open is waited for, and every offset is accounted for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from kafka_server import Unavailable
from stream_lab import PARTITIONS, Lab
from stream_rows import label, prediction, record
from transactions import CLIENTS, Producers, Transactional
from waiting import eventually

from redistill.streams.store import tables as t
from redistill.workers.invariants import streams
from redistill.workers.invariants.log_offsets import logs

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
        checked = streams.against_logs(
            list(self.lab.offsets().values()), logs(self.lab.broker, ("predictions", "labels"))
        )
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
    assert "redistill_stream_lag 0.0" in page


def _metrics(worker: Any) -> str:
    import re
    import urllib.request

    found = re.search(r'"action": "metrics", "port": (\d+)', worker.log.read_text())
    assert found is not None
    with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/metrics", timeout=30) as answer:
        text: str = answer.read().decode()
    return text

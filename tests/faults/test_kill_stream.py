"""``kill -9`` of stream workers under load, on a real Kafka: every offset is counted once."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from stream_lab import PARTITIONS, Lab
from stream_rows import label, prediction
from waiting import eventually

from redistill.streams.store import tables as t

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

LABELS_EVERY = 5
KILLS = 4


@pytest.fixture(params=["sqlite", "postgres"])
def lab(request: pytest.FixtureRequest, kafka_server: object, tmp_path: Path) -> Iterator[Lab]:
    url = f"sqlite:///{tmp_path / 'redistill.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    made = Lab(kafka_server.bootstrap, url, tmp_path).make_topics()  # type: ignore[attr-defined]
    yield made
    made.close()


class Load(threading.Thread):
    """Sends rows and labels until it is stopped."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(daemon=True)
        self.lab = lab
        self.rows = 0
        self.ending = threading.Event()

    def run(self) -> None:
        while not self.ending.wait(0.2):
            rows = range(self.rows, self.rows + 200)
            self.lab.send((prediction(i) for i in rows), flush=False)
            self.lab.send((label(i) for i in rows[::LABELS_EVERY]), flush=False)
            self.rows += 200
        self.lab.client.flush(timeout=60)

    def stop(self) -> int:
        self.ending.set()
        self.join()
        return self.rows


def test_every_offset_is_counted_once_when_workers_are_killed(lab: Lab) -> None:
    seed = 20260301
    rng = random.Random(seed)
    # a second worker where the database takes one; static ids make a restart quick
    names = ["a"] if lab.db.is_sqlite else ["a", "b"]
    workers = [lab.worker(n, static_member=f"{lab.namespace}-{n}").start() for n in names]
    load = Load(lab)
    load.start()
    for _ in range(KILLS):
        # killed at work, not at the start: at a random moment after something was counted
        before = lab.counted()
        lab.wait_counted(before + 1)
        time.sleep(rng.uniform(0.0, 1.2))
        victim = rng.choice(workers)
        victim.kill()
        time.sleep(rng.uniform(0.0, 0.3))
        victim.start()
    rows = load.stop()
    labels = rows // LABELS_EVERY
    lab.wait_counted(rows)
    lab.wait_counted(labels, "labels")
    # what would be counted twice stands before these in its partition, and is counted before them
    lab.send(prediction(i) for i in range(rows, rows + PARTITIONS))
    lab.send(label(i) for i in range(rows, rows + PARTITIONS))
    rows, labels = rows + PARTITIONS, labels + PARTITIONS
    lab.wait_counted(rows)
    lab.wait_counted(labels, "labels")
    for w in workers:
        # the other may have counted everything while one that was killed late still starts
        eventually(lambda w=w: w.says("starting"), f"{w.name} is up")  # type: ignore[misc]
        assert w.stop() == 0, w.tail()

    for (topic, partition), row in lab.offsets().items():
        produced = (rows if topic == "predictions" else labels) // PARTITIONS
        where = f"{topic}/{partition}, seed {seed}\n{lab.logs()}"
        assert (row.first_offset, row.next_offset) == (0, produced), where
        assert (row.counted, row.dead, row.skipped) == (produced, 0, 0), where
    assert lab.rows(t.gaps) == []
    assert lab.scalar(sa.select(sa.func.sum(t.input_states.c.rows))) == rows
    assert lab.scalar(sa.select(sa.func.count()).select_from(t.join_rows)) == rows
    assert lab.scalar(sa.select(sa.func.count()).select_from(t.labels)) == labels
    duplicates = sa.select(t.counters.c.value).where(t.counters.c.name == "rows_duplicate")
    assert lab.scalar(duplicates) is None
    seqs = [o.seq for o in lab.rows(t.outcomes)]
    assert sorted(seqs) == list(range(1, len(seqs) + 1))
    state = lab.rows(t.accuracy_states)[0]
    assert (state.n, state.last_seq) == (len(seqs), len(seqs))

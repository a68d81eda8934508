"""A prediction that is logged after a label has brought it: it changes nothing, and a clash is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from stream_rows import CONFIG, START, chunk, label, new_database, prediction, record, truth, watch

from redistill.streams.engine.accumulator import Accumulator
from redistill.streams.store import ledger
from redistill.streams.store import tables as t
from redistill.streams.store.batch import Partition
from redistill.streams.store.database import Database
from redistill.streams.store.flush import flush
from redistill.streams.store.join_step import join_labels
from redistill.times import MINUTE, SECOND, microseconds, to_seconds

KEY = b"k" * 32
P0, L0 = Partition("topic-id-p", 0), Partition("topic-id-l", 0)
N = 20


class Stream:
    """A stream worker without Kafka."""

    def __init__(self, db: Database) -> None:
        self.db, self.now = db, microseconds(START) + 3_600 * SECOND
        self.intake = Accumulator(
            db,
            state_key=KEY,
            kinds={"predictions": "predictions", "labels": "labels"},
            clock=lambda: to_seconds(self.now),
        )
        self.ends = {P0: 0, L0: 0}
        for partition, topic in ((P0, "predictions"), (L0, "labels")):
            self.intake.assign(partition, topic, stored=None, start=0)

    def send(self, partition: Partition, events: list[Any]) -> None:
        first = self.ends[partition]
        self.intake.take(partition, chunk([record(e, first + i) for i, e in enumerate(events)]))
        self.ends[partition] += len(events)
        batch = self.intake.close()
        assert batch is not None
        flush(self.db, batch, now=self.now)

    def join(self) -> None:
        """Two minutes later."""
        self.now += 2 * MINUTE
        assert join_labels(self.db, CONFIG, now=self.now, state_key=KEY) is not None

    def rows(self, table: sa.Table) -> list[Any]:
        with self.db.read() as conn:
            return list(conn.execute(sa.select(table)))

    @property
    def counters(self) -> dict[str, int]:
        return {r.name: r.value for r in self.rows(t.counters)}


@pytest.fixture
def stream(database_url: str) -> Iterator[Stream]:
    db = new_database(database_url)
    watch(db)
    yield Stream(db)
    db.dispose()


def wrong(i: int) -> str:
    return "default" if truth(i) == "repay" else "repay"


def brought(i: int, said: str, **how: Any) -> Any:
    return label(i, version="7", prediction=said, **how)


def detected(stream: Stream) -> dict[str, tuple[str, int]]:
    """What a detector saw of each row."""
    return {o.id: (o.prediction, o.correct) for o in stream.rows(t.outcomes)}


@pytest.mark.parametrize(("says", "clashes"), [(truth, None), (wrong, N)])
def test_log_that_comes_after_its_minute_is_compared_and_changes_nothing(
    stream: Stream, says: Any, clashes: int | None
) -> None:
    stream.send(L0, [brought(i, says(i)) for i in range(N)])
    stream.join()
    before = detected(stream)
    assert len(before) == N
    for _ in range(2):  # the second time it is a row that is there
        stream.send(P0, [prediction(i) for i in range(N)])
        stream.join()
    stream.send(L0, [brought(i, says(i), seconds=90.0) for i in range(N)])  # said again
    stream.join()
    assert detected(stream) == before
    assert stream.counters.get("labels_clash") == clashes
    told = [f for f in stream.rows(t.findings) if "labels brought another" in str(f.body)]
    assert len(told) == (clashes is not None)
    decided = sum(stream.counters.get(f"labels_{s}", 0) for s in ledger.DECIDED)
    assert decided - stream.counters[ledger.DECIDED_EXPIRED] == 2 * N


def test_log_of_a_prediction_that_failed_contradicts_a_label_that_brings_one(
    stream: Stream,
) -> None:
    stream.send(L0, [brought(i, truth(i)) for i in range(N)])
    stream.join()
    stream.send(P0, [dataclasses.replace(prediction(i), failed="error") for i in range(N)])
    stream.join()
    assert stream.counters["labels_clash"] == N
    (told,) = [str(f.body) for f in stream.rows(t.findings) if "brought another" in str(f.body)]
    assert "logged was no answer of the model (error)" in told


def test_nothing_is_looked_for_where_nobody_brings_predictions(stream: Stream) -> None:
    stream.send(P0, [prediction(i) for i in range(N)])
    stream.send(L0, [label(i) for i in range(N)])
    stream.join()
    assert "labels_brought" not in stream.counters
    assert len(stream.rows(t.outcomes)) == N

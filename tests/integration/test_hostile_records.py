"""Hostile records all the way into SQL: each is counted or dead, once, and every flush is written."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import hostile
import pytest
import sqlalchemy as sa
import structlog
from stream_rows import chunk, new_database, watch

from redistill.streams.engine.accumulator import Accumulator
from redistill.streams.store.batch import Partition
from redistill.streams.store.flush import flush
from redistill.streams.store.tables import labels, offsets, outbox
from redistill.times import microseconds

P0, L0 = Partition("p", 0), Partition("l", 0)
NOW = datetime(2026, 11, 29, tzinfo=UTC)


@pytest.mark.parametrize("seed", range(3))
def test_each_record_is_counted_or_dead_and_every_flush_is_written(
    database_url: str, seed: int
) -> None:
    rng = random.Random(seed)
    db = new_database(database_url)
    watch(db)
    accumulator = Accumulator(
        db,
        state_key=b"k" * 32,
        kinds={"predictions": "predictions", "labels": "labels"},
        clock=NOW.timestamp,
    )
    accumulator.assign(P0, "predictions", stored=None, start=0)
    accumulator.assign(L0, "labels", stored=None, start=0)
    sent = {P0: 0, L0: 0}
    with structlog.testing.capture_logs() as lines:
        for turn in range(15):
            for partition, make in ((P0, hostile.prediction), (L0, hostile.label)):
                first = sent[partition]
                sent[partition] += rng.randrange(1, 30)
                records = [make(rng, i, at=NOW.isoformat()) for i in range(first, sent[partition])]
                accumulator.take(partition, chunk(records))
            accumulator.tick()
            batch = accumulator.close()
            assert batch is not None
            flush(db, batch, now=microseconds(NOW) + turn)
    with db.read() as conn:
        moved = conn.execute(sa.select(offsets).order_by(offsets.c.topic)).all()
        letters = sa.select(sa.func.count()).where(outbox.c.topic == "dlq")
        announced = conn.execute(letters).scalar_one()
        without_a_label = sa.select(sa.func.count()).where(labels.c.label.is_(None))
        assert conn.execute(without_a_label).scalar_one() == 0
    assert [(o.topic, o.next_offset, o.counted + o.dead) for o in moved] == [
        ("labels", sent[L0], sent[L0]), ("predictions", sent[P0], sent[P0]),
    ]  # fmt: skip
    assert announced == sum(o.dead for o in moved), "every dead letter could be written"
    assert [x for x in lines if x["log_level"] == "error"] == [], "our own code raised"
    db.dispose()

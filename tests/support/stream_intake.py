"""A stream worker without Kafka: events go to SQL, and labels are joined, when a test says so."""

from __future__ import annotations

from typing import Any, Self

import sqlalchemy as sa
from stream_rows import CONFIG, START, chunk, record

from redistill.streams.engine.accumulator import Accumulator
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.store import tables as t
from redistill.streams.store.batch import Partition
from redistill.streams.store.database import Database
from redistill.streams.store.flush import flush
from redistill.streams.store.join_step import JoinStep, join_labels
from redistill.streams.wire.events import LabelObserved, PredictionMade
from redistill.times import HOUR, microseconds, to_seconds

__all__ = ["KEY", "L0", "NOW", "P0", "StreamIntake"]

P0, L0 = Partition("topic-id-p", 0), Partition("topic-id-l", 0)
KEY = b"k" * 32
NOW = microseconds(START) + HOUR


class StreamIntake:
    """Takes events of one model in any order, each ``send`` in one flush.

    Attributes
    ----------
    now
        Its clock, microseconds since 1970: it stands until a test sets it.
    """

    def __init__(self, db: Database, *, now: int = NOW, config: WatchConfig = CONFIG) -> None:
        self.db, self.now, self.config = db, now, config
        self.accumulator = Accumulator(
            db,
            state_key=KEY,
            kinds={"predictions": "predictions", "labels": "labels"},
            clock=lambda: to_seconds(self.now),
        )
        self.offsets = {P0: 0, L0: 0}
        self.accumulator.assign(P0, "predictions", stored=None, start=0)
        self.accumulator.assign(L0, "labels", stored=None, start=0)

    def send(self, *events: PredictionMade | LabelObserved) -> Self:
        for event in events:
            partition = P0 if isinstance(event, PredictionMade) else L0
            self.accumulator.take(partition, chunk([record(event, self.offsets[partition])]))
            self.offsets[partition] += 1
        batch = self.accumulator.close()
        assert batch is not None
        flush(self.db, batch, now=self.now)
        return self

    def join(self, **changes: Any) -> JoinStep:
        done = join_labels(self.db, self.config, now=self.now, state_key=KEY, **changes)
        assert done is not None
        return done

    def rows(self, table: sa.Table) -> list[Any]:
        with self.db.read() as conn:
            return list(conn.execute(sa.select(table)))

    def counters(self) -> dict[str, int]:
        return {r.name: r.value for r in self.rows(t.counters)}

"""The main loop without Kafka: chunks in a queue, offsets in SQL, and what the consumer is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from aiokafka.errors import KafkaTimeoutError
from faust.types import TP
from stream_rows import chunk, label, new_database, prediction, record, watch
from structlog.testing import capture_logs
from waiting import PATIENCE_SECONDS

from redistill.streams.engine import worker as module
from redistill.streams.engine.accumulator import Accumulator
from redistill.streams.engine.broker_watch import BrokerWatch
from redistill.streams.engine.consumer import QueuedChunk
from redistill.streams.engine.fetched import Chunk
from redistill.streams.engine.health import Health
from redistill.streams.engine.lag import LogEnd
from redistill.streams.engine.metrics import StreamMetrics
from redistill.streams.engine.worker import StreamWorker
from redistill.streams.errors import BrokerRefused, BrokerUnavailable, StoreUnavailable
from redistill.streams.kafka.broker import Broker
from redistill.streams.kafka.dev_broker import topic_id
from redistill.streams.store import tables as t
from redistill.streams.store.database import Database

BROKER = Broker("dev://127.0.0.1:1?start=11111111-1111-1111-1111-111111111111")
P0, P1, L0 = TP("predictions", 0), TP("predictions", 1), TP("labels", 0)
ALL = (P0, P1, L0)


class FakeConsumer:
    """A log of so many records a partition, and what it was told and asked."""

    def __init__(self, worker: StreamWorker) -> None:
        self.worker = worker
        self.earliest = dict.fromkeys(ALL, 0)
        self.end = 10**9
        self.stored_at: dict[TP, int] = {}
        self.sought: list[dict[TP, int]] = []
        self.assigned: tuple[TP, ...] = ALL
        self.last_fetch = 0.0
        self.unasked: Exception | None = None

    def stored(self, tp: TP, next_offset: int) -> None:
        self.stored_at[tp] = next_offset

    async def earliest_offsets(self, *tps: TP) -> dict[TP, int]:
        return {tp: self.earliest[tp] for tp in tps}

    async def bounds(self, *tps: TP) -> dict[TP, tuple[int, int]]:
        if self.unasked is not None:
            raise self.unasked
        return {tp: (self.earliest[tp], self.end) for tp in tps}

    async def seek_wait(self, offsets: dict[TP, int]) -> None:
        self.sought.append(offsets)

    async def perform_seek(self) -> None:
        self.sought.append(dict(await self.worker.start_offsets(self.assigned)))


class Rig:
    """A worker and all that it works with."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.health, self.metrics = Health(), StreamMetrics()
        self.woken = 0
        self.accumulator = Accumulator(
            database, state_key=b"k" * 32, kinds={"predictions": "predictions", "labels": "labels"}
        )
        self.worker = StreamWorker(
            database=database,
            broker=BROKER,
            accumulator=self.accumulator,
            topics=["predictions", "labels"],
            flush_seconds=0.01,
            health=self.health,
            metrics=self.metrics,
            watch=BrokerWatch(self.health, self.metrics),
            wake=self._wake,
        )
        self.consumer = FakeConsumer(self.worker)
        self.worker.consumer = self.consumer  # type: ignore[assignment]

    def _wake(self) -> None:
        self.woken += 1

    def put(self, tp: TP, made: Chunk) -> None:
        """Queue a chunk as the bulk consumer does."""
        self.worker.queue.put_nowait(QueuedChunk(tp, made, self.worker.epoch))

    def offsets(self) -> dict[TP, tuple[int, int]]:
        """``next_offset`` and what was counted, as SQL has them."""
        with self.database.read() as conn:
            rows = conn.execute(sa.select(t.offsets)).all()
        return {TP(r.topic, r.partition): (r.next_offset, r.counted) for r in rows}

    async def until(self, check: Any) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not check():
                await asyncio.sleep(0.005)

    async def until_stored(self, tp: TP, offset: int) -> None:
        await self.until(lambda: self.consumer.stored_at.get(tp) == offset)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        loop = asyncio.create_task(self.worker.run())
        try:
            yield
        finally:
            await self.worker.stop(PATIENCE_SECONDS)
            await loop


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    database = new_database(f"sqlite:///{tmp_path / 'redistill.db'}")
    watch(database)
    made = Rig(database)
    yield made
    made.worker.close()
    database.dispose()


def rows(first: int, end: int) -> Chunk:
    return chunk([record(prediction(i), i) for i in range(first, end)])


def stored_before(rig: Rig, tp: TP, next_offset: int) -> None:
    with rig.database.begin() as conn:
        conn.execute(
            sa.insert(t.offsets).values(
                topic_id=topic_id(BROKER, tp.topic), partition=tp.partition, topic=tp.topic,
                first_offset=0, next_offset=next_offset, counted=next_offset, dead=0, skipped=0,
                rows=next_offset, updated_at=0,
            )
        )  # fmt: skip


# --- where reading begins -----------------------------------------------------------------------


def test_reading_begins_where_sql_ends_else_where_the_log_begins(rig: Rig) -> None:
    stored_before(rig, P0, 7)
    rig.consumer.earliest[P1] = 3
    starts = asyncio.run(rig.worker.start_offsets([*ALL, TP("not ours", 0)]))
    assert starts == {P0: 7, P1: 3, L0: 0}
    assert rig.health.assigned
    assert rig.metrics.registry.get_sample_value("redistill_stream_partitions") == 3


def test_nothing_assigned_is_nothing_to_read(rig: Rig) -> None:
    assert asyncio.run(rig.worker.start_offsets([])) == {}
    assert (rig.health.assigned, rig.health.void) == (False, False)


@pytest.mark.parametrize(
    "error", [StoreUnavailable("away"), BrokerUnavailable("away"), BrokerRefused("no")]
)
def test_start_does_not_wait_for_what_is_away(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def away(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(module, "topic_ids", away)
    assert asyncio.run(rig.worker.start_offsets(ALL)) == {}
    assert (rig.health.void, rig.health.assigned) == (True, False)
    assert rig.health.store_away is isinstance(error, StoreUnavailable)
    assert (rig.health.broker_away is None) is isinstance(error, StoreUnavailable)


@pytest.mark.parametrize("error", [KafkaTimeoutError(), TimeoutError()])
def test_start_does_not_fail_where_a_broker_does_not_say_where_logs_begin(
    rig: Rig, error: Exception
) -> None:
    rig.consumer.unasked = error
    assert asyncio.run(rig.worker.start_offsets(ALL)) == {}
    assert rig.health.void
    assert "where logs begin" in str(rig.health.broker_away)
    rig.consumer.unasked = None
    assert set(asyncio.run(rig.worker.start_offsets(ALL))) == set(ALL)
    assert (rig.health.void, rig.health.broker_away) == (False, None)
    assert rig.worker.positions() == dict.fromkeys(ALL, 0)


def test_loop_asks_again_until_it_knows_where_to_begin(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_DELAY", 0.001)
    real, fails = module.topic_ids, [StoreUnavailable("a"), StoreUnavailable("b")]

    def twice_away(*args: Any) -> Any:
        if fails:
            raise fails.pop()
        return real(*args)

    monkeypatch.setattr(module, "topic_ids", twice_away)

    async def story() -> None:
        assert await rig.worker.start_offsets(ALL) == {}
        async with rig.running():
            await rig.until(lambda: rig.consumer.sought)
            await rig.until(lambda: rig.consumer.sought[-1] == dict.fromkeys(ALL, 0))

    asyncio.run(story())
    assert not rig.health.void


# --- chunks -------------------------------------------------------------------------------------


def test_what_is_queued_is_counted_stored_and_may_be_committed(rig: Rig) -> None:
    async def story() -> None:
        await rig.worker.start_offsets(ALL)
        async with rig.running():
            rig.put(P0, rows(0, 30))
            rig.put(L0, chunk([record(label(i), i) for i in range(5)]))
            await rig.until_stored(P0, 30)
            await rig.until_stored(L0, 5)

    asyncio.run(story())
    assert rig.offsets() == {P0: (30, 30), P1: (0, 0), L0: (5, 5)}
    assert rig.woken >= 1
    assert rig.health.progress == 35
    value = rig.metrics.registry.get_sample_value
    assert value("redistill_stream_rows_total", {"topic": "predictions"}) == 30
    assert value("redistill_stream_states") == 1


def test_chunks_from_before_a_seek_and_of_others_partitions_are_dropped(rig: Rig) -> None:
    async def story() -> None:
        await rig.worker.start_offsets([P0])
        rig.worker.queue.put_nowait(QueuedChunk(P0, rows(0, 9), rig.worker.epoch - 1))
        rig.put(P1, rows(0, 9))
        rig.put(P0, rows(0, 3))
        async with rig.running():
            await rig.until_stored(P0, 3)

    asyncio.run(story())
    assert rig.offsets() == {P0: (3, 3)}


def test_hole_that_was_missed_is_read_again_after_what_came_before_it(rig: Rig) -> None:
    async def story() -> None:
        await rig.worker.start_offsets([P0])
        async with rig.running():
            rig.put(P0, rows(0, 3))
            rig.put(P0, rows(5, 8))
            await rig.until(lambda: rig.consumer.sought == [{P0: 3}])
            await rig.until_stored(P0, 3)
            rig.put(P0, rows(3, 8))
            await rig.until_stored(P0, 8)

    asyncio.run(story())
    assert rig.offsets() == {P0: (8, 8)}


def gap_offsets(rig: Rig) -> float:
    value = rig.metrics.registry.get_sample_value
    return value("redistill_stream_gap_offsets_total", {"topic": "predictions"}) or 0.0


def test_hole_that_left_the_log_is_a_gap(rig: Rig) -> None:
    async def story() -> None:
        await rig.worker.start_offsets([P0])
        rig.consumer.earliest[P0] = 5
        async with rig.running():
            rig.put(P0, rows(0, 3))
            rig.put(P0, rows(5, 8))
            await rig.until_stored(P0, 8)

    asyncio.run(story())
    assert rig.offsets() == {P0: (8, 6)}
    with rig.database.read() as conn:
        gap = conn.execute(sa.select(t.gaps)).one()
    assert (gap.first, gap.last) == (3, 4)
    assert gap_offsets(rig) == 2


def test_gap_that_another_worker_read_over_is_not_said(rig: Rig) -> None:
    rig.consumer.assigned = (P0,)
    rig.consumer.earliest[P0] = 5
    stored_before(rig, P0, 2)

    async def story() -> None:
        await rig.worker.start_offsets([P0])  # finds a gap
        with rig.database.begin() as conn:  # another one had fetched it, and stores it
            conn.execute(sa.update(t.offsets).values(next_offset=9, fence=9, counted=9, skipped=0))
        async with rig.running():
            await rig.until(lambda: {P0: 9} in rig.consumer.sought)

    with capture_logs() as said:
        asyncio.run(story())
    assert "gap" not in [x["action"] for x in said]
    assert gap_offsets(rig) == 0


def test_full_batch_leaves_the_rest_for_the_next(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.accumulator, "_most_written", 10)

    async def story() -> None:
        await rig.worker.start_offsets([P0])
        async with rig.running():
            for first in range(0, 40, 10):
                rig.put(P0, rows(first, first + 10))
            await rig.until_stored(P0, 40)

    asyncio.run(story())
    assert rig.offsets() == {P0: (40, 40)}
    assert rig.woken >= 4


# --- what goes wrong ----------------------------------------------------------------------------


def test_batch_that_another_worker_overtook_is_read_again_from_sql(rig: Rig) -> None:
    async def story() -> None:
        rig.consumer.assigned = (P0,)
        await rig.worker.start_offsets([P0])
        stored_before(rig, P0, 4)
        async with rig.running():
            rig.put(P0, rows(0, 9))
            await rig.until(lambda: rig.consumer.sought == [{P0: 4}])
            rig.put(P0, rows(4, 9))
            await rig.until_stored(P0, 9)

    asyncio.run(story())
    assert rig.offsets() == {P0: (9, 9)}
    with rig.database.read() as conn:
        (state,) = conn.execute(sa.select(t.input_states)).all()
    assert state.rows == 5


def test_topic_that_was_made_again_is_begun_anew(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = {"predictions": "old", "labels": "l"}
    monkeypatch.setattr(module, "topic_ids", lambda *_: dict(ids))

    async def story() -> None:
        rig.consumer.assigned = (P0,)
        await rig.worker.start_offsets([P0])
        async with rig.running():
            rig.put(P0, rows(0, 3))
            await rig.until_stored(P0, 3)
            assert rig.worker.topic_ids == ids
            ids["predictions"] = "new"
            rig.worker.distrust()
            await rig.until(lambda: {P0: 0} in rig.consumer.sought)
            rig.put(P0, rows(0, 2))
            await rig.until_stored(P0, 2)

    asyncio.run(story())
    with rig.database.read() as conn:
        read = {r.topic_id: r.counted for r in conn.execute(sa.select(t.offsets))}
    assert read == {"old": 3, "new": 2}


def test_what_nobody_had_read_of_a_topic_that_was_made_again_is_a_gap(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = {"predictions": "old", "labels": "l"}
    monkeypatch.setattr(module, "topic_ids", lambda *_: dict(ids))

    async def story() -> None:
        rig.consumer.assigned, rig.consumer.end = (P0,), 5
        await rig.worker.start_offsets([P0])
        async with rig.running():
            rig.worker.looked({P0: LogEnd(7, 8), P1: LogEnd(9, 9)})
            rig.put(P0, rows(0, 3))
            await rig.until_stored(P0, 3)
            ids["predictions"] = "new"
            rig.worker.distrust()
            await rig.until(lambda: {P0: 0} in rig.consumer.sought)

    with capture_logs() as said:
        asyncio.run(story())
    with rig.database.read() as conn:
        (gap,) = conn.execute(sa.select(t.gaps)).all()
    assert (gap.topic_id, gap.partition, gap.first, gap.last) == ("old", 0, 3, 7)
    (told,) = [line for line in said if line["event"] == "gap"]
    assert (told["topic"], told["lost"]) == ("predictions", 5)
    assert gap_offsets(rig) == 5


# --- the end ------------------------------------------------------------------------------------


def test_partitions_that_are_taken_away_are_stored_and_let_go(rig: Rig) -> None:
    async def story() -> None:
        await rig.worker.start_offsets([P0])
        rig.worker.joined()
        async with rig.running():
            rig.put(P0, rows(0, 3))
            await rig.until(lambda: rig.accumulator.position(P(P0)) == 3)
            assert rig.health.joined
            await rig.worker.revoked()
            assert rig.offsets()[P0] == (3, 3)
            assert not rig.health.joined
            rig.put(P0, rows(3, 6))  # came too late
            await rig.until(lambda: rig.accumulator.position(P(P0)) is None)

    asyncio.run(story())
    assert rig.offsets() == {P0: (3, 3)}


@pytest.mark.parametrize("call", ["revoked", "start_offsets", "stop"])
def test_rebalance_without_the_database_raises_nothing_into_faust(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Closing a batch may ask SQL, too: for names that nobody registered."""

    async def story() -> None:
        await rig.worker.start_offsets([P0])
        rig.worker.joined()

        def away() -> Any:
            raise StoreUnavailable("away")

        monkeypatch.setattr(rig.accumulator, "close", away)
        arguments = {"start_offsets": [[P0]], "stop": [PATIENCE_SECONDS]}.get(call, [])
        await getattr(rig.worker, call)(*arguments)

    asyncio.run(story())
    assert rig.offsets().get(P0, (0, 0)) == (0, 0)


def P(tp: TP) -> Any:
    """A partition as SQL knows it."""
    return module.Partition(topic_id(BROKER, tp.topic), tp.partition)


def test_stop_stores_what_was_taken(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.worker, "_flush_seconds", 3_600.0)

    async def story() -> None:
        await rig.worker.start_offsets([P0])
        async with rig.running():
            await rig.until_stored(P0, 0)  # the first flush is at once
            rig.put(P0, rows(0, 3))
            await rig.until(lambda: rig.accumulator.position(P(P0)) == 3)
            assert rig.offsets() == {P0: (0, 0)}

    asyncio.run(story())
    assert rig.offsets() == {P0: (3, 3)}
    assert rig.consumer.stored_at == {P0: 3}

"""Workers that die of a record, and workers that are killed: life after life on one database.

A death is an exception that nobody catches, and a process that is not asked to stop.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from faust.types import TP
from stream_rows import batch_record, chunk, label, new_database, prediction, record, watch
from waiting import PATIENCE_SECONDS

from redistill.streams.engine import accumulator as module
from redistill.streams.engine import flusher
from redistill.streams.engine.accumulator import Accumulator
from redistill.streams.engine.broker_watch import BrokerWatch
from redistill.streams.engine.consumer import QueuedChunk
from redistill.streams.engine.fetched import Chunk, chunks
from redistill.streams.engine.health import Health
from redistill.streams.engine.metrics import StreamMetrics
from redistill.streams.engine.worker import StreamWorker
from redistill.streams.errors import StoreUnavailable
from redistill.streams.kafka.broker import Broker
from redistill.streams.store import tables as t
from redistill.streams.store.database import Database
from redistill.streams.store.tries import StoredOffset
from redistill.streams.wire.codec import Record, decode
from redistill.streams.wire.recordset import RecordSet

BROKER = Broker("dev://127.0.0.1:1?start=11111111-1111-1111-1111-111111111111")
P0, P1, L0 = TP("predictions", 0), TP("predictions", 1), TP("labels", 0)


class Death(BaseException):
    """The process is gone."""


class Process:
    """One worker on a log, from its assignment to its end."""

    def __init__(self, database: Database, log: Mapping[TP, Chunk]) -> None:
        self.log = log
        self.health = Health()
        self.stored_at: dict[TP, int] = {}
        self.last_fetch = 0.0
        self.worker = StreamWorker(
            database=database,
            broker=BROKER,
            accumulator=Accumulator(
                database,
                state_key=b"k" * 32,
                kinds={"predictions": "predictions", "labels": "labels"},
            ),
            topics=["predictions", "labels"],
            flush_seconds=0.01,
            health=self.health,
            metrics=StreamMetrics(),
            watch=BrokerWatch(self.health, StreamMetrics()),
            wake=lambda: None,
        )
        self.worker.consumer = self  # type: ignore[assignment]

    # --- as the bulk consumer -----------------------------------------------------------------

    def stored(self, tp: TP, next_offset: int) -> None:
        self.stored_at[tp] = next_offset

    async def earliest_offsets(self, *tps: TP) -> dict[TP, int]:
        return dict.fromkeys(tps, 0)

    async def bounds(self, *tps: TP) -> dict[TP, tuple[int, int]]:
        return dict.fromkeys(tps, (0, 10**9))

    async def perform_seek(self) -> None:
        for tp, start in (await self.worker.start_offsets(self.log)).items():
            self.stored_at[tp] = start
            if start < self.log[tp].end:
                left = self.log[tp]._replace(first=start)
                self.worker.queue.put_nowait(QueuedChunk(tp, left, self.worker.epoch))

    # --- the life -----------------------------------------------------------------------------

    async def live(self, killed: Callable[[], bool] = lambda: False) -> bool:
        """Until all is stored (``True``), or it dies, or is killed."""
        await self.perform_seek()
        work = asyncio.create_task(self.worker.run())
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not self.done():
                    if work.done():
                        work.result()
                    if killed():
                        raise Death
                    await asyncio.sleep(0.001)
        except Death:
            work.cancel()
            await asyncio.wait({work})
            return False
        await self.worker.stop(PATIENCE_SECONDS)
        await work
        return True

    def done(self) -> bool:
        return all(self.stored_at.get(tp) == c.end for tp, c in self.log.items())

    def close(self) -> None:
        self.worker._compute.shutdown()
        self.worker._flusher._thread.shutdown()


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = new_database(f"sqlite:///{tmp_path / 'redistill.db'}")
    watch(db)
    yield db
    db.dispose()


def live(db: Database, log: Mapping[TP, Chunk], writes: int | None = None) -> bool:
    """One life; killed from outside when it writes to SQL once more than so often."""
    process = Process(db, log)
    left = 10**9 if writes is None else writes

    def written(real: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        nonlocal left
        if (left := left - 1) < 0:
            raise StoreUnavailable("killed")
        return real(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("flush", "mark"):
            patch.setattr(flusher, name, partial(written, getattr(flusher, name)))
        try:
            return asyncio.run(process.live(lambda: left < 0))
        finally:
            process.close()


def lives(db: Database, log: Mapping[TP, Chunk]) -> int:
    """How many processes died until one got through."""
    for deaths in range(40):
        if live(db, log):
            return deaths
    raise AssertionError("none got through")


def offsets(db: Database) -> dict[TP, Any]:
    with db.read() as conn:
        return {TP(r.topic, r.partition): r for r in conn.execute(sa.select(t.offsets))}


def counts(db: Database) -> dict[TP, tuple[int, int, int, int]]:
    return {tp: (r.next_offset, r.counted, r.dead, r.skipped) for tp, r in offsets(db).items()}


def letters(db: Database) -> list[Any]:
    with db.read() as conn:
        rows = conn.execute(sa.select(t.outbox).where(t.outbox.c.topic == "dlq")).all()
    return [
        decode(
            Record(
                "dlq", 0, 0, 0, None, r.value,
                [(k, v.encode()) for k, v in json.loads(r.headers).items()],
            )
        )
        for r in rows
    ]  # fmt: skip


def rows(first: int, end: int) -> Chunk:
    return chunk([record(prediction(i), i) for i in range(first, end)])


def packed(n: int, codec: int = 4) -> Chunk:
    """One compressed batch of the log with many records."""
    made = DefaultRecordBatchBuilder(
        magic=2, compression_type=codec, is_transactional=0, producer_id=-1, producer_epoch=-1,
        base_sequence=-1, batch_size=1 << 22,
    )  # fmt: skip
    for i in range(n):
        r = record(prediction(i), i)
        assert made.append(i, 0, r.key, r.value, list(r.headers)) is not None
    (whole,) = chunks(bytes(made.build()), 0, "predictions/0")
    return whole


def deadly(
    monkeypatch: pytest.MonkeyPatch, *offsets: int, what: str = "decode_predictions"
) -> None:
    """Let records at some offsets end the process that decodes them."""
    real = getattr(module, what)

    def fatal(records: Any, *args: Any, **kwargs: Any) -> Any:
        if {r.offset for r in records}.intersection(offsets):
            raise Death
        return real(records, *args, **kwargs)

    monkeypatch.setattr(module, what, fatal)


@pytest.mark.parametrize("at", [0, 17, 29])
def test_record_that_kills_is_set_aside_alone_and_all_others_are_counted(
    db: Database, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    deadly(monkeypatch, at)
    log = {P0: rows(0, 30), L0: chunk([record(label(i), i) for i in range(5)])}
    assert lives(db, log) == 4
    assert counts(db) == {P0: (30, 29, 1, 0), L0: (5, 5, 0, 0)}
    (letter,) = letters(db)
    assert (letter.topic, letter.partition, letter.offset) == ("predictions", 0, at)
    assert letter.code == "kills"
    assert letter.reason.startswith("2 processes in a row ended with this record in hand")
    assert letter.value == record(prediction(at), at).value
    with db.read() as conn:
        assert conn.execute(sa.select(sa.func.sum(t.input_states.c.rows))).scalar() == 29


def test_label_that_kills_is_set_aside(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    deadly(monkeypatch, 3, what="read_labels")
    lives(db, {L0: chunk([record(label(i), i) for i in range(5)])})
    assert counts(db) == {L0: (5, 4, 1, 0)}
    assert [(d.topic, d.offset, d.code) for d in letters(db)] == [("labels", 3, "kills")]


def test_arrow_batch_that_kills_is_one_record(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    deadly(monkeypatch, 1)
    log = {P0: chunk([batch_record(range(i * 50, i * 50 + 50), i) for i in range(4)])}
    lives(db, log)
    assert counts(db) == {P0: (4, 3, 1, 0)}
    assert offsets(db)[P0].rows == 150
    assert [d.offset for d in letters(db)] == [1]


@pytest.mark.parametrize("codec", [0, 1, 4], ids=["plain", "gzip", "zstd"])
def test_record_within_a_batch_of_the_log_is_found(
    db: Database, monkeypatch: pytest.MonkeyPatch, codec: int
) -> None:
    deadly(monkeypatch, 40)
    lives(db, {P0: packed(60, codec)})
    assert counts(db) == {P0: (60, 59, 1, 0)}
    assert [d.offset for d in letters(db)] == [40]


def test_batch_that_kills_whoever_unpacks_it_is_set_aside_unopened(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fatal(self: Chunk) -> Any:
        if not isinstance(self.batches, RecordSet):
            raise Death
        return read(self)

    read = Chunk.read
    monkeypatch.setattr(Chunk, "read", fatal)
    assert lives(db, {P0: packed(2), P1: rows(0, 5)}) <= 9
    assert counts(db) == {P0: (2, 0, 2, 0), P1: (5, 5, 0, 0)}
    assert [(d.offset, d.value) for d in letters(db)] == [(0, b""), (1, b"")]


def test_several_that_kill_are_each_set_aside(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redistill.streams.engine.intake.PIECE_RECORDS", 10)
    monkeypatch.setattr("redistill.streams.engine.caution.PIECE_RECORDS", 10)
    deadly(monkeypatch, 0, 1, 25, 70)
    lives(db, {P0: rows(0, 80), P1: rows(0, 80)})  # in both partitions
    assert counts(db) == {P0: (80, 76, 4, 0), P1: (80, 76, 4, 0)}
    assert sorted((d.partition, d.offset) for d in letters(db)) == [
        (p, at) for p in (0, 1) for at in (0, 1, 25, 70)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_kills_from_outside_at_any_moment_lose_and_double_nothing(db: Database, seed: int) -> None:
    rng = random.Random(seed)
    log = {P0: rows(0, 60), P1: packed(60), L0: chunk([record(label(i), i) for i in range(20)])}
    # who gets past one record stores it; a process that cannot do as much is killed by it
    tries: list[int] = []
    for writes in (1, 1, *rng.choices(range(2, 20), k=8)):
        live(db, log, writes)
        tries += [r.tries for r in offsets(db).values()]
    assert max(tries) > 2  # it has come to single records
    assert live(db, log)
    assert counts(db) == {P0: (60, 60, 0, 0), P1: (60, 60, 0, 0), L0: (20, 20, 0, 0)}
    assert letters(db) == []
    with db.read() as conn:
        assert conn.execute(sa.select(sa.func.sum(t.input_states.c.rows))).scalar() == 120


def test_partition_that_held_nothing_when_its_worker_died_is_read_as_ever(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert live(db, {P1: rows(0, 5)})
    deadly(monkeypatch, 0)
    log = {P0: rows(0, 1), P1: rows(0, 5)}  # the second has nothing new
    lives(db, log)
    assert (offsets(db)[P1].tries, offsets(db)[P1].alone) == (0, None)


@pytest.mark.parametrize("records", [1, 3], ids=lambda n: f"chunks-of-{n}")
def test_after_a_death_small_chunks_of_all_partitions_go_into_one_piece(
    db: Database, records: int
) -> None:
    """The broker hands over what came since the last fetch: a few records, over and over."""
    log = {P0: rows(0, 1), P1: rows(0, 1)}
    process = Process(db, log)
    worker = process.worker
    chunks = [(P0, P1)[i % 2] for i in range(40)]
    ends: Counter[TP] = Counter()
    queued = []
    for tp in chunks:
        queued.append(QueuedChunk(tp, rows(ends[tp], ends[tp] + records), 0))
        ends[tp] += records

    async def take() -> list[QueuedChunk]:
        await worker.start_offsets(log)
        for partition in worker._partitions.values():
            worker._intake.tries.begin(partition, 0, StoredOffset(0, tries=1))
        worker._intake.left.extend(item._replace(epoch=worker.epoch) for item in queued)
        await worker._close()
        for _ in range(3):  # SQL is told, then all is taken
            if worker._flushing is not None:
                await worker._flushing
            await worker._take()
        return list(worker._intake.left)

    try:
        assert asyncio.run(take()) == []
        assert worker._accumulator.rows == 40 * records
        assert not worker._intake.alone, "nothing has to be stored at once"
    finally:
        process.close()


def test_after_a_death_no_more_than_a_piece_is_in_hand(db: Database) -> None:
    log = {P0: rows(0, 1_300), P1: rows(0, 20)}
    process = Process(db, log)
    worker, in_hand = process.worker, list[int]()

    async def take() -> None:
        await worker.start_offsets(log)
        for partition in worker._partitions.values():
            worker._intake.tries.begin(partition, 0, StoredOffset(0, tries=1))
        for tp, some in log.items():
            worker._intake.left.append(QueuedChunk(tp, some, worker.epoch))
        while worker._intake.left:
            await worker._take()
            if worker._flushing is not None:
                await worker._flushing
            in_hand.append(worker._accumulator.rows)
            if worker._intake.alone:
                await worker._close()
                await worker._take()  # while SQL is being told
                in_hand.append(worker._accumulator.rows)
                if worker._flushing is not None:
                    await worker._flushing

    try:
        asyncio.run(take())
        assert max(in_hand) == 500 + 20
        assert worker._accumulator.rows + sum(p.counted for p in offsets(db).values()) == 1_320
    finally:
        process.close()


def test_end_in_order_is_no_death(db: Database) -> None:
    for end in (5, 9, 9, 12):
        assert live(db, {P0: rows(0, end)})
        assert offsets(db)[P0].tries == 0


def test_partition_that_is_given_away_is_no_death(db: Database) -> None:
    process = Process(db, {P0: rows(0, 5)})

    async def story() -> None:
        await process.perform_seek()
        work = asyncio.create_task(process.worker.run())
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not process.done():
                await asyncio.sleep(0.001)
        assert offsets(db)[P0].tries == 1
        await process.worker.revoked()
        assert offsets(db)[P0].tries == 0
        await process.worker.stop(PATIENCE_SECONDS)
        await work

    asyncio.run(story())
    process.close()


def test_database_that_is_away_is_no_death(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flusher, "FIRST_DELAY", 0.001)
    for _ in range(2):
        live(db, {P0: rows(0, 40)}, writes=1)
    fails = itertools.cycle([True, True, False])
    for name in ("flush", "mark"):
        real = getattr(flusher, name)

        def often_away(*args: Any, real: Any = real, **kwargs: Any) -> Any:
            if next(fails):
                raise StoreUnavailable("away")
            return real(*args, **kwargs)

        monkeypatch.setattr(flusher, name, often_away)
    assert live(db, {P0: rows(0, 40)})
    assert counts(db)[P0] == (40, 40, 0, 0)
    assert offsets(db)[P0].tries == 2  # as it was
    assert letters(db) == []


def test_what_was_taken_by_halves_is_not_stored(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TAKEN_RECORDS", 10)
    deadly(monkeypatch, 25)
    process = Process(db, {P0: rows(0, 30)})

    async def story() -> None:
        await process.perform_seek()
        with pytest.raises(Death):
            await process.worker.run()
        await process.worker.stop(PATIENCE_SECONDS)  # as after any crash of the loop

    asyncio.run(story())
    process.close()
    assert counts(db) == {P0: (0, 0, 0, 0)}
    assert offsets(db)[P0].tries == 1
    with db.read() as conn:
        assert conn.execute(sa.select(sa.func.count()).select_from(t.input_states)).scalar() == 0

"""What the bulk consumer decides by itself: what is queued, what may be committed, what is read
again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from stream_rows import chunk, prediction, record

from redistill.streams.engine import consumer as module
from redistill.streams.engine.consumer import (
    QUEUED_CHUNKS,
    BulkConsumer,
    BulkThread,
    QueuedChunk,
)
from redistill.streams.engine.fetched import Chunk
from redistill.streams.engine.lag import LogEnd

HERE, OTHER = TP("predictions", 0), TP("elsewhere", 0)


class Host:
    """The worker's side."""

    def __init__(self) -> None:
        self.topics = frozenset({"predictions"})
        self.epoch = 1
        self.queue: asyncio.Queue[QueuedChunk] = asyncio.Queue(QUEUED_CHUNKS)
        self.asked: list[set[TP]] = []
        self.starts: dict[TP, int] = {}

    async def start_offsets(self, tps: Iterable[TP]) -> Mapping[TP, int]:
        self.asked.append(set(tps))
        return self.starts

    async def revoked(self) -> None:
        """Nothing to let go."""

    def joined(self) -> None:
        """Fine."""


class Thread:
    """Faust's thread around aiokafka."""

    def __init__(self) -> None:
        self.sought: list[Mapping[TP, int]] = []

    async def seek_wait(self, offsets: Mapping[TP, int]) -> None:
        self.sought.append(offsets)


class Bare(BulkConsumer):
    """The consumer without Faust's start: only what these methods look at."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._done = {}
        self._read_offset = dict.fromkeys((HERE, OTHER))
        self._acked: dict[TP, list[int]] = {HERE: []}
        self._thread = Thread()
        self._stopped = asyncio.Event()
        self.flow_active = True
        self.last_fetch = 0.0
        self.sought_again = 0

    def assignment(self) -> set[TP]:
        return {HERE}

    async def perform_seek(self) -> None:
        self.sought_again += 1


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def consumer(host: Host) -> Bare:
    return Bare(host)


def rows(first: int, end: int) -> Chunk:
    return chunk([record(prediction(i), i) for i in range(first, end)])


def deliver(consumer: Bare, *fetched: Chunk, epoch: int = 1) -> bool:
    return asyncio.run(consumer._deliver(HERE, list(fetched), epoch))


def queued(host: Host) -> list[tuple[int, int]]:
    out = []
    while not host.queue.empty():
        item = host.queue.get_nowait()
        assert (item.tp, item.epoch) == (HERE, 1)
        out.append((item.chunk.first, item.chunk.end))
    return out


def test_chunks_are_queued_as_they_came(consumer: Bare, host: Host) -> None:
    assert deliver(consumer, rows(0, 3), rows(3, 5))
    assert queued(host) == [(0, 3), (3, 5)]
    assert consumer._read_offset[HERE] == 5


def test_what_was_delivered_before_is_left_out(consumer: Bare, host: Host) -> None:
    consumer._read_offset[HERE] = 4
    assert deliver(consumer, rows(0, 4), rows(2, 6))
    assert queued(host) == [(4, 6)]


def test_chunks_that_are_wanted_no_more_are_read_again(consumer: Bare, host: Host) -> None:
    assert not deliver(consumer, rows(0, 3), epoch=0)
    assert (queued(host), consumer.sought_again) == ([], 1)
    consumer.flow_active = False  # a rebalance began
    assert not deliver(consumer, rows(0, 3))
    assert (queued(host), consumer.sought_again) == ([], 2)


def test_seek_that_fails_is_tried_by_the_next_assignment(
    consumer: Bare, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails() -> None:
        raise RuntimeError("rebalancing")

    monkeypatch.setattr(consumer, "perform_seek", fails)
    assert not deliver(consumer, rows(0, 3), epoch=0)


def test_full_queue_is_waited_for_and_the_fetcher_seen_alive(consumer: Bare, host: Host) -> None:
    async def story() -> None:
        for i in range(QUEUED_CHUNKS):
            await consumer._deliver(HERE, [rows(i, i + 1)], 1)
        waiting = asyncio.create_task(consumer._deliver(HERE, [rows(16, 17)], 1))
        while consumer.last_fetch == 0.0:
            await asyncio.sleep(0)
        assert not waiting.done()
        host.queue.get_nowait()
        assert await waiting

    asyncio.run(story())
    assert [first for first, _ in queued(host)] == list(range(1, 17))


def test_wait_for_a_full_queue_ends_with_the_epoch(consumer: Bare, host: Host) -> None:
    async def story() -> None:
        for i in range(QUEUED_CHUNKS):
            await consumer._deliver(HERE, [rows(i, i + 1)], 1)
        waiting = asyncio.create_task(consumer._deliver(HERE, [rows(16, 17)], 1))
        await asyncio.sleep(0)
        host.epoch = 2
        await waiting

    asyncio.run(story())
    assert len(queued(host)) == QUEUED_CHUNKS


def test_only_what_sql_has_may_be_committed(consumer: Bare) -> None:
    assert consumer._new_offset(HERE) is None
    consumer.stored(HERE, 7)
    assert consumer._new_offset(HERE) == 7
    consumer.stored(TP("predictions", 9), 7)
    assert consumer._new_offset(TP("predictions", 9)) is None


def test_faust_looks_for_no_streams_that_stand_still(
    consumer: Bare, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[TP] = []  # this is what writes the error
    monkeypatch.setattr(driver.Consumer, "verify_event_path", lambda *args: asked.append(args[-1]))
    asyncio.run(consumer.verify_all_partitions_active())
    assert asked == []


def test_reading_begins_where_the_host_says(consumer: Bare, host: Host) -> None:
    host.starts = {HERE: 12}
    assert asyncio.run(consumer.seek_to_committed()) == {HERE: 12}
    assert host.asked == [{HERE}]
    assert consumer._thread.sought == [{HERE: 12}]
    host.starts = {}
    asyncio.run(consumer.seek_to_committed())
    assert len(consumer._thread.sought) == 1, "nowhere to begin: the loop asks again"


# --- where logs end -----------------------------------------------------------------------------


class Reader:
    """aiokafka's consumer: a transaction is open on one partition, and one is being taken away."""

    async def end_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        return dict.fromkeys(tps, 7)

    def assignment(self) -> set[TP]:
        return {HERE, TP("predictions", 1), TP("predictions", 2)}

    def highwater(self, tp: TP) -> int | None:
        return {0: 12, 1: 5, 2: None}[tp.partition]


def test_ends_are_of_what_is_committed_and_of_what_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    thread = BulkThread.__new__(BulkThread)
    monkeypatch.setattr(thread, "_ensure_consumer", Reader)
    ends = asyncio.run(thread._ends([*(TP("predictions", i) for i in range(3)), OTHER]))
    assert ends == {
        HERE: LogEnd(7, 12),
        TP("predictions", 1): LogEnd(7, 7),  # the last fetch was before
        TP("predictions", 2): LogEnd(7, 7),  # nothing was fetched yet
    }


# --- commits ------------------------------------------------------------------------------------


class Commits(BulkThread):
    """The thread without its start."""

    def __init__(self) -> None:
        """Nothing of Faust."""

    def assignment(self) -> set[TP]:
        return {HERE}


@pytest.fixture
def committed(monkeypatch: pytest.MonkeyPatch) -> list[dict[TP, int]]:
    made: list[dict[TP, int]] = []

    async def commit(self: Any, offsets: dict[TP, int]) -> bool:
        made.append(offsets)
        return True

    monkeypatch.setattr(driver.AIOKafkaConsumerThread, "_commit", commit)
    return made


def test_partitions_that_are_gone_are_not_committed(committed: list[dict[TP, int]]) -> None:
    assert asyncio.run(Commits()._commit({HERE: 5, OTHER: 6})) is True
    assert asyncio.run(Commits()._commit({OTHER: 6})) is False
    assert committed == [{HERE: 5}]


def test_commit_that_takes_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(self: Any, offsets: Any) -> bool:
        await asyncio.Event().wait()
        return True

    monkeypatch.setattr(driver.AIOKafkaConsumerThread, "_commit", never)
    monkeypatch.setattr(module, "COMMIT_SECONDS", 0.01)
    assert asyncio.run(Commits()._commit({HERE: 5})) is False

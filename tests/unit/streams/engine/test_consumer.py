"""What the bulk consumer decides by itself: what is queued, what may be committed, what is read
again."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import (
    CommitFailedError,
    GroupAuthorizationFailedError,
    IllegalStateError,
    KafkaError,
    TopicAuthorizationFailedError,
)
from aiokafka.structs import TopicPartition
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
from redistill.streams.engine.fetched import Chunk, RecordBatch
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
        self._fetched = defaultdict(deque)
        self.refused = None
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


def test_log_that_ends_before_what_was_read_of_it_is_begun_anew(consumer: Bare, host: Host) -> None:
    """aiokafka goes back to the log's start by itself, and its newest records are other ones."""
    consumer._read_offset[HERE] = 4
    assert not deliver(consumer, rows(0, 3))
    assert queued(host) == []
    assert consumer.sought_again == 1


def test_oldest_record_that_is_fetched_and_not_stored_is_known(consumer: Bare) -> None:
    def made(first: int, at: int) -> Chunk:
        batch = RecordBatch(first, first + 10, 0, 10, at, at, memoryview(b""))
        return Chunk(first, first + 10, 10, 1, [batch])

    assert deliver(consumer, made(0, 1_000), made(10, 2_000))
    assert consumer.waiting_since({HERE: 0, OTHER: 0}) == {HERE: 1_000}
    assert consumer.waiting_since({HERE: 9}) == {HERE: 1_000}
    assert consumer.waiting_since({HERE: 10}) == {HERE: 2_000}
    assert consumer.waiting_since({HERE: 20}) == {}
    assert deliver(consumer, rows(20, 21))  # of a format of old, which has none
    assert consumer.waiting_since({HERE: 20}) == {}


@pytest.mark.parametrize("kind", [TopicAuthorizationFailedError, GroupAuthorizationFailedError])
def test_reading_that_is_refused_is_remembered_and_goes_on(
    consumer: Bare, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    """Faust would end with it; the permission may come back."""
    monkeypatch.setattr(module, "REFUSED_PAUSE_SECONDS", 0)
    answers: list[Any] = [kind("predictions"), {HERE: [rows(0, 2)]}]
    fetcher = SimpleNamespace(_stopped=asyncio.Event())

    async def wait(_: float) -> Any:
        answer = answers.pop(0)
        if not answers:
            fetcher._stopped.set()
        if isinstance(answer, Exception):
            raise answer
        return answer, None

    monkeypatch.setattr(consumer, "_wait_next_records", wait, raising=False)
    asyncio.run(consumer._drain_messages(fetcher))
    assert consumer.refused is not None
    assert "predictions" in str(consumer.refused[1])
    assert consumer._read_offset[HERE] == 2


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
    """The thread without its start, and an aiokafka that answers a commit in some way."""

    def __init__(self, answer: Exception | None = None, *, late: bool = False) -> None:
        self.answer, self.late = answer, late
        self.made: list[dict[Any, int]] = []

    def assignment(self) -> set[TP]:
        return {HERE}

    def _ensure_consumer(self) -> Any:
        return SimpleNamespace(commit=self._answer)

    async def _answer(self, offsets: dict[Any, Any]) -> None:
        assert {type(tp) for tp in offsets} == {TopicPartition}, "aiokafka takes no other"
        self.made.append({tp: at.offset for tp, at in offsets.items()})
        if self.late:
            await asyncio.Event().wait()
        if self.answer is not None:
            raise self.answer


def test_partitions_that_are_gone_are_not_committed() -> None:
    commits = Commits()
    assert asyncio.run(commits._commit({HERE: 5, OTHER: 6})) is True
    assert asyncio.run(commits._commit({OTHER: 6})) is False
    assert commits.made == [{HERE: 5}]


def test_commit_that_takes_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMIT_SECONDS", 0.01)
    assert asyncio.run(Commits(late=True)._commit({HERE: 5})) is False


@pytest.mark.parametrize(
    "error",
    [
        TopicAuthorizationFailedError("predictions"),
        CommitFailedError("already rebalanced"),
        IllegalStateError("not assigned"),
    ],
)
def test_commit_that_fails_ends_nothing(error: Exception) -> None:
    assert asyncio.run(Commits(error)._commit({HERE: 5})) is False


# --- errors that aiokafka keeps ------------------------------------------------------------------


class Coordinator:
    """aiokafka's: it waits until its error was consumed."""

    def __init__(self) -> None:
        self._pending_exception: Exception | None = KafkaError("group")
        self._coordination_task: Any = None
        self.rejoins = 0

    def check_errors(self) -> None:
        error, self._pending_exception = self._pending_exception, None
        if error is not None:
            raise error

    def request_rejoin(self) -> None:
        self.rejoins += 1


def test_error_that_aiokafka_keeps_is_seen_and_can_be_forgotten() -> None:
    coordinator = Coordinator()
    thread = BulkThread.__new__(BulkThread)
    thread._consumer = SimpleNamespace(_coordinator=coordinator)
    assert "group" in str(thread.pending_error())
    asyncio.run(thread._try_again())
    assert (thread.pending_error(), coordinator.rejoins) == (None, 1)
    asyncio.run(thread._try_again())
    assert coordinator.rejoins == 1


def test_task_of_aiokafka_that_ended_is_an_error_that_stays() -> None:
    async def ends() -> None:
        raise ValueError("a defect")

    async def story() -> Any:
        coordinator = Coordinator()
        coordinator._coordination_task = asyncio.create_task(ends())
        thread = BulkThread.__new__(BulkThread)
        thread._consumer = SimpleNamespace(_coordinator=coordinator)
        await asyncio.wait({coordinator._coordination_task})
        return thread.pending_error()

    assert "a defect" in str(asyncio.run(story()))


def test_logs_are_asked_where_they_begin_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def begin(tps: list[TP]) -> dict[TP, int]:
        return dict.fromkeys(tps, 3)

    thread = BulkThread.__new__(BulkThread)
    reader = Reader()
    reader.beginning_offsets = begin  # type: ignore[attr-defined]
    monkeypatch.setattr(thread, "_ensure_consumer", lambda: reader)
    assert asyncio.run(thread._bounds([HERE])) == {HERE: (3, 7)}

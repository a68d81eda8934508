"""Bulk consumer: Faust keeps membership, assignment, rebalance and commits; records reach us as
whole batches, and committed ones only.

Faust's own path costs 70 us a message and commits past gaps. Here the batches of a partition go
into a bounded queue as they came, reading starts at the offset that SQL knows, and what is
committed is what our flush has stored. It overrides private methods of ``faust.transport`` (pinned
exactly; a contract test names them).
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, cast

import structlog
from aiokafka import client as aiokafka_client
from aiokafka.conn import create_conn
from aiokafka.consumer import fetcher as aiokafka_fetcher
from aiokafka.errors import (
    CommitFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
)
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from redistill.streams.engine.fetched import Chunk, RawRecords, RawSet
from redistill.streams.engine.lag import LogEnd
from redistill.streams.engine.reconnects import patiently

__all__ = [
    "HOST",
    "POLL_CHUNKS",
    "QUEUED_CHUNKS",
    "BulkConsumer",
    "BulkThread",
    "BulkTransport",
    "Host",
    "QueuedChunk",
]

log = structlog.get_logger(__name__)

HOST = "bulk_host"
ISOLATION = "read_committed"
QUEUED_CHUNKS = 16
"""Some 16 MB, whatever the lag."""
POLL_CHUNKS = 8
COMMIT_SECONDS = ENDS_SECONDS = 5.0
"""aiokafka tries for ever to commit what the broker does not know any more, and Faust's thread has
two hands: nothing else would be done. The next commit says it all again. Neither is a broker
waited for that accepts the question where logs begin and end, and does not answer."""
REFUSED_PAUSE_SECONDS = 1.0
NOT_AUTHORIZED = (TopicAuthorizationFailedError, GroupAuthorizationFailedError)


class QueuedChunk(NamedTuple):
    """A part of what one fetch brought for one partition."""

    tp: TP
    chunk: Chunk
    epoch: int
    """Of the host when it was queued: chunks from before a seek are recognised and dropped."""


class Host(Protocol):
    """What the consumer asks of the worker that owns the state. All of it runs in Faust's event
    loop.
    """

    topics: Collection[str]
    epoch: int
    queue: asyncio.Queue[QueuedChunk]

    async def start_offsets(self, tps: Iterable[TP]) -> Mapping[TP, int]:
        """Partitions were assigned, or have to be read again: where to begin."""

    async def revoked(self) -> None:
        """Partitions are being taken away: store what can be stored."""

    def joined(self) -> None:
        """An assignment was received, perhaps an empty one."""


class BulkThread(driver.AIOKafkaConsumerThread):
    """Faust's thread around aiokafka, which reads what is committed, and which a commit that comes
    too late does not end.
    """

    def _create_worker_consumer(self, transport: Any) -> Any:
        # Faust would set it inside transactions of its own only.
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = ISOLATION
        return consumer

    async def ends(self, partitions: Iterable[TP]) -> dict[TP, LogEnd]:
        """Where the logs end, of the partitions that are assigned."""
        return cast(dict[TP, LogEnd], await self.call_thread(self._ends, partitions))

    async def _ends(self, partitions: Iterable[TP]) -> dict[TP, LogEnd]:
        consumer = self._ensure_consumer()
        async with asyncio.timeout(ENDS_SECONDS):
            stable = await consumer.end_offsets(partitions)  # of committed records, as it reads
        mine = consumer.assignment()
        # as the last fetch said, which may have been before
        last = {tp: consumer.highwater(tp) or 0 for tp in stable if tp in mine}
        return {tp: LogEnd(stable[tp], max(stable[tp], end)) for tp, end in last.items()}

    async def bounds(self, partitions: Iterable[TP]) -> dict[TP, tuple[int, int]]:
        """Where the logs begin, and where what is committed ends."""
        return cast(
            dict[TP, tuple[int, int]], await self.call_thread(self._bounds, list(partitions))
        )

    async def _bounds(self, partitions: list[TP]) -> dict[TP, tuple[int, int]]:
        consumer = self._ensure_consumer()
        async with asyncio.timeout(ENDS_SECONDS):
            begins = await consumer.beginning_offsets(partitions)
            ends = await consumer.end_offsets(partitions)
        return {tp: (int(begins[tp]), int(ends[tp])) for tp in partitions}

    def pending_error(self) -> Exception | None:
        """An error that aiokafka keeps to itself: a group that may not be used, or a task of its
        own that ended.
        """
        coordinator = getattr(self._consumer, "_coordinator", None)
        task = getattr(coordinator, "_coordination_task", None)
        if task is not None and task.done() and not task.cancelled():
            return cast(Exception | None, task.exception())
        return cast(Exception | None, getattr(coordinator, "_pending_exception", None))

    async def try_again(self) -> None:
        """Forget the pending error, and join the group anew: aiokafka waits for that."""
        await self.call_thread(self._try_again)

    async def _try_again(self) -> None:
        coordinator = self._ensure_consumer()._coordinator
        try:
            coordinator.check_errors()
        except KafkaError:
            coordinator.request_rejoin()

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        # Faust's own would end the worker with whatever goes wrong. SQL knows how far we are, and
        # the next commit says it all again. Partitions may be gone by the time this thread is
        # asked, as when a topic is deleted; aiokafka would call that an error.
        mine = {tp: offset for tp, offset in offsets.items() if tp in self.assignment()}
        if not mine:
            return False
        committed = {
            TopicPartition(tp.topic, tp.partition): OffsetAndMetadata(offset, "")
            for tp, offset in mine.items()
        }
        try:
            async with asyncio.timeout(COMMIT_SECONDS):
                await self._ensure_consumer().commit(committed)
        except TimeoutError:
            log.info("commit_late", action="commit_late", partitions=len(mine))
        except CommitFailedError:
            log.debug("commit_after_rebalance", action="commit_after_rebalance")
        except KafkaError as error:
            log.warning("commit_failed", action="commit_failed", error=repr(error))
        else:
            return True
        return False


class BulkConsumer(driver.Consumer):
    """Faust's aiokafka consumer with bulk delivery. The app's attribute ``HOST`` is its host."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._host: Host = getattr(self.app, HOST)
        self._done: dict[TP, int] = {}
        self._fetched: defaultdict[TP, deque[tuple[int, int]]] = defaultdict(deque)
        self.last_fetch = 0.0
        """Loop time at which the fetcher was last seen alive."""
        self.refused: tuple[float, Exception] | None = None
        """When reading was last refused (monotonic seconds), and how."""

    def _new_consumer_thread(self) -> BulkThread:
        return BulkThread(self, loop=self.loop, beacon=self.beacon)

    # --- what is committed -------------------------------------------------------------------

    def stored(self, tp: TP, next_offset: int) -> None:
        """Everything below ``next_offset`` is in SQL: it may be committed."""
        if tp in self.assignment():
            self._done[tp] = next_offset
            self._acked[
                tp
            ]  # Faust asks for the new offset of the partitions in this defaultdict only

    def _new_offset(self, tp: TP) -> int | None:
        if tp.topic in self._host.topics:
            return self._done.get(tp)
        return super()._new_offset(tp)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Store and commit before Faust forgets what was acknowledged."""
        limit = self.app.conf.broker_session_timeout * 0.5
        try:
            async with asyncio.timeout(limit):
                await self._host.revoked()
                offsets = {
                    tp: self._done[tp]
                    for tp in revoked
                    if tp in self._done and self._should_commit(tp, self._done[tp])
                }
                if offsets:
                    await self._commit(offsets)
        except Exception as error:
            # SQL knows how far we are; Kafka's committed offsets only serve tools that show lag.
            log.warning(
                "commit_on_revoke_failed", action="commit_on_revoke_failed", error=repr(error)
            )
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self._done.pop(tp, None)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """The group was joined."""
        await super().on_partitions_assigned(assigned, generation_id)
        self._host.joined()

    async def verify_all_partitions_active(self) -> None:
        """Faust looks for streams that stand still, and calls it an error: nothing of ours ever
        comes to a stream. The watchdog looks at what is fetched and stored.
        """

    # --- what is wrong ------------------------------------------------------------------------

    def pending_error(self) -> Exception | None:
        """An error that aiokafka keeps to itself."""
        return cast(BulkThread, self._thread).pending_error()

    async def try_again(self) -> None:
        """Forget it, and join the group anew."""
        await cast(BulkThread, self._thread).try_again()

    # --- where logs begin and end -------------------------------------------------------------

    async def ends(self, *partitions: TP) -> Mapping[TP, LogEnd]:
        """Where the logs end, of the partitions that are assigned."""
        return await cast(BulkThread, self._thread).ends(partitions)

    def waiting_since(self, stored: Mapping[TP, int]) -> dict[TP, int]:
        """Timestamp (ms since 1970) of the oldest record that was fetched and is not in SQL, of the
        partitions that have one.

        Parameters
        ----------
        stored
            SQL's next offsets.
        """
        out: dict[TP, int] = {}
        for tp, following in stored.items():
            chunks = self._fetched[tp]
            while chunks and chunks[0][0] <= following:
                chunks.popleft()
            if chunks and chunks[0][1] > 0:
                out[tp] = chunks[0][1]
        return out

    async def bounds(self, *partitions: TP) -> Mapping[TP, tuple[int, int]]:
        """Where the logs begin, and where what is committed ends; assigned or not."""
        return await cast(BulkThread, self._thread).bounds(partitions)

    # --- where reading begins ----------------------------------------------------------------

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek to what SQL knows. Faust calls this after each assignment, and to read again."""
        self._fetched.clear()
        offsets = await self._host.start_offsets(self.assignment())
        if offsets:
            await self._thread.seek_wait(offsets)
        return offsets

    # --- delivery ----------------------------------------------------------------------------

    async def _drain_messages(self, fetcher: Any) -> None:
        stopped, fetcher_stopped = self._stopped.is_set, fetcher._stopped.is_set
        clock = asyncio.get_running_loop().time
        try:
            while not (stopped() or fetcher_stopped()):
                await asyncio.sleep(0)
                # The epoch is read after the fetch: it may have waited through a rebalance, and
                # then its records are the new assignment's.
                try:
                    lists, _ = await self._wait_next_records(1.0)
                except NOT_AUTHORIZED as error:
                    # Faust would end with it; a permission may come back.
                    self.refused = time.monotonic(), error
                    await asyncio.sleep(REFUSED_PAUSE_SECONDS)
                    lists = {}
                epoch = self._host.epoch
                self.last_fetch = clock()
                for tp, fetched in (lists or {}).items():
                    if not await self._deliver(tp, list(fetched), epoch):
                        break
        except self.consumer_stopped_errors:
            if self.transport.app.should_stop:
                return
            raise

    async def _deliver(self, tp: TP, fetched: list[Chunk], epoch: int) -> bool:
        """Queue what came of one partition; ``False``: it is no longer wanted."""
        for chunk in fetched:
            if not self._deliverable(epoch):
                # These records have left aiokafka's buffer: without a seek they would be a gap.
                await self._read_again()
                return False
            begin = self._read_offset[tp]
            if begin is not None and chunk.first < begin:
                # aiokafka went back: the log ends before what was read of it. Where to go on is
                # found out anew.
                log.info(
                    "went_back",
                    action="went_back",
                    topic=tp.topic,
                    partition=tp.partition,
                    expected=begin,
                    first=chunk.first,
                )
                await self._read_again()
                return False
            if chunk.first >= chunk.end:
                continue
            self._read_offset[tp] = chunk.end  # before the put: a rebalance may end the wait
            self._fetched[tp].append((chunk.end, chunk.timestamp))
            await self._put(QueuedChunk(tp, chunk, epoch))
        return True

    async def _put(self, item: QueuedChunk) -> None:
        while self._deliverable(item.epoch) and not self._stopped.is_set():
            try:
                self._host.queue.put_nowait(item)
                return
            except asyncio.QueueFull:
                # never wait on the queue itself: Faust cancels waits in rebalances
                self.last_fetch = asyncio.get_running_loop().time()
                await asyncio.sleep(0.01)

    def _deliverable(self, epoch: int) -> bool:
        """Whether what was fetched in that epoch is still wanted."""
        return self.flow_active and self._host.epoch == epoch

    async def _read_again(self) -> None:
        try:
            await self.perform_seek()
        except Exception as error:  # aiokafka's; what reads next finds out anew
            log.warning("seek_failed", action="seek_failed", error=repr(error))


class BulkTransport(driver.Transport):
    """Faust's transport with the bulk consumer."""

    Consumer = BulkConsumer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # of this process: one consumer, ours
        aiokafka_fetcher.MemoryRecords = RawSet
        aiokafka_fetcher.PartitionRecords = RawRecords
        aiokafka_client.create_conn = patiently(create_conn)

"""Main loop of the stream worker: chunks from the bulk consumer to the accumulator, batches from
there to SQL, offsets back to Kafka.

Three threads: Faust's event loop (this module), one that owns the accumulator, one that flushes.
While a batch is being flushed the accumulator goes on with the next one, until that one is full.
What goes wrong is not repaired: everything that SQL does not know is forgotten and read again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeVar

import structlog
from aiokafka.errors import IllegalStateError, KafkaError
from faust.types import TP

from redistill.streams.engine import counted
from redistill.streams.engine.accumulator import Accumulator
from redistill.streams.engine.broker_watch import BrokerWatch
from redistill.streams.engine.consumer import QUEUED_CHUNKS, BulkConsumer, QueuedChunk
from redistill.streams.engine.flusher import FIRST_DELAY, LONGEST_DELAY, Flusher
from redistill.streams.engine.gaps import GapTracker
from redistill.streams.engine.health import Health
from redistill.streams.engine.intake import Intake
from redistill.streams.engine.lag import LogEnd
from redistill.streams.engine.metrics import StreamMetrics
from redistill.streams.engine.start import topic_ids
from redistill.streams.errors import BrokerRefused, BrokerUnavailable, StoreUnavailable
from redistill.streams.kafka.broker import Broker
from redistill.streams.store.batch import FlushBatch, Flushed, Gap, Partition
from redistill.streams.store.database import Database
from redistill.streams.store.replaced_topics import close_replaced
from redistill.streams.store.tries import Mark, StoredOffset, stored_offsets
from redistill.times import to_us

__all__ = ["StreamWorker"]

log = structlog.get_logger(__name__)

T = TypeVar("T")

TAKEN_CHUNKS = 4
"""Chunks that the accumulator's thread is handed at once."""
SETTLE_SECONDS = 5.0
"""How long what was taken may keep a new start waiting; a flush takes a tenth of a second."""


class StreamWorker:
    """Host of the bulk consumer.

    Parameters
    ----------
    topics
        Those that are read; more may come.
    flush_seconds
        Longest time between two flushes.
    wake
        Called after each flush: there may be labels to join and findings to announce.
    """

    def __init__(
        self,
        *,
        database: Database,
        broker: Broker,
        accumulator: Accumulator,
        topics: Collection[str],
        flush_seconds: float,
        health: Health,
        metrics: StreamMetrics,
        watch: BrokerWatch,
        wake: Callable[[], None],
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.topics = topics
        self.epoch = 0
        self.queue: asyncio.Queue[QueuedChunk] = asyncio.Queue(QUEUED_CHUNKS)
        self.consumer: BulkConsumer | None = None
        self._database = database
        self._broker = broker
        self._accumulator = accumulator
        self._flush_seconds = flush_seconds
        self._health = health
        self._metrics = metrics
        self._watch = watch
        self._clock = clock or database.clock.seconds
        self._wake = wake
        self._compute = ThreadPoolExecutor(1, "accumulator")
        self._flusher = Flusher(database, health=health, metrics=metrics, clock=clock)
        self._lock = asyncio.Lock()
        self._partitions: dict[TP, Partition] = {}
        self._stored: dict[Partition, int] = {}
        self._ends: dict[Partition, int] = {}
        self._ids: dict[str, str] = {}
        self._gaps = GapTracker(accumulator, metrics)
        self._intake = Intake(accumulator, self._gaps, self._on_accumulator)
        self._flushing: asyncio.Task[None] | None = None
        self._void = False
        self._refresh_due = False
        self._stopping = False

    # --- what the consumer asks --------------------------------------------------------------

    async def start_offsets(self, tps: Iterable[TP]) -> Mapping[TP, int]:
        """Forget everything that is not in SQL, and begin where SQL ends.

        It does not wait for SQL: Faust gives up on a start that takes too long, and never reads
        again. Where SQL is away nothing begins, and the main loop asks again.
        """
        wanted = sorted(tp for tp in tps if tp.topic in self.topics)
        self._new_epoch()
        async with self._lock:
            await self._let_go()
            self._partitions.clear()
            self._void = self._intake.alone = False
            self._health.void = self._health.store_away = self._health.assigned = False
            if not wanted:
                return {}
            try:
                ids = await asyncio.to_thread(topic_ids, self._broker, tuple(self.topics))
                partitions = {
                    tp: Partition(ids[tp.topic], tp.partition) for tp in wanted if tp.topic in ids
                }
                lost = await asyncio.to_thread(self._close_replaced, ids)
                stored = await asyncio.to_thread(self._read_progress, partitions.values())
                bounds = await self._consumer().bounds(*partitions)
            except (StoreUnavailable, BrokerUnavailable, BrokerRefused) as error:
                return self._not_begun(error)
            except (KafkaError, TimeoutError) as error:
                return self._not_begun(BrokerUnavailable(f"where logs begin: {error!r}"))
            if self._gaps.doubtful(bounds, partitions, stored):
                self._void = self._health.void = True
                return {}
            self._watch.well("begin")
            self._gaps.stored(lost)
            self._ids, self._stored = ids, {}
            self._ends = {partition: bounds[tp][1] for tp, partition in partitions.items()}
            starts: dict[TP, int] = {}
            for tp, partition in partitions.items():
                known = stored.get(partition)
                next_offset = None if known is None else known.next_offset
                begin = partial(self._gaps.begin, tp, partition, next_offset, *bounds[tp])
                starts[tp] = await self._on_accumulator(begin)
                self._intake.tries.begin(partition, starts[tp], known)
                self._stored[partition] = starts[tp] if next_offset is None else next_offset
            self._partitions = partitions
            self._intake.in_hand = True  # rows of new partitions, and gaps
            log.info(
                "assigned",
                action="assigned",
                partitions=[f"{tp.topic}/{tp.partition}@{o}" for tp, o in starts.items()],
            )
        self._health.assigned = bool(partitions)
        self._health.fetched_at = time.monotonic()
        self._metrics.partitions.set(len(partitions))
        return starts

    def _not_begun(
        self, error: StoreUnavailable | BrokerUnavailable | BrokerRefused
    ) -> dict[TP, int]:
        if isinstance(error, StoreUnavailable):
            self._flusher.away()
        else:
            self._watch.trouble("begin", error)
        self._void = self._health.void = True
        return {}

    async def revoked(self) -> None:
        """Store what was taken, then let go."""
        self._health.joined = self._health.assigned = False
        self._new_epoch()
        async with self._lock:
            try:
                await self._let_go()
            finally:
                self._partitions.clear()
                self._metrics.partitions.set(0)

    def joined(self) -> None:
        """An assignment was received, perhaps an empty one."""
        self._health.joined = True

    # --- the loop ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Until :meth:`stop`."""
        loop = asyncio.get_running_loop()
        next_flush = next_tick = loop.time()
        pause = FIRST_DELAY
        while not self._stopping:
            self._health.turned_at = time.monotonic()
            if self.consumer is not None:
                self._health.fetched_at = time.monotonic() - loop.time() + self.consumer.last_fetch
            try:
                if self._void and self._database.availability.refuses(writing=False):
                    await asyncio.sleep(FIRST_DELAY)  # another one's turn to ask
                    continue
                if self._void and not await self._read_again():
                    await asyncio.sleep(pause)
                    pause = min(LONGEST_DELAY, pause * 2)
                    continue
                pause = FIRST_DELAY
                if self._flushing is not None and self._busy():
                    if self._accumulator.full or self._intake.alone:
                        await asyncio.wait({self._flushing}, timeout=0.5)
                        continue
                else:
                    self._intake.alone = False
                if not self._intake.left:
                    wait = max(0.01, min(next_flush - loop.time(), 0.5))
                    self._intake.left.extend(await self._gather(wait))
                async with self._lock:
                    await self._take()
                    if loop.time() >= next_tick:
                        await self._on_accumulator(self._accumulator.tick)
                        next_tick = loop.time() + 1.0
                    if self._refresh_due:
                        self._refresh_due = False
                        await self._refresh()
                    due = self._accumulator.full or self._intake.alone or loop.time() >= next_flush
                    if due and not self._busy():
                        next_flush = loop.time() + self._flush_seconds
                        await self._close()
            except StoreUnavailable:
                self._flusher.away()
                self._void = True
            except (KafkaError, TimeoutError) as error:  # as when a gap is asked about
                log.info("asked_in_vain", action="asked_in_vain", error=repr(error))
                self._void = True
            except BaseException:  # what was taken by halves is not stored
                self._void = True
                raise

    def positions(self) -> dict[TP, int]:
        """SQL's next offset of each partition that is read."""
        return {tp: self._stored.get(p, 0) for tp, p in self._partitions.items()}

    def looked(self, ends: Mapping[TP, LogEnd]) -> None:
        """Where the logs of partitions end: the next flush stores it."""
        for tp, at in ends.items():
            if (partition := self._partitions.get(tp)) is not None:
                self._ends[partition] = at.end

    @property
    def topic_ids(self) -> Mapping[str, str]:
        """Ids of the topics that are read, by name."""
        return self._ids if self._partitions else {}

    def distrust(self) -> None:
        """Forget what is not in SQL, and begin anew where SQL ends."""
        self._void = True

    async def stop(self, seconds: float) -> None:
        """Take no more, store what was taken, commit; at most so long."""
        self._stopping = True
        self._new_epoch()
        try:
            async with asyncio.timeout(seconds), self._lock:
                await self._settle()
        except TimeoutError:
            log.warning(
                "stopped_unflushed", action="stopped_unflushed", rows=self._accumulator.rows
            )
        if self._flushing is not None and not self._flushing.done():
            self._flushing.cancel()

    def close(self) -> None:
        """End the threads."""
        self._compute.shutdown(wait=False, cancel_futures=True)
        self._flusher.close()

    # --- steps -------------------------------------------------------------------------------

    async def _gather(self, seconds: float) -> list[QueuedChunk]:
        """What is queued; after a while nothing."""
        try:
            async with asyncio.timeout(seconds):
                items = [await self.queue.get()]
        except TimeoutError:
            return []
        while len(items) < TAKEN_CHUNKS and not self.queue.empty():
            items.append(self.queue.get_nowait())
        return items

    async def _refresh(self) -> None:
        """Read what is watched; if that cannot be done it stays as it was until the next flush."""
        with suppress(StoreUnavailable):
            await self._on_accumulator(self._accumulator.refresh)

    def _busy(self) -> bool:
        return self._flushing is not None and not self._flushing.done()

    async def _let_go(self) -> None:
        """Store what was taken if that can be done in time, and forget the rest. Needs the lock."""
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._settle()
        except TimeoutError:
            log.info("unflushed", action="unflushed")
        finally:
            if self._flushing is not None and not self._flushing.done():
                self._flushing.cancel()  # if it is written after all, the next owner sees it moved
            self._compute.submit(self._accumulator.reset)

    async def _settle(self) -> None:
        """Wait for the flush under way, and flush the rest. Needs the lock."""
        if self._flushing is not None:
            await asyncio.wait({self._flushing})
        if self._void:
            return
        try:
            await self._close()
        except StoreUnavailable:  # Faust, which is waiting for us, would give up
            self._flusher.away()
            self._void = True
            return
        if self._flushing is not None:
            await asyncio.wait({self._flushing})
        await self._take_back()

    async def _take_back(self) -> None:
        """Nothing is in hand: an end now is no death."""
        standing = self._intake.tries.standing
        if not self._void and await self._flusher.take_back(standing):
            standing.clear()

    async def _close(self) -> None:
        """Hand what was taken to the flusher, with how the next process would go on."""
        self._intake.handed_over()
        batch = await self._on_accumulator(self._accumulator.close)
        if batch is not None:
            for partition, p in batch.progress.items():
                p.tries = self._intake.tries.after(partition, p.next_offset)
                p.log_end = self._ends.get(partition)
            self._flushing = asyncio.create_task(self._flush(batch))

    async def _take(self) -> None:
        """Take what is left, or tell SQL what is about to be taken."""
        if not self._intake.left:
            return
        marks = await self._intake.take(
            self._consumer(), self._partitions, epoch=self.epoch, busy=self._busy()
        )
        if marks:
            self._flushing = asyncio.create_task(self._mark(marks))

    async def _mark(self, marks: list[Mark]) -> None:
        if await self._flusher.mark(marks):
            self._intake.tries.marked(marks)
        else:
            self._void = True

    async def _flush(self, batch: FlushBatch) -> None:
        """Flush until it is done or void."""
        result = await self._flusher.run(batch)
        if isinstance(result, Flushed):
            self._done(batch, result)
        else:
            self._void = True

    def _done(self, batch: FlushBatch, result: Flushed) -> None:
        partitions = {partition: tp for tp, partition in self._partitions.items()}
        for partition, p in batch.progress.items():
            self._stored[partition] = p.next_offset
            if p.next_offset != p.expected:
                self._intake.tries.flushed(partition, p.next_offset)
            self._metrics.rows.labels(p.topic).inc(p.rows)
            self._metrics.records.labels(p.topic).inc(p.counted)
            self._metrics.dead.labels(p.topic).inc(p.dead)
            self._metrics.aborted.labels(p.topic).inc(p.aborted)
            if (tp := partitions.get(partition)) is not None and self.consumer is not None:
                self.consumer.stored(tp, p.next_offset)
        self._gaps.stored(batch.gaps)
        for name, n in counted.by_name(batch.counters).items():
            self._metrics.counted.labels(name).inc(n)
        self._metrics.states.set(self._accumulator.states)
        self._health.progress = sum(self._stored.values())
        self._refresh_due = True
        if result.conflicting:
            self._metrics.counted.labels("rows_conflicting").inc(result.conflicting)
            log.warning(
                "rows_conflicting", action="rows_conflicting", rows=result.conflicting
            )  # the first of them counts
        if result.findings:
            log.info("findings", action="findings", changes=result.findings)
        self._wake()

    async def _read_again(self) -> bool:
        """Begin where SQL ends; ``False``: SQL or the broker is away."""
        if not self._health.void:
            log.info("read_again", action="read_again")
        self._void = True
        try:
            await self._consumer().perform_seek()
        except IllegalStateError:  # the group moved on meanwhile: its new assignment is begun anew
            log.info("rebalanced", action="rebalanced")
        return not self._void

    def _new_epoch(self) -> None:
        self.epoch += 1
        self._intake.left.clear()
        while not self.queue.empty():
            self.queue.get_nowait()

    def _consumer(self) -> BulkConsumer:
        if self.consumer is None:
            raise RuntimeError("the consumer was not attached")
        return self.consumer

    def _read_progress(self, partitions: Iterable[Partition]) -> dict[Partition, StoredOffset]:
        with self._database.read() as conn:
            return stored_offsets(conn, partitions)

    def _close_replaced(self, ids: Mapping[str, str]) -> list[Gap]:
        return close_replaced(self._database, ids, now=to_us(self._clock()))

    async def _on_accumulator(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._compute, call)

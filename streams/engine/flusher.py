"""Flusher: the thread that writes batches to SQL, and what to do while the database is away: wait.
The database says so itself (:mod:`redistill.streams.store.availability`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import structlog

from redistill.streams.engine.health import Health
from redistill.streams.engine.metrics import StreamMetrics
from redistill.streams.errors import StoreUnavailable, StreamsError
from redistill.streams.store.batch import FlushBatch, Flushed, OffsetsMoved, Partition
from redistill.streams.store.database import Database
from redistill.streams.store.flush import flush
from redistill.streams.store.tries import Mark, mark, take_back
from redistill.times import to_us

__all__ = ["FIRST_DELAY", "LONGEST_DELAY", "Flusher"]

log = structlog.get_logger(__name__)

T = TypeVar("T")

FIRST_DELAY, LONGEST_DELAY = 0.2, 5.0
"""Seconds between two tries while something is away."""


class Flusher:
    """Flushes one batch at a time.

    Parameters
    ----------
    clock
        Seconds since 1970; ``None``: the database's.
    """

    def __init__(
        self,
        database: Database,
        *,
        health: Health,
        metrics: StreamMetrics,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._database = database
        self._health = health
        self._metrics = metrics
        self._clock = clock or database.clock.seconds
        self._thread = ThreadPoolExecutor(1, "flush")

    async def run(self, batch: FlushBatch) -> Flushed | OffsetsMoved | None:
        """Flush, however long the database is away.

        Returns
        -------
        Flushed, Moved or None
            ``None``: it failed in a way that a further try would not mend; the watchdog ends the
            process.
        """
        result = await self._write(lambda: self._flush(batch))
        if isinstance(result, OffsetsMoved):
            self._moved(result.partitions)
        return result

    async def mark(self, marks: Sequence[Mark]) -> bool:
        """Tell SQL what is about to be taken, however long the database is away; ``False``: it may
        not be taken.
        """
        moved = await self._write(lambda: mark(self._database, marks))
        if moved:
            self._moved(moved)
        return moved == []

    async def take_back(self, standing: Mapping[Partition, int]) -> bool:
        """Tell SQL once that nothing is in hand any more; ``False``: a death too many counts."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, take_back, self._database, dict(standing))
        except StreamsError as error:
            log.info("tries_stand", action="tries_stand", error=str(error))
            return False
        return True

    async def _write(self, write: Callable[[], T]) -> T | None:
        """Write in the flusher's thread, again and again while the database is away; ``None``: a
        further try would not mend it.
        """
        delay = FIRST_DELAY
        loop = asyncio.get_running_loop()
        while True:
            try:
                result = await loop.run_in_executor(self._thread, write)
            except StoreUnavailable:
                self._metrics.away.inc()
                self.away()
                await self._until_asked(delay)
                delay = min(LONGEST_DELAY, delay * 2)
                continue
            except Exception as error:  # a defect: told, and the worker ends by it
                log.exception("flush_failed", action="flush_failed")
                self._health.fatal = f"a flush failed: {type(error).__name__}: {error}"
                return None
            self._health.store_away = False
            return result

    async def _until_asked(self, delay: float) -> None:
        """Wait until it may be tried again: when the process's turn comes, or, where the database
        is there and only this transaction failed, after a pause of our own."""
        if not self._database.availability.away:
            await asyncio.sleep(delay)
        while self._database.availability.refuses(writing=True):
            await asyncio.sleep(FIRST_DELAY)

    def _moved(self, partitions: Sequence[Partition]) -> None:
        log.warning("moved", action="moved", partitions=[f"{t}/{p}" for t, p in partitions])
        self._metrics.moved.inc()

    def away(self) -> None:
        """The watchdog holds nothing against a worker without its database, which says itself that
        it is away.
        """
        self._health.store_away = True

    def close(self) -> None:
        """End the thread; a flush under way goes on to its end."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _flush(self, batch: FlushBatch) -> Flushed | OffsetsMoved:
        started = time.perf_counter()
        result = flush(self._database, batch, now=to_us(self._clock()))
        self._metrics.flushes.observe(time.perf_counter() - started)
        return result

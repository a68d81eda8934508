"""Intake: chunks from the queue into the accumulator, in the order of the log, and with the caution
that earlier deaths ask for (:mod:`redistill.streams.engine.caution`).

What is *in hand* was taken, and SQL does not know it yet: a process that dies loses it, and the
next one reads it again.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import structlog
from faust.types import TP

from redistill.streams.engine.accumulator import Accumulator
from redistill.streams.engine.caution import PIECE_RECORDS, Level, Tries
from redistill.streams.engine.consumer import BulkConsumer, QueuedChunk
from redistill.streams.engine.fetched import Chunk
from redistill.streams.engine.gaps import GapTracker
from redistill.streams.engine.pieces import cut, unopened
from redistill.streams.store.batch import Partition
from redistill.streams.store.tries import Mark

__all__ = ["Intake"]

log = structlog.get_logger(__name__)

Ready = tuple[Partition, QueuedChunk]


class Intake:
    """What is left to be taken, and how.

    Parameters
    ----------
    accumulator
        Called in its own thread only, but for positions.
    on_accumulator
        Runs a call in that thread.
    """

    def __init__(
        self,
        accumulator: Accumulator,
        gaps: GapTracker,
        on_accumulator: Callable[[Callable[[], Any]], Awaitable[Any]],
    ) -> None:
        self._accumulator = accumulator
        self._gaps = gaps
        self._on_accumulator = on_accumulator
        self.left: deque[QueuedChunk] = deque()
        self.tries = Tries()
        self.in_hand = False
        """Something was taken, or begun, of which no flush was told."""
        self.alone = False
        """Nothing more is taken until SQL knows all that is in hand."""
        self._pieces: Counter[Partition] = Counter()  # records in hand, where caution counts them

    def handed_over(self) -> None:
        """What was in hand is on its way to SQL."""
        self.in_hand = False
        self._pieces.clear()

    async def take(
        self, consumer: BulkConsumer, partitions: Mapping[TP, Partition], *, epoch: int, busy: bool
    ) -> list[Mark]:
        """Take what is left, until the batch is full, or where caution says so.

        Parameters
        ----------
        partitions
            Those that are read.
        epoch
            Chunks of another one are dropped.
        busy
            SQL is being told of something.

        Returns
        -------
        list of Mark
            What SQL has to be told first; nothing was taken then.
        """
        ready = await self._ready(consumer, partitions, epoch)
        marks = self.tries.marks((p, self._accumulator.position(p) or 0) for p, _ in ready)
        singly = bool(ready) and self._level(ready[0][0]) is Level.SINGLY
        self.alone = singly or bool(marks)
        if self.alone and (self.in_hand or busy):
            marks, rest = [], ready  # SQL is told of that first: nothing else is to be in hand
        elif marks:
            rest = ready
        elif ready:
            self.in_hand = True
            take = self._take_one if singly else partial(self._take_all, busy=busy)
            rest = await self._on_accumulator(partial(take, ready))
        else:
            rest = []
        self.left.extendleft(item for _, item in reversed(rest))
        return marks

    async def _ready(
        self, consumer: BulkConsumer, partitions: Mapping[TP, Partition], epoch: int
    ) -> list[Ready]:
        """What may be taken together; one chunk, if its records are taken singly."""
        ready: list[Ready] = []
        ahead: dict[Partition, int] = {}
        while self.left:
            item = self.left.popleft()
            partition, first = partitions.get(item.tp), item.chunk.first
            if item.epoch != epoch or partition is None:
                continue
            expected = ahead.get(partition, self._accumulator.position(partition))
            if expected is None:
                continue
            singly = self.tries.level(partition, expected) is Level.SINGLY
            if ready and (first > expected or singly):
                self.left.appendleft(item)  # first what is before the hole, or not taken singly
                break
            if first > expected:
                self.in_hand = True  # perhaps a gap
                if not await self._gaps.bridge(
                    consumer, self._on_accumulator, item.tp, partition, expected, first
                ):
                    continue
            ready.append((partition, item))
            ahead[partition] = item.chunk.end
            if singly:
                break
        return ready

    def _level(self, partition: Partition) -> Level:
        return self.tries.level(partition, self._accumulator.position(partition) or 0)

    # --- in the accumulator's thread ----------------------------------------------------------

    def _take_all(self, ready: list[Ready], *, busy: bool) -> list[Ready]:
        """Take chunks; returns what the batch has no room for, or caution leaves for the next."""
        left: list[Ready] = []
        waiting: set[Partition] = set()  # what stands behind in the log waits too
        for i, (partition, item) in enumerate(ready):
            if self._accumulator.full:
                return left + ready[i:]
            if partition in waiting:
                left.append((partition, item))
                continue
            rest = self._take_chunk(partition, item.chunk, busy=busy)
            if rest:
                waiting.add(partition)
                left += [(partition, item._replace(chunk=chunk)) for chunk in rest]
        return left

    def _take_chunk(self, partition: Partition, chunk: Chunk, *, busy: bool) -> list[Chunk]:
        """Take a chunk, as far as there is room and caution lets; returns the rest."""
        offset = self._accumulator.position(partition) or 0
        if self.tries.level(partition, offset) is Level.FREELY:
            self._accumulator.take(partition, chunk)
            return [chunk] if self._behind(partition, chunk.end) else []
        chunk = chunk._replace(first=max(offset, chunk.first))
        if chunk.first >= chunk.end:
            return []
        room = PIECE_RECORDS - self._pieces[partition]
        if busy or room <= 0:
            self.alone = True  # the piece before has to be stored first
            return [chunk]
        piece, *rest = cut(chunk, room)
        self._accumulator.take(partition, piece)
        self._pieces[partition] += piece.records
        return [piece, *rest] if self._behind(partition, piece.end) else rest

    def _take_one(self, ready: list[Ready]) -> list[Ready]:
        """Take the first record of a chunk; returns the rest."""
        ((partition, item),) = ready
        offset = self._accumulator.position(partition) or 0
        chunk = item.chunk._replace(first=max(offset, item.chunk.first))
        if chunk.first >= chunk.end:
            return []
        condemned = self.tries.condemned(partition, offset)
        if condemned is not None and self.tries.unopened(partition):
            piece, *rest = unopened(chunk)
        else:
            piece, *rest = cut(chunk, 1)
        if condemned is not None:
            log.error(
                "set_aside",
                action="set_aside",
                topic=item.tp.topic,
                partition=item.tp.partition,
                offset=offset,
                reason=condemned.reason,
            )
        self._accumulator.take(partition, piece, condemned=condemned)
        if self._behind(partition, piece.end):
            rest = [piece, *rest]
        return [(partition, item._replace(chunk=chunk)) for chunk in rest]

    def _behind(self, partition: Partition, end: int) -> bool:
        """Whether the batch had no room for all of it."""
        return (self._accumulator.position(partition) or 0) < end

"""Gaps in the log: offsets that are expected and do not come. Lost, or missed on the way?

Offsets without a record of ours (markers and records of aborted transactions, what compaction took)
are none of these: they lie within chunks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from faust.types import TP

from redistill.streams.engine.accumulator import Accumulator
from redistill.streams.engine.consumer import BulkConsumer
from redistill.streams.engine.metrics import StreamMetrics
from redistill.streams.store.batch import Partition

__all__ = ["GapTracker"]

log = structlog.get_logger(__name__)

OnAccumulator = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs a call in the thread that owns the accumulator."""


class GapTracker:
    """Tells the accumulator where each partition begins, and what is missing.

    Parameters
    ----------
    accumulator
        Called in its own thread only.
    """

    def __init__(self, accumulator: Accumulator, metrics: StreamMetrics) -> None:
        self._accumulator = accumulator
        self._metrics = metrics

    def begin(self, tp: TP, partition: Partition, stored: int | None, earliest: int) -> int:
        """Assign a partition; the offset to read from. In the accumulator's thread."""
        start = earliest if stored is None else stored
        self._accumulator.assign(partition, tp.topic, stored=stored, start=start)
        if start < earliest:
            self._lost(tp, partition, start, earliest - 1)
            return earliest
        return start

    async def bridge(
        self,
        consumer: BulkConsumer,
        on_accumulator: OnAccumulator,
        tp: TP,
        partition: Partition,
        expected: int,
        first: int,
    ) -> bool:
        """A chunk begins beyond what is expected: were records lost, or missed?

        Returns
        -------
        bool
            Whether to take the chunk.
        """
        earliest = int((await consumer.earliest_offsets(tp))[tp])
        if earliest > expected:
            end = min(earliest, first)
            begin = expected
            await on_accumulator(lambda: self._lost(tp, partition, begin, end - 1))
            expected = end
        if first == expected:
            return True
        log.info(
            "seek_back",
            action="seek_back",
            topic=tp.topic,
            partition=tp.partition,
            expected=expected,
            first=first,
        )
        await consumer.seek_wait({tp: expected})
        return False

    def _lost(self, tp: TP, partition: Partition, first: int, last: int) -> None:
        log.error(
            "gap",
            action="gap",
            topic=tp.topic,
            partition=tp.partition,
            first=first,
            last=last,
            lost=last - first + 1,
        )
        self._metrics.gaps.labels(tp.topic).inc(last - first + 1)
        self._accumulator.lost(partition, first, last)

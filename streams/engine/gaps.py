"""Gaps in the log: offsets that are expected and do not come. Lost, or missed on the way?

And the other way about: a log that ends before what was read of it. Its newest records were lost,
as after an unclean leader election or a broker that came back with an older disk; what is written
now has offsets that were counted already, and is counted again, since they are other records.

Offsets without a record of ours (markers and records of aborted transactions, what compaction took)
are none of these: they lie within chunks.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import structlog
from faust.types import TP

from redistill.streams.engine.accumulator import Accumulator
from redistill.streams.engine.consumer import BulkConsumer
from redistill.streams.engine.metrics import StreamMetrics
from redistill.streams.store.batch import Gap, Partition
from redistill.streams.store.tries import StoredOffset

__all__ = ["GapTracker"]

log = structlog.get_logger(__name__)

TRUNCATED_SECONDS = 5.0
"""How long a log has to end too early before it is believed."""

OnAccumulator = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs a call in the thread that owns the accumulator."""


class GapTracker:
    """Tells the accumulator where each partition begins, and what is missing.

    Parameters
    ----------
    accumulator
        Called in its own thread only.
    """

    def __init__(
        self,
        accumulator: Accumulator,
        metrics: StreamMetrics,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._accumulator = accumulator
        self._metrics = metrics
        self._clock = clock
        self._doubtful_since: float | None = None

    def doubtful(
        self,
        bounds: Mapping[TP, tuple[int, int]],
        partitions: Mapping[TP, Partition],
        stored: Mapping[Partition, StoredOffset],
    ) -> bool:
        """Whether a log seems to end before what was read of it, and has not for long: a broker
        that has just become the leader may not know yet how far its log is committed.
        """
        short = any(
            (known := stored.get(partition)) is not None and known.next_offset > bounds[tp][1]
            for tp, partition in partitions.items()
        )
        if not short:
            self._doubtful_since = None
            return False
        if self._doubtful_since is None:
            self._doubtful_since = self._clock()
        return self._clock() - self._doubtful_since < TRUNCATED_SECONDS

    def begin(
        self, tp: TP, partition: Partition, stored: int | None, earliest: int, end: int
    ) -> int:
        """Assign a partition; the offset to read from. In the accumulator's thread."""
        start = earliest if stored is None else stored
        if start > end:
            self._truncated(tp, start, end)
            self._accumulator.assign(partition, tp.topic, stored=stored, start=end)
            return end
        self._accumulator.assign(partition, tp.topic, stored=stored, start=start)
        if start < earliest:
            self._accumulator.lost(partition, start, earliest - 1)
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
            await on_accumulator(lambda: self._accumulator.lost(partition, begin, end - 1))
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

    def _truncated(self, tp: TP, stored: int, end: int) -> None:
        log.error(
            "log_truncated",
            action="log_truncated",
            topic=tp.topic,
            partition=tp.partition,
            counted_up_to=stored,
            log_ends_at=end,
            lost=stored - end,
        )
        self._metrics.truncated.labels(tp.topic).inc(stored - end)

    def stored(self, gaps: Iterable[Gap]) -> None:
        """Say what was lost, now that it stands in SQL. What was found by one that held partitions
        no longer, or could not be stored, is not lost yet: whoever reads there may have it.
        """
        for gap in gaps:
            lost = gap.last - gap.first + 1
            log.error(
                "gap",
                action="gap",
                topic=gap.topic,
                partition=gap.partition.number,
                first=gap.first,
                last=gap.last,
                lost=lost,
            )
            self._metrics.gaps.labels(gap.topic).inc(lost)

"""Offsets that are expected and do not come: lost, or missed on the way?

Offsets without a record of ours (control records of transactions, what compaction took) are none of
these: they lie within pieces.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from faust.types import TP

from redistill.streams.engine.accumulator import Pump
from redistill.streams.engine.consumer import BulkConsumer
from redistill.streams.engine.metrics import Metrics
from redistill.streams.store.batch import Place

log = structlog.get_logger(__name__)

InPump = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs a call in the thread that owns the pump."""


class Gaps:
    """Tells the pump where each partition begins, and what is missing.

    Parameters
    ----------
    pump
        Called in its own thread only.
    """

    def __init__(self, pump: Pump, metrics: Metrics) -> None:
        self._pump = pump
        self._metrics = metrics

    def begin(self, tp: TP, place: Place, stored: int | None, earliest: int) -> int:
        """Assign a partition; the offset to read from. In the pump's thread."""
        start = earliest if stored is None else stored
        self._pump.assign(place, tp.topic, stored=stored, start=start)
        if start < earliest:
            self._lost(tp, place, start, earliest - 1)
            return earliest
        return start

    async def bridge(
        self,
        consumer: BulkConsumer,
        in_pump: InPump,
        tp: TP,
        place: Place,
        expected: int,
        first: int,
    ) -> bool:
        """A piece begins beyond what is expected: were records lost, or missed?

        Returns
        -------
        bool
            Whether to take the piece.
        """
        earliest = int((await consumer.earliest_offsets(tp))[tp])
        if earliest > expected:
            end = min(earliest, first)
            begin = expected
            await in_pump(lambda: self._lost(tp, place, begin, end - 1))
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

    def _lost(self, tp: TP, place: Place, first: int, last: int) -> None:
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
        self._pump.lost(place, first, last)

"""Lag of the partitions held, and the transactions that hold them up.

Committed records end at the last stable offset: where the oldest open transaction begins. What
stands behind it waits, other producers' records too, and is no lag: nobody may read it yet. A
producer that died leaves its transaction open until its timeout, or for ever; the worker waits,
and says so.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import structlog
from faust.types import TP

from redistill.streams.engine.health import Health
from redistill.streams.engine.metrics import StreamMetrics
from redistill.streams.store.process_rows import TopicLag
from redistill.times import to_us, utc

__all__ = ["SAY_AFTER_SECONDS", "SAY_AGAIN_SECONDS", "Lag", "LogEnd"]

log = structlog.get_logger(__name__)

SAY_AFTER_SECONDS = 60.0
"""Kafka's own transaction timeout, unless a producer sets another: who lives has ended by then."""
SAY_AGAIN_SECONDS = 600.0


class LogEnd(NamedTuple):
    """Where a partition's log ends."""

    stable: int
    """Last stable offset: committed records lie below it."""
    end: int
    """Offset of the next record to be written."""


@dataclass(slots=True)
class _Hold:
    """A partition that an open transaction holds up."""

    offset: int
    """Where the transaction begins."""
    since: float
    """Seconds since 1970 at which it was first seen."""
    said_at: float | None = None


class Lag:
    """Measures lag and holds for metrics and the watchdog; only lag is the worker's own."""

    def __init__(self, health: Health, metrics: StreamMetrics) -> None:
        self._health = health
        self._metrics = metrics
        self._holds: dict[TP, _Hold] = {}
        self._measured_at = time.monotonic()
        metrics.lag_age.set_function(lambda: time.monotonic() - self._measured_at)

    def measured(
        self,
        ends: Mapping[TP, LogEnd],
        stored: Mapping[TP, int],
        now: float,
        *,
        since: Mapping[TP, int] = MappingProxyType({}),
    ) -> None:
        """What the broker said of the partitions held, and SQL's next offsets of them.

        Parameters
        ----------
        now
            Seconds since 1970.
        since
            When the oldest record that is not in SQL was written (ms since 1970), where that is
            known: it is fetched.
        """
        lag = waiting = 0
        oldest: list[float] = []
        topics: dict[str, TopicLag] = {}
        self._measured_at = time.monotonic()
        self._metrics.partition_lag.clear()
        held: dict[TP, LogEnd] = {}
        for tp, at in ends.items():
            behind = max(0, at.stable - stored.get(tp, 0))
            lag += behind
            written = since[tp] * 1_000 if behind and tp in since else None
            topics[tp.topic] = _more(topics.get(tp.topic), behind, written)
            self._metrics.partition_lag.labels(tp.topic, str(tp.partition)).set(behind)
            if behind and tp in since:
                oldest.append(max(0.0, now - since[tp] / 1e3))
            if not behind and at.end > at.stable:  # it is all that this partition waits for
                held[tp] = at
                waiting += at.end - at.stable
        self._health.lag = lag
        self._health.topic_lag, self._health.lag_measured_at = topics, self._measured_at
        self._metrics.lag.set(lag)
        self._metrics.lag_seconds.set(max(oldest, default=math.nan if lag else 0.0))
        self._metrics.held.set(waiting)
        self._metrics.held_seconds.set(self._follow(held, now))

    def _follow(self, held: Mapping[TP, LogEnd], now: float) -> float:
        """Say what has to be said; returns the age of the oldest hold."""
        for tp in [tp for tp, h in self._holds.items() if tp not in held]:
            self._ended(tp, now)
        oldest = 0.0
        for tp, at in held.items():
            if (known := self._holds.get(tp)) is not None and known.offset != at.stable:
                self._ended(tp, now)  # the next one began before it ended
            hold = self._holds.setdefault(tp, _Hold(at.stable, now))
            seconds = max(0.0, now - hold.since)
            oldest = max(oldest, seconds)
            due = hold.said_at is None or now - hold.said_at >= SAY_AGAIN_SECONDS
            if seconds >= SAY_AFTER_SECONDS and due:
                hold.said_at = now
                log.warning(
                    "transaction_open",
                    action="transaction_open",
                    topic=tp.topic,
                    partition=tp.partition,
                    offset=hold.offset,
                    since=utc(to_us(hold.since)).isoformat(timespec="seconds"),
                    seconds=round(seconds),
                    waiting=at.end - at.stable,
                    hint="a producer has neither committed nor aborted: nothing behind this offset"
                    " is counted until it does, its timeout passes, or somebody aborts it"
                    " (kafka-transactions.sh find-hanging, abort)",
                )
        return oldest

    def _ended(self, tp: TP, now: float) -> None:
        hold = self._holds.pop(tp)
        if hold.said_at is not None:
            log.info(
                "transaction_ended",
                action="transaction_ended",
                topic=tp.topic,
                partition=tp.partition,
                offset=hold.offset,
                seconds=round(now - hold.since),
            )


def _more(so_far: TopicLag | None, behind: int, oldest_at: int | None) -> TopicLag:
    """Lag of a topic with one more of its partitions; times are microseconds since 1970."""
    if so_far is None:
        return TopicLag(behind=behind, oldest_at=oldest_at)
    known = [at for at in (so_far.oldest_at, oldest_at) if at is not None]
    return TopicLag(behind=so_far.behind + behind, oldest_at=min(known, default=None))

"""Metrics of a stream worker, for Prometheus. One registry per worker, so that two in one process
do not collide.
"""

from __future__ import annotations

import math
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from redistill.streams.engine.metric_names import BuildInfo, prefix
from redistill.streams.engine.metrics_address import MetricsAddress
from redistill.streams.engine.metrics_server import MetricsServer

__all__ = ["StreamMetrics"]


class StreamMetrics:
    """The worker's numbers.

    Parameters
    ----------
    namespace
        Prefix of every metric: ``redistill`` or ``<namespace>_redistill``.
    """

    def __init__(self, namespace: str = "") -> None:
        self.registry = CollectorRegistry()
        self.registry.register(BuildInfo(namespace, "stream"))
        own: dict[str, Any] = {
            "namespace": prefix(namespace),
            "subsystem": "stream",
            "registry": self.registry,
        }
        self.rows = Counter("rows", "Rows counted into SQL.", ["topic"], **own)
        self.records = Counter("records", "Records counted into SQL.", ["topic"], **own)
        self.dead = Counter("dead_letters", "Records sent to dlq.", ["topic"], **own)
        self.aborted = Counter(
            "aborted_records",
            "Records of transactions that were aborted: they count for nothing.",
            ["topic"],
            **own,
        )
        self.counted = Counter(
            "counted", "What flushes counted, as in the table counters.", ["name"], **own
        )
        self.gaps = Counter("gap_offsets", "Offsets lost before they were read.", ["topic"], **own)
        self.truncated = Counter(
            "truncated_offsets", "Counted offsets that the log lost afterwards.", ["topic"], **own
        )
        self.flushes = Histogram(
            "flush_seconds",
            "Time of one flush to SQL.",
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
            **own,
        )
        self.moved = Counter("moved", "Batches dropped because another worker had moved on.", **own)
        self.away = Counter("store_away", "Flushes that found the database away.", **own)
        self.broker_up = Gauge(
            "broker_up", "Whether the broker lets this worker in and gives it what it needs.", **own
        )
        self.lag = Gauge("lag", "Records in the log, committed, that are not in SQL.", **own)
        self.lag.set(math.nan)  # until it was measured
        self.partition_lag = Gauge(
            "partition_lag", "The same, by partition.", ["topic", "partition"], **own
        )
        self.lag_seconds = Gauge(
            "lag_seconds",
            "Age of the oldest record that was fetched and is not in SQL; NaN: unknown.",
            **own,
        )
        self.lag_age = Gauge("lag_age_seconds", "Since lag was last measured.", **own)
        self.held = Gauge("held", "Offsets behind transactions that are open.", **own)
        self.held_seconds = Gauge(
            "held_seconds", "How long the oldest of these has been holding them up.", **own
        )
        self.partitions = Gauge("partitions", "Partitions held.", **own)
        self.states = Gauge("states", "Input states in memory.", **own)
        self.outcomes = Counter("outcomes", "Predictions joined with a label.", ["model"], **own)
        self.labels_requested = Counter(
            "labels_requested", "Labels that were asked for.", ["model"], **own
        )
        self.labels_answered = Counter(
            "labels_answered", "Outcomes of labels that were asked for.", ["model"], **own
        )
        self.label_budget_left = Gauge(
            "label_budget_left",
            "Labels that may still be asked for on this day, as of the last look.",
            ["model"],
            **own,
        )
        self.findings_open = Gauge("findings_open", "Open findings.", ["model"], **own)
        self.outbox_rows = Gauge("outbox_rows", "Announcements not sent yet.", **own)
        self.outbox_age = Gauge("outbox_age_seconds", "Age of the oldest of them.", **own)
        self.relayed = Counter("relayed", "Announcements sent.", **own)

    def serve(self, address: MetricsAddress) -> MetricsServer:
        """Serve ``/metrics``.

        Raises
        ------
        AddressError
            The port is taken, or not ours to take.
        """
        return MetricsServer(self.registry, address)

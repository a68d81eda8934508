"""Prometheus metrics of an alert process: what it told its channels, and what they did not take."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from redistill.streams.engine.metric_names import prefix
from redistill.workers.store.alert_deliveries import Delivery

__all__ = ["AlertMetrics"]


class AlertMetrics(Collector):
    """Deliveries by channel, since this process began.

    Parameters
    ----------
    channels
        Names of those that there are: each is told from the start, as zero.
    """

    def __init__(self, channels: Iterable[str] = (), *, namespace: str = "") -> None:
        start = prefix(namespace)
        self._sent = Counter(
            f"{start}_alerts_sent", "Deliveries that a channel took.", ["channel"], registry=None
        )
        self._failed = Counter(
            f"{start}_alerts_failed", "Tries that failed.", ["channel"], registry=None
        )
        for name in channels:
            self._sent.labels(name)
            self._failed.labels(name)

    def noted(self, row: Delivery) -> None:
        """A try was made, and this came of it."""
        (self._sent if row.error is None else self._failed).labels(row.channel).inc()

    def collect(self) -> Iterable[Metric]:
        """Called at each scrape."""
        return [*self._sent.collect(), *self._failed.collect()]

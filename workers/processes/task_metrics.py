"""Prometheus metrics of a process's periodic tasks: when each last ended a round well."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from redistill.streams.engine.metric_names import prefix
from redistill.workers.processes.periodic_tasks import PeriodicTask

__all__ = ["TaskMetrics"]


class TaskMetrics(Collector):
    """Tasks by name.

    Parameters
    ----------
    process
        Part of the metrics' names: ``repair`` or ``alerts``.
    """

    def __init__(
        self, tasks: Mapping[str, PeriodicTask], *, process: str, namespace: str = ""
    ) -> None:
        self._tasks = tasks
        self._start = f"{prefix(namespace)}_{process}_"

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Called at each scrape."""
        age = GaugeMetricFamily(
            self._start + "duty_age_seconds", "Since a duty last ended well.", labels=["duty"]
        )
        failures = GaugeMetricFamily(
            self._start + "duty_failures", "Failed rounds in a row.", labels=["duty"]
        )
        now = time.monotonic()
        for name, task in self._tasks.items():
            age.add_metric([name], now - task.done_at)
            failures.add_metric([name], task.failures)
        return [age, failures]

"""Prometheus metrics of a repair worker: read from SQL when asked, so no two workers disagree."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from redistill.streams.errors import StreamsError
from redistill.streams.store import outbox
from redistill.streams.store.database import Database
from redistill.times import to_seconds
from redistill.workers.errors import UsageError
from redistill.workers.processes.periodic_tasks import PeriodicTask
from redistill.workers.store.tables import incidents, jobs, monitored_releases, pauses

__all__ = ["RepairMetrics"]


class RepairMetrics(Collector):
    """Numbers of the fleet's incidents and jobs, and of this worker's tasks.

    Parameters
    ----------
    database
        The rows.
    tasks
        Of this worker, by name.
    namespace
        Prefix of every metric: ``redistill`` or ``<namespace>_redistill``.
    """

    def __init__(
        self, database: Database, tasks: Mapping[str, PeriodicTask], *, namespace: str = ""
    ) -> None:
        self._database = database
        self._tasks = tasks
        prefix = f"{namespace}_redistill" if namespace else "redistill"
        self._prefix = prefix.replace(".", "_").replace("-", "_") + "_repair_"
        self._server: Any = None

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Called at each scrape."""
        yield from self._of_tasks()
        up = self._gauge("database_up", "Whether the database answered.")
        try:
            found = self._of_rows()
        except StreamsError:
            up.add_metric([], 0)
            found = []
        else:
            up.add_metric([], 1)
        yield up
        yield from found

    def serve(self, port: int, host: str = "127.0.0.1") -> int:
        """Serve ``/metrics``; returns the port (chosen by the system if 0).

        Raises
        ------
        UsageError
            The port is taken, or not ours to take.
        """
        registry = CollectorRegistry()
        registry.register(self)
        try:
            self._server, _ = start_http_server(port, addr=host, registry=registry)
        except OSError as error:
            raise UsageError(
                f"metrics cannot be served on {host}:{port}: {error.strerror};"
                " choose another --metrics-port (0: a free one)"
            ) from error
        return int(self._server.server_port)

    def close(self) -> None:
        """Serve no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> GaugeMetricFamily:
        return GaugeMetricFamily(self._prefix + name, text, labels=labels)

    def _of_tasks(self) -> list[GaugeMetricFamily]:
        age = self._gauge("duty_age_seconds", "Since a duty last ended well.", ("duty",))
        failures = self._gauge("duty_failures", "Failed rounds in a row.", ("duty",))
        now = time.monotonic()
        for name, task in self._tasks.items():
            age.add_metric([name], now - task.done_at)
            failures.add_metric([name], task.failures)
        return [age, failures]

    def _of_rows(self) -> list[GaugeMetricFamily]:
        labels = ("model", "state")
        opened = self._gauge("incidents_open", "Open incidents by stage.", labels)
        live = self._gauge("jobs", "Jobs by state; ended ones of all times.", labels)
        guarded = self._gauge("guards", "Comparisons after a publish.", ("state",))
        paused = self._gauge("paused_until", "End of a pause, seconds since 1970.", ("model",))
        unsent = self._gauge("outbox_rows", "Announcements not sent yet.")
        with self._database.read() as conn:
            for model, stage, n in conn.execute(
                sa.select(incidents.c.model, incidents.c.stage, sa.func.count())
                .where(incidents.c.open_mark == 1)
                .group_by(incidents.c.model, incidents.c.stage)
            ):
                opened.add_metric([model, stage], n)
            for model, state, n in conn.execute(
                sa.select(jobs.c.model, jobs.c.state, sa.func.count()).group_by(
                    jobs.c.model, jobs.c.state
                )
            ):
                live.add_metric([model, state], n)
            for state, n in conn.execute(
                sa.select(monitored_releases.c.state, sa.func.count()).group_by(
                    monitored_releases.c.state
                )
            ):
                guarded.add_metric([state], n)
            for model, until in conn.execute(sa.select(pauses.c.model, pauses.c.until)):
                paused.add_metric([model], to_seconds(until))
            unsent.add_metric([], outbox.backlog(conn).rows)
        return [opened, live, guarded, paused, unsent]

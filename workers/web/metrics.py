"""Prometheus metrics of the installation: read from SQL when asked, so no process has to be up."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from redistill.streams.engine.metric_names import BuildInfo, prefix
from redistill.streams.errors import StreamsError
from redistill.streams.store import outbox, properties
from redistill.streams.store.database import Database
from redistill.streams.store.named_models import MOST, named_models
from redistill.times import to_seconds
from redistill.workers.releases import roles
from redistill.workers.store import clock_problem
from redistill.workers.store.tables import incidents, jobs, pointers

__all__ = ["WebMetrics"]


class WebMetrics:
    """One registry per application.

    Attributes
    ----------
    registry
        What ``/metrics`` shows.
    requests
        Answers by ``area`` (metadata, targets, health, metrics, other) and ``status``.
    """

    def __init__(self, database: Database, namespace: str, *, most_models: int = MOST) -> None:
        name = prefix(namespace)
        self.registry = CollectorRegistry()
        self.registry.register(BuildInfo(namespace, "web"))
        self.requests = Counter(
            f"{name}_web_requests",
            "Answers of the web process.",
            ["area", "status"],
            registry=self.registry,
        )
        self.registry.register(_FromSql(database, name, most_models))


class _FromSql(Collector):
    def __init__(self, database: Database, name: str, most_models: int) -> None:
        self._database = database
        self._name = name
        self._most_models = most_models

    def describe(self) -> list[Metric]:
        """Nothing: registering must not need a database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Ask the database; one failed scrape is told as ``..._up 0``."""
        name = self._name
        try:
            with self._database.read() as conn:
                named = named_models(conn, self._most_models)
                until = roles.valid_until(conn)
                published = properties.published_snapshot(conn)
                unsent = outbox.backlog(conn)
                stopped = clock_problem.get(conn) is not None
                epochs = conn.execute(sa.select(pointers.c.model, pointers.c.epoch)).all()
                open_incidents = conn.execute(
                    sa.select(incidents.c.model, incidents.c.incident_class, sa.func.count())
                    .where(incidents.c.status == "open")
                    .group_by(incidents.c.model, incidents.c.incident_class)
                ).all()
                live = conn.execute(
                    sa.select(jobs.c.model, jobs.c.state, sa.func.count())
                    .where(jobs.c.live_mark == 1)
                    .group_by(jobs.c.model, jobs.c.state)
                ).all()
        except StreamsError:  # anything else is a defect, and the log says so
            yield _gauge(f"{name}_up", "Whether the database could be read.", 0)
            return
        yield _gauge(f"{name}_up", "Whether the database could be read.", 1)
        yield _gauge(f"{name}_repository_snapshot", "Newest published snapshot.", published)
        if until is not None:
            yield _gauge(
                f"{name}_repository_valid_seconds",
                "Until clients stop believing the signed repository.",
                to_seconds(until) - self._database.clock.seconds(),
            )
        yield _gauge(
            f"{name}_retention_stopped",
            "Whether the clocks of the installation differ: nothing is deleted for its age.",
            float(stopped),
        )
        yield _gauge(f"{name}_outbox_unsent", "Announcements that wait.", unsent.rows)
        oldest = (
            0.0
            if unsent.oldest_at is None
            else self._database.clock.seconds() - to_seconds(unsent.oldest_at)
        )
        yield _gauge(f"{name}_outbox_oldest_seconds", "Age of the oldest of them.", oldest)
        epoch = GaugeMetricFamily(
            f"{name}_pointer_epoch", "Changes of the pointer.", labels=["model"]
        )
        for row in epochs:
            if row.model in named.names:  # of several there is no one epoch
                epoch.add_metric([row.model], row.epoch)
        yield epoch
        family = GaugeMetricFamily(
            f"{name}_incidents_open", "Open incidents.", labels=["model", "class"]
        )
        for labels, count in named.summed(open_incidents).items():
            family.add_metric(labels, count)
        yield family
        family = GaugeMetricFamily(f"{name}_jobs_live", "Live jobs.", labels=["model", "state"])
        for labels, count in named.summed(live).items():
            family.add_metric(labels, count)
        yield family


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)

"""Prometheus metrics of a repair worker: incidents and jobs as SQL has them.

They are read by a task of the worker and kept: a scrape asks no database, so one that hangs holds
up no scrape.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

import sqlalchemy as sa
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from redistill.streams.engine.metric_names import prefix
from redistill.streams.store import outbox
from redistill.streams.store.database import Database
from redistill.streams.store.named_models import MOST, NamedModels, named_models
from redistill.times import to_seconds
from redistill.workers.store import clock_problem
from redistill.workers.store.tables import incidents, jobs, monitored_releases, pauses

__all__ = ["NUMBERS_SECONDS", "RepairMetrics"]

NUMBERS_SECONDS = 5.0
"""How often they are read: some counts over indexed rows."""
BELIEVED_SECONDS = 30.0
"""What could not be read anew for so long is told no more: the database hangs."""


class RepairMetrics(Collector):
    """Numbers of the fleet's incidents and jobs, as they were read last.

    Parameters
    ----------
    database
        The rows.
    namespace
        Prefix of every metric: ``redistill`` or ``<namespace>_redistill``.
    most_models
        So many models are named.
    monotonic
        Seconds.
    """

    def __init__(
        self,
        database: Database,
        *,
        namespace: str = "",
        most_models: int = MOST,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._most_models = most_models
        self._prefix = f"{prefix(namespace)}_repair_"
        self._monotonic = monotonic
        self._guard = threading.Lock()
        self._read: tuple[float, list[GaugeMetricFamily]] | None = None

    def refresh(self) -> None:
        """Read them.

        Raises
        ------
        StoreUnavailable
            Nothing is told until they can be read again, but that the database is away.
        """
        began, found = self._monotonic(), None
        try:
            with self._database.read() as conn:
                found = began, self._of_rows(conn, named_models(conn, self._most_models))
        finally:
            with self._guard:
                self._read = found

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: registering must not need a database."""
        return []

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """Called at each scrape."""
        with self._guard:
            told = self._read
        fresh = told is not None and self._monotonic() - told[0] <= BELIEVED_SECONDS
        up = self._gauge("database_up", "Whether the database answered.")
        up.add_metric([], float(fresh))
        return [up, *(told[1] if told is not None and fresh else [])]

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = ()) -> GaugeMetricFamily:
        return GaugeMetricFamily(self._prefix + name, text, labels=labels)

    def _of_rows(self, conn: sa.Connection, named: NamedModels) -> list[GaugeMetricFamily]:
        labels = ("model", "state")
        opened = self._gauge("incidents_open", "Open incidents by stage.", labels)
        live = self._gauge("jobs", "Jobs by state; ended ones of all times.", labels)
        guarded = self._gauge("guards", "Comparisons after a publish.", ("state",))
        paused = self._gauge("paused_until", "End of a pause, seconds since 1970.", ("model",))
        unsent = self._gauge("outbox_rows", "Announcements not sent yet.")
        stopped = self._gauge("retention_stopped", "Whether clocks differ: nothing is deleted.")
        i, j, m = incidents.c, jobs.c, monitored_releases.c
        by_stage = (
            sa.select(i.model, i.stage, sa.func.count())
            .where(i.open_mark == 1)
            .group_by(i.model, i.stage)
        )
        for told, count in named.summed(conn.execute(by_stage)).items():
            opened.add_metric(told, count)
        by_state = sa.select(j.model, j.state, sa.func.count()).group_by(j.model, j.state)
        for told, count in named.summed(conn.execute(by_state)).items():
            live.add_metric(told, count)
        for state, n in conn.execute(sa.select(m.state, sa.func.count()).group_by(m.state)):
            guarded.add_metric([state], n)
        for model, until in conn.execute(sa.select(pauses.c.model, pauses.c.until)):
            if model in named.names:  # of several there is no one end
                paused.add_metric([model], to_seconds(until))
        unsent.add_metric([], outbox.backlog(conn).rows)
        stopped.add_metric([], float(clock_problem.get(conn) is not None))
        return [opened, live, guarded, paused, unsent, stopped]

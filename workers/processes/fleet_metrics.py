"""Prometheus metrics of models and fleet, told by one repair worker at a time.

Of the workers that serve metrics one holds the lease ``metrics``: it reads the figures every
quarter of a minute and tells them; the others tell none of these. So a scrape costs no SQL, a
database that hangs holds up no scrape, and no sum over workers counts a model twice.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from redistill.streams.engine.metric_names import prefix
from redistill.streams.store import lease
from redistill.streams.store.database import Database
from redistill.streams.store.named_models import MOST
from redistill.times import to_seconds
from redistill.workers.processes import fleet_figures
from redistill.workers.processes.fleet_figures import FleetFigures
from redistill.workers.store.model_figures import FigureMemory, ModelFigures
from redistill.workers.store.model_status import accuracy

__all__ = ["READ_SECONDS", "FleetMetrics"]

LEASE = "metrics"
LEASE_SECONDS = 60.0
READ_SECONDS = 15.0
"""Prometheus asks every 15 to 60 seconds."""
BELIEVED_SECONDS = LEASE_SECONDS - 5.0
"""Figures that are not read anew are told so long after the lease was asked for: no longer than it
lasts, so that a worker that cannot renew it and the one that took over never both tell them. A gap
in a graph is true, a line that stands still is not."""


class FleetMetrics(Collector):
    """What the table ``docs/metrics.md`` lists for the repair worker that holds the lease.

    Parameters
    ----------
    database
        The rows.
    holder
        Of the lease: unique for each start of a process.
    namespace
        Of the installation.
    most_models
        So many models are named, those registered first.
    monotonic
        Seconds.
    """

    def __init__(
        self,
        database: Database,
        *,
        holder: str,
        namespace: str = "",
        most_models: int = MOST,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._holder = holder
        self._prefix = prefix(namespace)
        self._most = most_models
        self._monotonic = monotonic
        self._memory = FigureMemory()
        self._guard = threading.Lock()
        self._read: tuple[float, FleetFigures] | None = None

    def refresh(self) -> None:
        """Read the figures, if this worker is the one that tells them.

        Raises
        ------
        StoreUnavailable
            What was read before is told until the lease ends.
        """
        began = self._monotonic()
        with self._database.begin() as conn:
            now = self._database.clock()
            mine = lease.acquire(conn, LEASE, self._holder, now=now, seconds=LEASE_SECONDS)
        told = None
        if mine is not None:
            with self._database.read() as conn:
                figures = fleet_figures.read(
                    conn, self._memory, most_models=self._most, now=self._database.clock()
                )
            told = (began, figures)
        with self._guard:
            self._read = told

    def leave(self) -> None:
        """Let another worker tell them.

        Raises
        ------
        StoreUnavailable
            It waits until the lease ends.
        """
        with self._database.begin() as conn:
            lease.expire(conn, LEASE, self._holder)

    def describe(self) -> list[Metric]:
        """Nothing: registering must not need a database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Called at each scrape."""
        with self._guard:
            told = self._read
        if told is None or self._monotonic() - told[0] > BELIEVED_SECONDS:
            return
        yield from self._of_fleet(told[1])
        yield from self._of_models(told[1].models)

    def _gauge(self, name: str, text: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"{self._prefix}_{name}", text, labels=labels)

    def _counter(self, name: str, text: str, *labels: str) -> CounterMetricFamily:
        return CounterMetricFamily(f"{self._prefix}_{name}", text, labels=labels)

    def _of_fleet(self, told: FleetFigures) -> list[Metric]:
        read = self._gauge("figures_read_timestamp_seconds", "When the figures were read.")
        registered = self._gauge("models_registered", "Registered models.", "level")
        unnamed = self._gauge("models_unnamed", "Registered models that metrics do not name.")
        opened = self._gauge(
            "model_incidents_open",
            "Open incidents by class, and by the severity with which people are told of them.",
            "model",
            "class",
            "severity",
        )
        ends = self._counter("jobs_ended", "Jobs that ended, by how they did.", "state")
        refusals = self._counter("gate_refusals", "Candidates that a gate refused.", "gate")
        processes = self._gauge(
            "processes", "Processes that live, as they said themselves.", "kind", "ready"
        )
        troubles = self._gauge(
            "operational_alerts_open",
            "Open alerts about the installation itself.",
            "kind",
            "severity",
        )
        deliveries = self._gauge(
            "alert_deliveries", "Alerts by what became of telling a channel.", "channel", "state"
        )
        beat = self._gauge(
            "heartbeat_sent_timestamp_seconds", "When the dead man's switch last took a beat."
        )
        if told.beat_at is not None:
            beat.add_metric([], to_seconds(told.beat_at))
        read.add_metric([], to_seconds(told.at))
        for level, n in told.registered.items():
            registered.add_metric([level], n)
        unnamed.add_metric([], sum(told.registered.values()) - len(told.models))
        for (model, kind, severity), n in told.incidents.items():
            opened.add_metric([model, kind, severity], n)
        for state, n in told.job_ends.items():
            ends.add_metric([state], n)
        for gate, n in told.refusals.items():
            refusals.add_metric([gate], n)
        for (kind, ready), n in told.processes.items():
            processes.add_metric([kind, str(ready).lower()], n)
        for (kind, severity), n in told.troubles.items():
            troubles.add_metric([kind, severity], n)
        for (channel, state), n in told.deliveries.items():
            deliveries.add_metric([channel, state], n)
        return [
            read, registered, unnamed, opened, ends, refusals, processes, troubles, deliveries,
            beat,
        ]  # fmt: skip

    def _of_models(self, models: tuple[ModelFigures, ...]) -> list[Metric]:
        measured = self._gauge(
            "model_accuracy_ratio", "Accuracy of the serving version's last labelled rows.", "model"
        )
        low = self._gauge(
            "model_accuracy_low_ratio", "Lower end of its exact 95% interval.", "model"
        )
        high = self._gauge(
            "model_accuracy_high_ratio", "Upper end of its exact 95% interval.", "model"
        )
        labelled = self._gauge(
            "model_labelled_rows", "Labelled rows behind it, 2,000 at most.", "model"
        )
        base = self._gauge(
            "model_base_error_ratio", "How often the version is wrong normally.", "model"
        )
        base_high = self._gauge(
            "model_base_error_high_ratio",
            "Upper end of its exact 95% interval: what harm is tested against.",
            "model",
        )
        lag = self._gauge(
            "model_label_lag_seconds",
            "Median time from serving to label of the last labelled rows.",
            "model",
        )
        psi = self._gauge(
            "model_feature_psi",
            "Population stability index of the features that drifted most, of open findings.",
            "model",
            "feature",
        )
        instances = self._gauge(
            "model_instances",
            "Instances of services by the version that they activated last.",
            "model",
            "version",
        )
        served = self._gauge(
            "model_last_served_timestamp_seconds",
            "When the last row of a version was served.",
            "model",
            "version",
        )
        for m in models:
            if (value := accuracy(m)) is not None:
                measured.add_metric([m.model], value.value)
                low.add_metric([m.model], value.low)
                high.add_metric([m.model], value.high)
            labelled.add_metric([m.model], m.labelled)
            if m.base_error is not None:
                base.add_metric([m.model], m.base_error.rate)
                base_high.add_metric([m.model], m.base_error.upper)
            if m.label_lag_us is not None:
                lag.add_metric([m.model], to_seconds(m.label_lag_us))
            for feature, value_of in m.psi.items():
                psi.add_metric([m.model, feature], value_of)
            for version, n in m.instances.items():
                instances.add_metric([m.model, version], n)
            for version, at in m.served_at.items():
                served.add_metric([m.model, version], to_seconds(at))
        return [measured, low, high, labelled, base, base_high, lag, psi, instances, served]

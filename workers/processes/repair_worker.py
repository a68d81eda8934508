"""Repair worker: findings become incidents, incidents jobs, jobs releases, and all of it events.

Every task has a thread of its own and, where two workers would disturb each other, a lease; several
workers may run. What the broker announces only makes things faster: the truth is in SQL, and a
broker that is away stops nothing but the announcements.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import structlog

from redistill.streams.engine import logs
from redistill.streams.errors import StoreUnavailable
from redistill.streams.kafka.broker import Broker
from redistill.streams.store import lease
from redistill.streams.store.database import Database
from redistill.streams.store.relay import Relay
from redistill.times import now_us, to_seconds
from redistill.workers.incidents import reconciler
from redistill.workers.incidents.event_consumer import EventConsumer
from redistill.workers.incidents.model_context import FleetLimits
from redistill.workers.jobs import predecessor_comparison, retention, scheduler
from redistill.workers.jobs.child import Child
from redistill.workers.jobs.dependencies import Dependencies, WarmChild
from redistill.workers.jobs.predecessor_comparison import ComparisonRunner
from redistill.workers.jobs.publish import Publisher
from redistill.workers.jobs.runner import Runner
from redistill.workers.jobs.scheduler import Scheduler
from redistill.workers.models import objects, registered
from redistill.workers.processes.periodic_tasks import PeriodicTask
from redistill.workers.processes.repair_metrics import RepairMetrics
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.releases.repository_writer import RepositoryWriter
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.settings.settings import Settings
from redistill.workers.store import alarm_budget, opening

__all__ = ["RepairWorker", "run"]

log = structlog.get_logger(__name__)

RELAY_SECONDS = 0.1
JOBS_SECONDS = 0.2
WRITER_SECONDS = 0.5
COMPARISON_SECONDS = 1.0
EXPIRE_SECONDS = 10.0
RETENTION_SECONDS = 600.0
BUDGET_SECONDS = 3_600.0
OBJECT_GRACE_SECONDS = 86_400.0
"""Registered files that nothing names are kept so long: a registration stores them before its rows.
"""

RELAY_PAUSE_SECONDS = 2.0
"""Between two tries while the broker is away."""

STOP_SECONDS = 15.0
"""How long a task may take to end; the longest is one that waits for a locked database."""


def _remove_objects(database: Database, settings: Settings, now: int) -> int:
    with database.read() as conn:
        used = registered.used_objects(conn)
    before = to_seconds(now) - OBJECT_GRACE_SECONDS
    return objects.remove_unused(settings.objects_folder, used, before=before)


class RepairWorker:
    """All tasks of a repair worker, wired.

    Parameters
    ----------
    settings
        Of this process.
    database
        Checked (``redistill.workers.store.opening.open``).
    broker
        Where events go and come from.
    child
        The warm process for jobs, started before any thread.
    stop
        Set it, and everything ends; the job at work is left resumable.
    clock
        Microseconds since 1970.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        database: Database,
        broker: Broker,
        child: Child,
        stop: threading.Event,
        clock: Callable[[], int] = now_us,
    ) -> None:
        # A name of this start, not of this machine: a worker that was killed and came back must not
        # be taken for its former self, which may not be quite dead.
        holder = f"{settings.instance}:{uuid.uuid4().hex[:8]}"
        home = settings.root
        fleet_limits = FleetLimits.of(settings)
        lifetimes = Lifetimes.of_pointer(settings.pointer_ttl_hours)
        self._stop = stop
        self._database = database
        self.holder = holder

        self.writer = RepositoryWriter(
            database,
            RepositoryLayout(home),
            holder=holder,
            passphrase=(
                settings.key_passphrase.get_secret_value() if settings.key_passphrase else None
            ),
            lifetimes=lifetimes,
            cool_down_seconds=settings.cool_down_minutes * 60,
        )
        self.dependencies = Dependencies(
            database=database,
            home=home,
            holder=holder,
            child=WarmChild(child),
            fleet_limits=fleet_limits,
            publisher=Publisher(
                RepositoryLayout(home),
                lifetimes=lifetimes,
                wake_writer=self._sign,
                load_memory_bytes=settings.load_memory_mb * 2**20,
                load_seconds=settings.load_seconds,
            ),
            deadline_s=settings.child_seconds,
            memory_bytes=settings.child_memory_mb * 2**20,
            clock=clock,
            stop=stop,
        )
        self.runner = Runner(self.dependencies)
        self.reconciler = reconciler.Reconciler(
            database, fleet_limits=fleet_limits, actor=f"worker:{holder}", clock=clock
        )
        self.comparisons = ComparisonRunner(
            self.dependencies,
            lifetimes=lifetimes,
            cool_down_seconds=settings.cool_down_minutes * 60,
            on_rollback=self._sign,
        )
        self.relay = Relay(database, broker, holder=holder)
        self.listener = EventConsumer(
            broker,
            group=f"{settings.consumer_group}.repair",
            database=database,
            on_finding=self._on_finding,
        )
        keep = retention.RetentionLimits(
            jobs_days=settings.jobs_kept_days,
            outbox_days=settings.outbox_kept_days,
            names_days=settings.names_kept_days,
            releases=settings.releases_kept,
        )
        self.scheduler = Scheduler(
            database,
            holder=holder,
            chores={
                "expire": (
                    EXPIRE_SECONDS,
                    lambda: reconciler.expire_jobs(
                        database, fleet_limits=fleet_limits, actor=f"worker:{holder}", clock=clock
                    ),
                ),
                "budget": (
                    BUDGET_SECONDS,
                    lambda: alarm_budget.refresh(
                        database, alarms_per_week=settings.alarms_per_week, now=clock()
                    ),
                ),
                "objects": (
                    RETENTION_SECONDS,
                    lambda: _remove_objects(database, settings, clock()),
                ),
                "retention": (
                    RETENTION_SECONDS,
                    lambda: retention.run(
                        database, home=home, keep=keep, lifetimes=lifetimes, clock=clock
                    ),
                ),
            },
            on_job=self._work,
            clock=clock,
        )
        tasks: list[tuple[str, Callable[[], Any], float]] = [
            ("sweep", self._reconcile, settings.poll_seconds),
            ("jobs", self.runner.run_once, JOBS_SECONDS),
            ("keeper", self._keep, WRITER_SECONDS),
            ("relay", self._relay, RELAY_SECONDS),
            ("listen", self.listener.run_once, 0.0),
            ("guard", self.comparisons.run_once, COMPARISON_SECONDS),
        ]
        self.tasks = {
            name: PeriodicTask(name, work, every_seconds=seconds, stop=stop)
            for name, work, seconds in tasks
        }
        self.metrics = RepairMetrics(database, self.tasks, namespace=settings.namespace)
        self._metrics_port = settings.metrics_port

    def start(self) -> None:
        """Start every task."""
        if self._metrics_port is not None:
            port = self.metrics.serve(self._metrics_port)
            log.info("metrics", action="metrics", url=f"http://127.0.0.1:{port}/metrics")
        for task in self.tasks.values():
            task.start()
        self.scheduler.start()

    def finish(self) -> bool:
        """After ``stop`` was set: wait for the tasks, and give every lease back.

        Returns
        -------
        bool
            Whether all of them ended in time.
        """
        self.scheduler.stop()
        late = [name for name, task in self.tasks.items() if not task.join(STOP_SECONDS)]
        if late:
            log.warning("tasks_late", action="tasks_late", tasks=late)
        try:
            with ExitStack() as stack:  # each is tried, whatever the others do
                stack.callback(self.dependencies.child.close)
                stack.callback(self.listener.close)
                stack.callback(self.relay.close)
                stack.callback(self.metrics.close)
                stack.callback(self.writer.close)
                stack.callback(self._give_back)
        except StoreUnavailable as error:
            log.info("lease_kept", action="lease_kept", error=str(error))
        return not late

    def _give_back(self) -> None:
        """End the leases that are only kept by being taken again: the next worker need not wait."""
        with self._database.begin() as conn:
            for name in (scheduler.LEASE, predecessor_comparison.LEASE):
                lease.expire(conn, name, self.holder)

    def _on_finding(self, finding_id: str) -> None:
        if self.reconciler.ingest(finding_id):
            self._work()

    def _reconcile(self) -> bool:
        done = self.reconciler.run_once()
        if done.ingested or done.decided:
            self._work()
        return done.ingested > 0

    def _keep(self) -> bool:
        return self.writer.tick().snapshot is not None

    def _relay(self) -> bool:
        sent = self.relay.run_once()
        if self.relay.failures:  # it has said so; asking ten times a second helps nobody
            self._stop.wait(min(RELAY_PAUSE_SECONDS, 0.1 * 2 ** min(self.relay.failures, 10)))
        return sent > 0

    def _sign(self) -> None:
        self.tasks["keeper"].wake()

    def _work(self) -> None:
        self.tasks["jobs"].wake()


def run(
    settings: Settings,
    *,
    stop: threading.Event,
    ready: Callable[[RepairWorker], None] | None = None,
) -> int:
    """Run a repair worker until ``stop`` is set.

    Parameters
    ----------
    settings
        Of this process.
    stop
        Set by a signal handler.
    ready
        Called once everything has been started.

    Returns
    -------
    int
        Exit status: 0 ended well, 1 a task did not end in time.

    Raises
    ------
    SettingsError
        No broker is set.
    DatabaseError
        The database is away, not upgraded, or newer than this program.
    """
    logs.configure(settings.log_level)
    logging.getLogger("apscheduler").setLevel(logging.WARNING)  # a line per wake-up otherwise
    broker = settings.broker()
    with Child.start() as child:  # before any thread, connection or key
        database = opening.open(settings)
        try:
            worker = RepairWorker(
                settings, database=database, broker=broker, child=child, stop=stop
            )
            worker.start()
            log.info(
                "repair_started",
                action="repair_started",
                holder=worker.holder,
                home=str(settings.root),
                broker=broker.servers,
            )
            if ready is not None:
                ready(worker)
            stop.wait()
            well = worker.finish()
        finally:
            database.dispose()
    log.info("repair_stopped", action="repair_stopped", well=well)
    return 0 if well else 1

"""Repair worker: findings become incidents, incidents jobs, jobs releases, and all of it events.

Every task has a thread of its own and, where two workers would disturb each other, a lease; several
workers may run. What the broker announces only makes things faster: the truth is in SQL, and a
broker that is away stops nothing but the announcements.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import structlog

from redistill.streams.engine import logs
from redistill.streams.engine.metrics_server import MetricsServer
from redistill.streams.errors import StoreUnavailable
from redistill.streams.kafka.broker import Broker
from redistill.streams.store import lease
from redistill.streams.store.database import Database
from redistill.streams.store.process_rows import BEAT_SECONDS, Presence
from redistill.streams.store.relay import Relay
from redistill.times import to_seconds, to_us
from redistill.workers.incidents import reconciler
from redistill.workers.incidents.event_consumer import EventConsumer
from redistill.workers.incidents.model_context import FleetLimits
from redistill.workers.jobs import predecessor_comparison, retention, scheduler
from redistill.workers.jobs.child import Child
from redistill.workers.jobs.clock_watch import ClockWatch
from redistill.workers.jobs.dependencies import Dependencies, WarmChild
from redistill.workers.jobs.predecessor_comparison import ComparisonRunner
from redistill.workers.jobs.publish import Publisher
from redistill.workers.jobs.runner import Runner
from redistill.workers.jobs.scheduler import Scheduler
from redistill.workers.models import objects, registered
from redistill.workers.processes import metrics_endpoint
from redistill.workers.processes.fleet_metrics import READ_SECONDS, FleetMetrics
from redistill.workers.processes.periodic_tasks import PeriodicTask, late
from redistill.workers.processes.repair_metrics import NUMBERS_SECONDS, RepairMetrics
from redistill.workers.processes.task_metrics import TaskMetrics
from redistill.workers.processes.until_stopped import until_stopped
from redistill.workers.releases.post_release_monitor import BREAKER_SECONDS
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.releases.repository_writer import RepositoryWriter
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.settings.settings import Settings
from redistill.workers.store import alarm_budget, future_times, opening, signing_refusal

__all__ = ["RepairWorker", "run"]

log = structlog.get_logger(__name__)

RELAY_SECONDS = 0.1
JOBS_SECONDS = 0.2
WRITER_SECONDS = 0.5
COMPARISON_SECONDS = 1.0
CLOCK_SECONDS = 30.0
SET_SECONDS = 2.0
"""How often it is looked whether the machine's clock was set."""
EXPIRE_SECONDS = 10.0
RETENTION_SECONDS = 600.0
BUDGET_SECONDS = 3_600.0
OBJECT_GRACE_SECONDS = 86_400.0
"""Registered files that nothing names are kept so long: a registration stores them before its rows.
"""

PROMPT = ("sweep", "keeper", "relay")
"""Tasks whose rounds are short; a job or a comparison takes minutes."""
LATE_SECONDS = 60.0
"""A task of these that has not ended a round for so long makes this worker unready: longer than the
slowest of them waits for a database that hangs and a broker that does not answer."""

STOP_SECONDS = 20.0
"""How long the tasks may take to end, all together. The longest is one whose connection hangs: ten
seconds until that is known, five for the one that is tried in its place."""


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
        Microseconds since 1970; ``None``: the database's.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        database: Database,
        broker: Broker,
        child: Child,
        stop: threading.Event,
        clock: Callable[[], int] | None = None,
    ) -> None:
        # A name of this start, not of this machine: a worker that was killed and came back must not
        # be taken for its former self, which may not be quite dead.
        holder = f"{settings.instance}:{uuid.uuid4().hex[:8]}"
        home = settings.root
        clock = clock or database.clock
        fleet_limits = FleetLimits.of(settings)
        lifetimes = Lifetimes.of_pointer(settings.pointer_ttl_hours)
        self._stop = stop
        self._longest_pause = max(fleet_limits.cool_down, to_us(BREAKER_SECONDS))
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
        self.presence = Presence(database, "repair", holder)
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
        self.watch = ClockWatch(database, holder=holder)
        self.scheduler = Scheduler(
            database,
            holder=holder,
            chores={
                "clock": (CLOCK_SECONDS, self.watch.agreed),
                "expire": (
                    EXPIRE_SECONDS,
                    lambda: self._by_age(
                        lambda _: reconciler.expire_jobs(
                            database,
                            fleet_limits=fleet_limits,
                            actor=f"worker:{holder}",
                            clock=clock,
                        )
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
                    lambda: self._by_age(lambda now: _remove_objects(database, settings, now)),
                ),
                "size": (
                    RETENTION_SECONDS,
                    lambda: retention.bound_size(database.unhurried(), stop.is_set),
                ),
                "retention": (
                    RETENTION_SECONDS,
                    lambda: self._by_age(
                        lambda now: self._retain(keep, lifetimes, home=home, now=now)
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
            ("clock", self.scheduler.keep_time, SET_SECONDS),
            ("presence", self._tell, BEAT_SECONDS),
        ]
        self.fleet = FleetMetrics(
            database,
            holder=holder,
            namespace=settings.namespace,
            most_models=settings.metrics_models,
        )
        self.numbers = RepairMetrics(
            database, namespace=settings.namespace, most_models=settings.metrics_models
        )
        self._metrics_address = settings.metrics_address()
        if self._metrics_address is not None:
            tasks.append(("figures", self.fleet.refresh, READ_SECONDS))
            tasks.append(("numbers", self.numbers.refresh, NUMBERS_SECONDS))
        self.tasks = {
            name: PeriodicTask(name, work, every_seconds=seconds, stop=stop)
            for name, work, seconds in tasks
        }
        self._namespace = settings.namespace
        self._server: MetricsServer | None = None

    def start(self) -> None:
        """Start every task."""
        if self._metrics_address is not None:
            told = (
                TaskMetrics(self.tasks, process="repair", namespace=self._namespace),
                self.numbers,
                self.fleet,
            )
            registry = metrics_endpoint.registry_of("repair", told, namespace=self._namespace)
            self._server = metrics_endpoint.serve(registry, self._metrics_address)
        self.watch.begin()
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
        for task in self.tasks.values():
            task.wake()
        end = time.monotonic() + STOP_SECONDS
        late = [
            name
            for name, task in self.tasks.items()
            if not task.join(max(0.0, end - time.monotonic()))
        ]
        if late:
            log.warning("tasks_late", action="tasks_late", tasks=late)
        try:
            with ExitStack() as stack:  # each is tried, whatever the others do
                stack.callback(self.dependencies.child.close)
                stack.callback(self.listener.close)
                stack.callback(self.relay.close)
                if self._server is not None:
                    stack.callback(self.fleet.leave)
                    stack.callback(self._server.close)
                stack.callback(self.writer.close)
                stack.callback(self._give_back)
                stack.callback(self.presence.leave)
        except StoreUnavailable as error:
            log.info("lease_kept", action="lease_kept", error=str(error))
        return not late

    def _give_back(self) -> None:
        """End the leases that are only kept by being taken again: the next worker need not wait."""
        with self._database.begin() as conn:
            for name in (scheduler.LEASE, predecessor_comparison.LEASE):
                lease.expire(conn, name, self.holder)

    def _by_age(self, work: Callable[[int], Any]) -> None:
        """Delete or end something for its age, unless the clocks differ by which it is judged."""
        if (now := self.watch.agreed()) is not None:
            work(now)

    def _retain(
        self, keep: retention.RetentionLimits, lifetimes: Lifetimes, *, home: Path, now: int
    ) -> None:
        back = future_times.bring_back(self._database, now=now, longest_pause=self._longest_pause)
        if back:
            log.warning("times_brought_back", action="times_brought_back", changed=back)
        retention.run(
            self._database.unhurried(),
            home=home,
            keep=keep,
            lifetimes=lifetimes,
            now=now,
            stop=self._stop.is_set,
        )

    def _on_finding(self, finding_id: str) -> None:
        if self.reconciler.ingest(finding_id):
            self._work()

    def _reconcile(self) -> bool:
        done = self.reconciler.run_once()
        if done.ingested or done.decided:
            self._work()
        return done.ingested > 0

    def _tell(self) -> None:
        behind = late([self.tasks[name] for name in PROMPT], LATE_SECONDS)
        self.presence.say(
            f"its tasks: {', '.join(behind)} ended no round for a minute" if behind else ""
        )

    def _keep(self) -> bool:
        return self.writer.tick().snapshot is not None

    def _relay(self) -> bool:
        return self.relay.run_once() > 0

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
        Exit status: 0 ended well, 69 a task did not end in time.

    Raises
    ------
    SettingsError
        No broker is set.
    DatabaseError
        The database is away, not upgraded, or newer than this program.
    KeysError
        The audit key is not here, or is another one than the database's.
    """
    logs.configure(settings.log_level, process="repair")
    logging.getLogger("apscheduler").setLevel(logging.WARNING)  # a line per wake-up otherwise
    broker = settings.broker()
    with Child.start() as child:  # before any thread, connection or key
        database = opening.open(settings)
        try:
            signing_refusal.want_key(database, holder=settings.instance)  # not in the first job
            worker = RepairWorker(
                settings, database=database, broker=broker, child=child, stop=stop
            )
            database.wait_out()
            return until_stopped(
                worker,
                "repair",
                stop=stop,
                ready=ready,
                home=str(settings.root),
                broker=broker.servers,
            )
        finally:
            database.dispose()

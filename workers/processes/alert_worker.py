"""Alert process: people are told what SQL says, on the channels of ``alerts.toml``.

Several may run: the holder of the lease ``alerts`` plans and tells, another takes over within ten
seconds of its death. A record on the topics ``incidents`` and ``releases`` only wakes it, whoever
wrote it; without a broker it looks twice a second all the same.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog

from redistill.streams.engine import logs
from redistill.streams.engine.metrics_server import MetricsServer
from redistill.streams.errors import LeaseError, StoreUnavailable
from redistill.streams.kafka.broker import Broker
from redistill.streams.kafka.listener import TopicListener
from redistill.streams.store import lease
from redistill.streams.store.database import Database
from redistill.streams.store.process_rows import BEAT_SECONDS, Presence
from redistill.streams.wire.events import TOPICS, IncidentChanged, ReleaseChanged
from redistill.times import to_us
from redistill.workers.alerts.alert import Alert
from redistill.workers.alerts.channel_set import ChannelSet
from redistill.workers.alerts.channels import table
from redistill.workers.alerts.failing import tell_failing
from redistill.workers.alerts.notifier import Notifier
from redistill.workers.alerts.operational import round as round_
from redistill.workers.alerts.operational.heart import Heart
from redistill.workers.alerts.planner import Planner
from redistill.workers.errors import SettingsError
from redistill.workers.processes import metrics_endpoint
from redistill.workers.processes.alert_metrics import AlertMetrics
from redistill.workers.processes.periodic_tasks import PeriodicTask, late
from redistill.workers.processes.task_metrics import TaskMetrics
from redistill.workers.processes.until_stopped import until_stopped
from redistill.workers.settings.settings import Settings
from redistill.workers.store import alert_deliveries, opening
from redistill.workers.store.alert_deliveries import Delivery

__all__ = ["run"]

log = structlog.get_logger(__name__)

LEASE = "alerts"
LEASE_SECONDS, RENEW_SECONDS = 10.0, 3.0
"""Another process tells people this long after this one died."""
PLAN_SECONDS = 0.5
"""How often it is looked what has changed, where nothing wakes us."""
FAILING_SECONDS = 5.0
CHECK_SECONDS = 15.0
"""How often it is looked whether the installation itself is in order."""
HEART_SECONDS = 1.0
"""How often it is looked whether a heartbeat is due."""
BEAT_TIMEOUT_SECONDS = 10.0
LATE_SECONDS = 30.0
"""Without a plan for so long the process says that it is not ready."""
CHECKS_LATE_SECONDS = 120.0
"""The same without a look at the installation: some eight in a row that failed."""
WRONG_SECONDS = 30.0
"""Until a file that was wrong is read again though it did not change: a secret that it names may
have come since."""
STOP_SECONDS = 20.0
"""Longer than a receiver may take, and than a connection that hangs and the one in its place."""


class AlertWorker:
    """All tasks of an alert process, wired.

    Parameters
    ----------
    settings
        Of this process.
    database
        Checked (``redistill.workers.store.opening.open``).
    broker
        Whose records wake; ``None``: nothing does.
    stop
        Set it, and everything ends.

    Raises
    ------
    SettingsError
        ``alerts.toml`` is wrong. Once it runs, a file that became wrong changes nothing, and is
        said.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        database: Database,
        broker: Broker | None,
        stop: threading.Event,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self.holder = f"{settings.instance}:{uuid.uuid4().hex[:8]}"
        self._database = database
        self._settings = settings
        self._beat_at = 0.0
        self._clock = clock or database.clock
        self._token: int | None = None
        self._renewed_at = 0
        self._leads_until = 0.0
        """Monotonic seconds: afterwards another process may tell people."""
        self._path = settings.alerts_path
        self._stamp = _stamp(self._path)
        self._wrong, self._read_again_at = "", 0.0
        self._channels = ChannelSet.read(self._path)
        self._metrics = AlertMetrics(self._channels.channels, namespace=settings.namespace)
        self._metrics_address = settings.metrics_address()
        self._server: MetricsServer | None = None
        self._notifier = self._told()
        self._planner = Planner(database, public_url=settings.public_url, fence=self._fence)
        self._presence = Presence(database, "alerts", self.holder)
        works: list[tuple[str, Callable[[], Any], float]] = [
            ("plan", self._plan, PLAN_SECONDS),
            ("failing", self._failing, FAILING_SECONDS),
            ("checks", self._check, CHECK_SECONDS),
            ("heart", self._beat, HEART_SECONDS),
            ("presence", self._say, BEAT_SECONDS),
        ]
        self._listener: TopicListener | None = None
        if broker is not None:
            topics = [TOPICS[IncidentChanged], TOPICS[ReleaseChanged]]
            self._listener = TopicListener(broker, topics, group=None, handle=self._wake)
            works.append(("listen", self._listener.run_once, 0.0))
        self.tasks = {
            name: PeriodicTask(name, work, every_seconds=seconds, stop=stop)
            for name, work, seconds in works
        }

    def start(self) -> None:
        """Start every task and every channel."""
        if not self._channels.config.ways:
            log.warning("alerts_nobody", action="alerts_nobody", file=str(self._path))
        if self._metrics_address is not None:
            namespace = self._settings.namespace
            tasks = TaskMetrics(self.tasks, process="alerts", namespace=namespace)
            registry = metrics_endpoint.registry_of(
                "alerts", (tasks, self._metrics), namespace=namespace
            )
            self._server = metrics_endpoint.serve(registry, self._metrics_address)
        self._notifier.start()
        for task in self.tasks.values():
            task.start()

    def finish(self) -> bool:
        """After ``stop`` was set: end all, and give the lease back; false: something hangs."""
        for task in self.tasks.values():
            task.wake()
        end = time.monotonic() + STOP_SECONDS
        behind = [n for n, t in self.tasks.items() if not t.join(max(0.0, end - time.monotonic()))]
        told = self._notifier.stop(max(1.0, end - time.monotonic()))
        if behind:
            log.warning("tasks_late", action="tasks_late", tasks=behind)
        try:
            with ExitStack() as stack:
                if self._listener is not None:
                    stack.callback(self._listener.close)
                if self._server is not None:
                    stack.callback(self._server.close)
                stack.callback(self._give_back)
                stack.callback(self._presence.leave)
        except StoreUnavailable as error:
            log.info("lease_kept", action="lease_kept", error=str(error))
        return told and not behind

    def _plan(self) -> None:
        self._reload()
        now = self._clock()
        try:
            if not self._leads(now):
                self._step_back()
                return
            if not self._planner.due(now):
                return
            made = self._planner.round(self._channels.config, self._channels.traits, now=now)
        except LeaseError:
            self._token, self._leads_until = None, 0.0
            self._step_back()
            return
        self._notifier.offer(made.owed)

    def _step_back(self) -> None:
        """Another process tells people."""
        self._notifier.forget()
        self._planner.reset()

    def _failing(self) -> None:
        """Channels that fail are trouble of the installation, told on the others."""
        if self._token is not None:
            tell_failing(self._database, self._channels.config.channels, now=self._clock())

    def _check(self) -> None:
        """Look whether the installation itself is in order."""
        if self._token is not None and round_.run(self._database, self._settings, self._clock()):
            self.tasks["plan"].wake()

    def _beat(self) -> None:
        """Tell the dead man's switch that all is well, if it is."""
        beats, now = self._channels.config.heartbeat, time.monotonic()
        if beats is None or self._token is None or now < self._beat_at:
            return
        channel = table.make(beats.channel, self._channels.config.channels[beats.channel])

        def send(alert: Alert) -> None:
            channel.send(alert, seconds=BEAT_TIMEOUT_SECONDS)

        Heart(self._database, send, own_id=self._presence.process_id).run_once()
        self._beat_at = now + beats.every_seconds

    def _leads(self, now: int) -> bool:
        """Whether this process tells people, with the lease renewed where it is due."""
        if self._token is not None and 0 <= now - self._renewed_at < to_us(RENEW_SECONDS):
            return True
        until = time.monotonic() + LEASE_SECONDS
        with self._database.begin() as conn:
            token = lease.acquire(conn, LEASE, self.holder, now=now, seconds=LEASE_SECONDS)
        if token is not None and self._token is None:
            log.info("alerts_lead", action="alerts_lead", holder=self.holder)
        self._token, self._renewed_at = token, now
        self._leads_until = 0.0 if token is None else until
        return token is not None

    def _fence(self, conn: sa.Connection) -> None:
        if self._token is None:
            raise LeaseError(f"nobody holds the lease {LEASE!r}")
        lease.check(conn, LEASE, self._token, self._clock())

    def _note(self, rows: Sequence[Delivery]) -> None:
        """What was told is true whoever holds the lease by now."""
        with self._database.begin() as conn:
            for row in rows:
                alert_deliveries.note(conn, row)
        for row in rows:
            self._metrics.noted(row)

    def _told(self, before: Notifier | None = None) -> Notifier:
        return Notifier(
            self._channels.channels,
            note=self._note,
            clock=self._clock,
            may=lambda: time.monotonic() < self._leads_until,
            before=before,
        )

    def _reload(self) -> None:
        """Take a changed ``alerts.toml``; one that is wrong changes nothing."""
        stamp = _stamp(self._path)
        changed = stamp != self._stamp
        if not changed and not (self._wrong and time.monotonic() >= self._read_again_at):
            return
        self._stamp, said = stamp, self._wrong
        try:
            channels = ChannelSet.read(self._path)
        except SettingsError as error:
            self._wrong, self._read_again_at = str(error), time.monotonic() + WRONG_SECONDS
            if changed or self._wrong != said:
                log.error("alerts_file_wrong", action="alerts_file_wrong", error=self._wrong)
            return
        self._wrong = ""
        self._channels = channels
        self._notifier = self._told(self._notifier)
        self._notifier.start()
        self._planner.reset()
        log.info("alerts_file_read", action="alerts_file_read", channels=sorted(channels.channels))

    def _wake(self, records: list[Any]) -> None:
        """What a record says is not even read."""
        del records
        self.tasks["plan"].wake()

    def _say(self) -> None:
        said = []
        if late([self.tasks["plan"]], LATE_SECONDS):
            said.append("nothing was planned for half a minute")
        if late([self.tasks["checks"]], CHECKS_LATE_SECONDS):
            said.append("nobody could look at the installation for two minutes")
        self._presence.say("; ".join(said))

    def _give_back(self) -> None:
        with self._database.begin() as conn:
            lease.expire(conn, LEASE, self.holder)


def _stamp(path: Path) -> tuple[int, int] | None:
    """What tells one content of a file from another; ``None``: it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def run(
    settings: Settings,
    *,
    stop: threading.Event,
    ready: Callable[[AlertWorker], None] | None = None,
) -> int:
    """Run an alert process until ``stop`` is set.

    Returns
    -------
    int
        Exit status: 0 ended well, 69 something did not end in time.

    Raises
    ------
    SettingsError
        ``alerts.toml`` is wrong.
    DatabaseError
        The database is away, not upgraded, or newer than this program.
    """
    logs.configure(settings.log_level, process="alerts")
    broker = settings.broker() if settings.has_broker else None
    database = opening.open(settings)
    try:
        worker = AlertWorker(settings, database=database, broker=broker, stop=stop)
        database.wait_out()
        return until_stopped(worker, "alerts", stop=stop, ready=ready)
    finally:
        database.dispose()

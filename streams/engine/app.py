"""Stream worker: Faust in a narrow mode, wired to the accumulator. The only door of this room is
:func:`run`.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import faust
import structlog
from faust.types import AppT

from redistill.streams.engine import logs, start
from redistill.streams.engine.accumulator import Accumulator
from redistill.streams.engine.consumer import HOST, POLL_CHUNKS, BulkConsumer, BulkTransport
from redistill.streams.engine.health import EXIT_STATUS, Health, Watchdog
from redistill.streams.engine.housekeeper import LEASE_SECONDS, HeldLease, Housekeeper
from redistill.streams.engine.metrics import StreamMetrics
from redistill.streams.engine.worker import StreamWorker
from redistill.streams.errors import StoreUnusable, StreamsError
from redistill.streams.kafka.broker import Broker
from redistill.streams.store import lease, specs
from redistill.streams.store.batch import NameLimits
from redistill.streams.store.database import Database, connect
from redistill.streams.store.relay import Relay
from redistill.times import now_us

__all__ = ["StreamConfig", "make_app", "run"]

log = structlog.get_logger(__name__)

PREDICTIONS, LABELS = "predictions", "labels"
SWITCH_SECONDS = 0.001
"""How long a thread waits for the interpreter. The one that reads from the broker needs it for each
256 KB; at Python's 5 ms it falls behind the accumulator, which then has nothing to do."""
LEAVE_SECONDS = 6.0
"""Time to leave the group, after everything was stored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamConfig:
    """Everything a stream worker is told."""

    broker: Broker
    database_url: str
    state_key: bytes
    """Authenticates the pickled part of stored states; the same for all workers of an installation.
    """
    group: str = "redistill-stream"
    """Consumer group, with the namespace if there is one."""
    instance_id: str | None = None
    """Kafka's ``group.instance.id``: a restart within the session timeout moves no partition. Two
    workers with one id would take turns; a lease refuses the second."""
    metrics_port: int | None = None
    """``/metrics`` on loopback; ``None``: none, 0: a free port, which is logged."""
    flush_seconds: float = 0.5
    session_seconds: float = 6.0
    """How long Kafka waits for a worker that died: the broker's minimum, usually."""
    stop_seconds: float = 8.0
    """After SIGTERM: time to store what was taken. Supervisors often kill after ten."""
    patience_seconds: float = 30.0
    """How long a worker may be stuck before the watchdog ends it."""
    names: NameLimits = field(default_factory=NameLimits)
    """How many names from the wire are kept."""
    log_level: str = "info"


def run(config: StreamConfig) -> int:
    """Run a stream worker until SIGTERM or SIGINT.

    Returns
    -------
    int
        Exit status: 0 stopped, 1 it cannot start (the cause was said), 70 the watchdog gave up.
    """
    logs.configure(config.log_level)
    try:
        return _Run(config).run()
    except StreamsError as error:
        log.error("cannot_start", action="cannot_start", error=str(error))
        print(f"redistill: {error}", file=sys.stderr)
        return 1


class _Run:
    """One run: everything is made here, in order, and taken down in reverse."""

    def __init__(self, config: StreamConfig) -> None:
        self.config = config
        self.broker = config.broker
        self.topics = {self.broker.topic(t): t for t in (PREDICTIONS, LABELS)}
        self.health = Health(ticked_at=time.monotonic())
        self.metrics = StreamMetrics(self.broker.namespace)
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{time.time_ns():x}"

    def run(self) -> int:
        """Check, start, work, stop."""
        config = self.config
        database = connect(config.database_url)
        try:
            with database.read() as conn:
                specs.revisions(conn)  # away, locked or not upgraded is said before anything else
            importlib.import_module(
                "redistill.streams.monitor.detectors"
            )  # River: seconds, and not on the way
            start.check(
                self.broker, self.topics, group=config.group, session_seconds=config.session_seconds
            )
            leases = self._leases(database)
            if config.metrics_port is not None:
                port = self.metrics.serve(config.metrics_port)
                log.info("metrics", action="metrics", port=port)
            accumulator = Accumulator(
                database, state_key=config.state_key, kinds=self.topics, names=config.names
            )
            keeper = Housekeeper(
                database=database,
                watched=lambda: accumulator.watched,
                relay=Relay(database, self.broker, holder=self.holder),
                state_key=config.state_key,
                leases=leases,
                health=self.health,
                metrics=self.metrics,
            )
            watchdog = Watchdog(
                self.health,
                servers=self.broker.bootstrap,
                die=_die,
                patience=config.patience_seconds,
            )
            try:  # from here on a signal gives the leases back
                keeper.start()
                watchdog.start()
                _calm_collector()
                sys.setswitchinterval(SWITCH_SECONDS)
                with database.held_open():
                    return asyncio.run(self._main(database, accumulator, keeper))
            finally:
                watchdog.stop()
                keeper.stop(5.0)
        finally:
            database.dispose()

    def _leases(self, database: Database) -> list[HeldLease]:
        """What only one worker may hold; a holder that died on this machine is not waited for."""
        wanted: list[tuple[str, str]] = []
        if database.is_sqlite:
            wanted.append(
                (
                    "stream-file",
                    "another stream worker uses this SQLite file, and one is all it takes; "
                    "for more than one worker use PostgreSQL (REDISTILL_DATABASE)",
                )
            )
        if self.config.instance_id:
            wanted.append(
                (
                    f"member:{self.config.group}:{self.config.instance_id}",
                    f"another stream worker has the static member id {self.config.instance_id!r}; "
                    "each needs one of its own",
                )
            )
        return [HeldLease(name, self._acquire(database, name, refusal)) for name, refusal in wanted]

    def _acquire(self, database: Database, name: str, refusal: str) -> int:
        deadline = time.monotonic() + LEASE_SECONDS + 2
        first = None
        while True:
            now = now_us()
            with database.begin() as conn:
                _expire_dead(conn, name, now)
                token = lease.acquire(conn, name, self.holder, now=now, seconds=LEASE_SECONDS)
                if token is not None:
                    return token
                ends = lease.expires_at(conn, name)
            if first is None:
                first = ends
            if ends != first or time.monotonic() > deadline:  # it was renewed: its holder lives
                raise StoreUnusable(refusal)
            time.sleep(0.5)

    async def _main(self, database: Database, accumulator: Accumulator, keeper: Housekeeper) -> int:
        worker = StreamWorker(
            database=database,
            broker=self.broker,
            accumulator=accumulator,
            topics=self.topics,
            flush_seconds=self.config.flush_seconds,
            health=self.health,
            metrics=self.metrics,
            wake=keeper.wake,
        )
        app = make_app(self.config, worker, list(self.topics))
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, stopping.set)
        loop.set_exception_handler(_on_loop_error)
        log.info("starting", action="starting", group=self.config.group, topics=list(self.topics))
        starting = asyncio.create_task(app.start())
        tasks = [asyncio.create_task(worker.run()), asyncio.create_task(worker.observe())]
        status = 0
        try:
            while not stopping.is_set():
                self._look(app, worker)
                error = _failure(app, [starting, *tasks])
                if error is not None:
                    log.critical("crashed", action="crashed", error=repr(error), exc_info=error)
                    status = EXIT_STATUS
                    break
                await _either(stopping, 0.5)
        finally:
            await self._stop(app, worker, keeper, [*tasks, starting], status)
        return status

    def _look(self, app: AppT, worker: StreamWorker) -> None:
        """Copy what only this loop may read for the watchdog."""
        consumer = app._consumer  # type: ignore[attr-defined]
        if consumer is None:
            return
        if worker.consumer is None and isinstance(consumer, BulkConsumer):
            worker.consumer = consumer
        driver = getattr(consumer._thread, "_consumer", None)
        pending = getattr(getattr(driver, "_coordinator", None), "_pending_exception", None)
        self.health.pending_error = None if pending is None else repr(pending)

    async def _stop(
        self,
        app: Any,
        worker: StreamWorker,
        keeper: Housekeeper,
        tasks: list[asyncio.Task[Any]],
        status: int,
    ) -> None:
        log.info("stopping", action="stopping")
        await worker.stop(self.config.stop_seconds)
        # Everything is stored. With the broker away Faust would take half a minute to stop, and its
        # threads would hold up the interpreter: from here on the process ends in time, whatever
        # hangs.
        guard = threading.Timer(LEAVE_SECONDS, _leave, [status])
        guard.daemon = True
        guard.start()
        for task in tasks:
            task.cancel()
        await asyncio.to_thread(keeper.stop, 3.0)
        try:
            async with asyncio.timeout(LEAVE_SECONDS - 1):
                await app.stop()
        except Exception as error:
            log.warning("left", action="left", error=repr(error))
        worker.close()
        log.info("stopped", action="stopped")


def _failure(app: Any, tasks: list[asyncio.Task[Any]]) -> BaseException | None:
    """What ended Faust or one of our tasks, if anything did."""
    if app.crashed:
        return app.crash_reason or RuntimeError("Faust crashed")
    for task in tasks:
        if task.done() and task.cancelled():  # with a call to Faust's thread that it waited for
            return RuntimeError("Faust's consumer ended while it was asked something")
        if task.done() and (error := task.exception()) is not None:
            return error
    return None


class _App(faust.App):
    """Faust without folders: there are no tables to keep, and the current folder is not ours."""

    def _create_directories(self) -> None:
        """Make none."""


def make_app(config: StreamConfig, worker: StreamWorker, topics: list[str]) -> Any:
    """Faust in the mode that loses nothing: no tables, no acks of its own, no web, no declared
    topics.
    """
    broker = config.broker
    app = _App(
        config.group,
        broker=[f"aiokafka://{server}" for server in broker.bootstrap],
        broker_credentials=_credentials(broker),
        store="memory://",
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=4,
        stream_wait_empty=False,
        stream_buffer_maxsize=131_072,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=4 * 1024 * 1024,
        consumer_metadata_max_age_ms=5_000,
        consumer_group_instance_id=config.instance_id,
        broker_session_timeout=config.session_seconds,
        broker_heartbeat_interval=max(0.2, min(1.0, config.session_seconds / 5)),
        broker_commit_interval=1.0,
        broker_max_poll_interval=60.0,
        broker_max_poll_records=POLL_CHUNKS,
        table_standby_replicas=0,
        logging_config=None,
    )
    setattr(app, HOST, worker)
    app.transport = BulkTransport(app.conf.broker_consumer, app, loop=app.loop)

    async def never(stream: Any) -> None:
        # Makes Faust subscribe; records go to the bulk consumer's queue and never come here.
        async for _ in stream:
            pass

    for topic in topics:
        app.agent(app.topic(topic, value_type=bytes), name=f"redistill.{topic}")(never)
    return app


def _calm_collector() -> None:
    """Look for cycles seldom (the housekeeper does each minute): rows are many small objects
    without any, and looking through them again and again took a third of the processor. What was
    imported is never looked at.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(300_000, 20, 20)


def _credentials(broker: Broker) -> Any:
    security = broker.security
    if security is None or security.protocol == "PLAINTEXT":
        return None
    context = security.ssl_context()
    if not security.protocol.startswith("SASL"):
        return faust.SSLCredentials(context=context)
    return faust.SASLCredentials(
        username=security.username,
        password=security.password,
        mechanism=security.mechanism,
        ssl_context=context,
    )


def _expire_dead(conn: Any, name: str, now: int) -> None:
    """End the lease of a process of this machine that is gone: a restart need not wait for it."""
    holder = lease.holder_of(conn, name, now)
    if holder is None:
        return
    host, _, rest = holder.partition(":")
    pid = rest.partition(":")[0]
    if host != socket.gethostname() or not pid.isdigit():
        return
    if int(pid) == os.getpid():  # in a container every worker is process 1: it was our predecessor
        lease.expire(conn, name, holder)
        return
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        lease.expire(conn, name, holder)
    except PermissionError:
        return


async def _either(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def _on_loop_error(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    log.warning("loop_error", action="loop_error", what=context.get("message"), error=repr(error))


def _die(reason: str) -> None:
    print(f"redistill: the stream worker is stuck and ends: {reason}", file=sys.stderr)
    _leave(EXIT_STATUS)


def _leave(status: int) -> None:
    """End at once: other threads may hang."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

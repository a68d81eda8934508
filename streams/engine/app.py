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
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import structlog
from faust.types import AppT

from redistill.streams.engine import logs, start
from redistill.streams.engine.accumulator import Accumulator
from redistill.streams.engine.bound_topics import BoundTopics
from redistill.streams.engine.broker_looks import BrokerLooks
from redistill.streams.engine.broker_watch import BrokerWatch
from redistill.streams.engine.consumer import BulkConsumer
from redistill.streams.engine.faust_app import StreamConfig, make_app
from redistill.streams.engine.health import CANNOT_START, EXIT_STATUS, Health, Watchdog
from redistill.streams.engine.housekeeper import LEASE_SECONDS, HeldLease, Housekeeper
from redistill.streams.engine.lag import Lag
from redistill.streams.engine.metrics import StreamMetrics
from redistill.streams.engine.topic_looks import TopicLooks
from redistill.streams.engine.worker import StreamWorker
from redistill.streams.errors import (
    BrokerUnavailable,
    StoreUnavailable,
    StoreUnusable,
    StreamsError,
)
from redistill.streams.kafka.broker import check
from redistill.streams.store import lease, specs, state_key
from redistill.streams.store.database import Database, connect
from redistill.streams.store.label_topics import BoundSources, sources_read
from redistill.streams.store.process_rows import Presence
from redistill.streams.store.relay import Relay
from redistill.streams.wire.events import bound_topic

__all__ = ["StreamConfig", "run"]

log = structlog.get_logger(__name__)

PREDICTIONS, LABELS = "predictions", "labels"
SWITCH_SECONDS = 0.001
"""How long a thread waits for the interpreter. The one that reads from the broker needs it for each
256 KB; at Python's 5 ms it falls behind the accumulator, which then has nothing to do."""
ANSWER_SECONDS = 2.0
"""How long a broker may take for each step, when the watchdog asks whether it lets us in."""
AWAY_SECONDS = 2.0
"""Between two tries to start while the broker is away."""
LEAVE_SECONDS = 6.0
"""Time to leave the group, after everything was stored."""


def run(config: StreamConfig) -> int:
    """Run a stream worker until SIGTERM or SIGINT.

    Returns
    -------
    int
        Exit status: 0 stopped, 69 it cannot start (the cause was said), 75 the watchdog gave up.
    """
    running = _Run(config)
    logs.configure(
        config.log_level, process="stream", hushed=lambda: running.health.broker_away is not None
    )
    try:
        return running.run()
    except StreamsError as error:
        log.error("cannot_start", action="cannot_start", error=str(error))
        return CANNOT_START


class _Run:
    """One run: everything is made here, in order, and taken down in reverse."""

    def __init__(self, config: StreamConfig) -> None:
        self.config = config
        self.broker = config.broker
        self.topics = {self.broker.topic(t): t for t in (PREDICTIONS, LABELS)}
        """What is read, as the broker names it, with its name: it grows when a source is bound."""
        self.health = Health(ticked_at=time.monotonic())
        self.metrics = StreamMetrics(self.broker.namespace)
        self.watch = BrokerWatch(self.health, self.metrics)
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{time.time_ns():x}"

    def run(self) -> int:
        """Check, start, work, stop."""
        database = connect(self.config.database_url)
        presence = Presence(database, "stream", self.holder)
        try:
            return self._work(database, presence)
        except (StreamsError, SystemExit, KeyboardInterrupt):  # it was said, or it was asked to
            _left(presence)
            raise
        finally:
            database.dispose()

    def _work(self, database: Database, presence: Presence) -> int:
        config = self.config
        with database.read() as conn:
            specs.revisions(conn)  # away, locked or not upgraded is said before anything else
        with database.begin() as conn:
            state_key.claim(conn, config.state_key)
        importlib.import_module(
            "redistill.streams.monitor.detectors"
        )  # River: seconds, and not on the way
        if config.metrics is not None:
            server = self.metrics.serve(config.metrics)
            log.info("metrics", action="metrics", url=server.url, port=server.port)
        self._wait_for_broker(presence)
        leases = self._leases(database)
        accumulator = Accumulator(
            database, state_key=config.state_key, kinds=self.topics, names=config.names
        )
        database.wait_out()
        sources = BoundSources(database)
        bound = BoundTopics(
            bound=lambda: self._topics_of(sources.read()),
            once_bound=lambda: self._once_bound(database),
            ask=lambda topics: start.existing(self.broker, topics),
            topics=self.topics,
            watch=self.watch,
        )
        bound.find()  # before Faust subscribes, so that the group is joined once
        keeper = Housekeeper(
            database=database,
            watched=lambda: accumulator.watched,
            relay=Relay(database, self.broker, holder=self.holder),
            state_key=config.state_key,
            leases=leases,
            presence=presence,
            health=self.health,
            metrics=self.metrics,
            most_models=config.metrics_models,
        )
        watchdog = Watchdog(
            self.health,
            broker_answers=lambda: check(self.broker, timeout=ANSWER_SECONDS) is None,
            die=_die,
            store_away=database.is_silent,
            patience=config.patience_seconds,
        )
        try:  # from here on a signal gives the leases back
            keeper.start()
            watchdog.start()
            _calm_collector()
            sys.setswitchinterval(SWITCH_SECONDS)
            with database.held_open():
                return asyncio.run(self._main(database, accumulator, keeper, presence, bound))
        finally:
            watchdog.stop()
            keeper.stop(5.0)

    def _wait_for_broker(self, presence: Presence) -> None:
        """Return when the broker lets us in and has what we need. It is waited for while it is
        away, as it would be later on; nothing is held meanwhile.
        """
        while True:
            try:
                start.check(
                    self.broker,
                    self.topics,
                    group=self.config.group,
                    session_seconds=self.config.session_seconds,
                )
            except BrokerUnavailable as error:
                self.watch.trouble("start", error)
                with suppress(StoreUnavailable):
                    presence.say(self.health.waits_for())
                time.sleep(AWAY_SECONDS)
            else:
                self.watch.well("start")
                return

    def _topics_of(self, sources: Iterable[str]) -> dict[str, str]:
        return {self.broker.topic(t): t for t in map(bound_topic, sources)}

    def _once_bound(self, database: Database) -> dict[str, str]:
        with database.read() as conn:
            return self._topics_of(sources_read(conn, self.broker.namespace))

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
            with database.begin() as conn:
                now = database.clock()
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

    async def _main(
        self,
        database: Database,
        accumulator: Accumulator,
        keeper: Housekeeper,
        presence: Presence,
        bound: BoundTopics,
    ) -> int:
        worker = StreamWorker(
            database=database,
            broker=self.broker,
            accumulator=accumulator,
            topics=self.topics,
            flush_seconds=self.config.flush_seconds,
            health=self.health,
            metrics=self.metrics,
            watch=self.watch,
            wake=keeper.wake,
        )
        looks = BrokerLooks(
            why_not=lambda error: start.why_not(
                self.broker, tuple(self.topics), group=self.config.group, error=error
            ),
            consumer=lambda: worker.consumer,
            positions=worker.positions,
            watch=self.watch,
            lag=Lag(self.health, self.metrics),
            looked=worker.looked,
            health=self.health,
            clock=database.clock.seconds,
        )
        topics = TopicLooks(
            ask=lambda: start.topic_ids(self.broker, tuple(self.topics)),
            topics=self.topics,
            held=lambda: worker.topic_ids,
            watch=self.watch,
            changed=worker.distrust,
        )
        app = make_app(self.config, worker, list(self.topics))
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for sign in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sign, stopping.set)
        loop.set_exception_handler(_on_loop_error)
        log.info("starting", action="starting", group=self.config.group, topics=list(self.topics))
        starting = asyncio.create_task(app.start())
        tasks = [asyncio.create_task(x.run()) for x in (worker, looks, topics)]

        async def subscribe(to: Iterable[str]) -> None:
            if worker.consumer is not None:
                await worker.consumer.subscribe(to)

        tasks.append(asyncio.create_task(bound.run(subscribe, lambda: self.health.joined)))
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
            await self._stop(app, worker, keeper, presence, [*tasks, starting], status)
        return status

    def _look(self, app: AppT, worker: StreamWorker) -> None:
        """Give the worker its consumer, once Faust has made it."""
        self.health.ticked_at = time.monotonic()
        consumer = app._consumer  # type: ignore[attr-defined]
        if consumer is None:
            return
        if worker.consumer is None and isinstance(consumer, BulkConsumer):
            worker.consumer = consumer

    async def _stop(
        self,
        app: Any,
        worker: StreamWorker,
        keeper: Housekeeper,
        presence: Presence,
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
        if status == 0:
            await asyncio.to_thread(_left, presence)
        try:
            async with asyncio.timeout(LEAVE_SECONDS - 1):
                await app.stop()
        except Exception as error:  # Faust's; it ends all the same, and the group forgets us
            log.warning("left", action="left", error=repr(error))
        worker.close()
        log.info("stopped", action="stopped")


def _left(presence: Presence) -> None:
    """Tell the others that this process ended in order."""
    try:
        presence.leave()
    except StreamsError as error:
        log.info("row_kept", action="row_kept", error=str(error))


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


def _calm_collector() -> None:
    """Look for cycles seldom (the housekeeper does each minute): rows are many small objects
    without any, and looking through them again and again took a third of the processor. What was
    imported is never looked at.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(300_000, 20, 20)


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


def _die(_: str) -> None:  # why was logged
    _leave(EXIT_STATUS)


def _leave(status: int) -> None:
    """End at once: other threads may hang."""
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)

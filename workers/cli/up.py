"""``redistill up``: broker, stream, repair, alert and web process on one machine."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redistill.workers.cli import common

if TYPE_CHECKING:
    from redistill.streams.kafka.broker import Broker
    from redistill.streams.store.database import Database
    from redistill.workers.processes.supervisor import Death, Supervisor
    from redistill.workers.settings.environment import Process
    from redistill.workers.settings.settings import Settings

__all__ = ["app"]

app = typer.Typer(
    help="Start everything for one machine: broker if none is given, stream, repair, alert and web"
    " process.",
    rich_markup_mode=None,
    add_completion=False,
)

POLL_SECONDS = 0.2
LOOK_SECONDS = 1.0
"""How often it is looked what the processes wait for: they say it every five seconds."""
REMIND_SECONDS = 30.0
"""How often what is waited for is said again."""
NAMES: tuple[Process, ...] = ("stream", "repair", "alerts", "web")


@app.command()
def up(
    broker: Annotated[
        str | None,
        typer.Option(help="host:port of Kafka; default: REDISTILL_BROKER, else one in memory."),
    ] = None,
    broker_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65_535,
            help="Port of the broker in memory, so that its address is the same at each start.",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="Port of the web process; default: its setting."),
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option(help="Folder of database, keys, releases and logs; default: REDISTILL_HOME."),
    ] = None,
) -> None:
    """Start everything for one machine, and start again what dies; Ctrl-C stops all of it.

    Says what it waits for, and "ready" once the processes say so themselves; errors in their logs
    are told here as well. Without a broker an in-memory one is started: good for trying things out,
    and it forgets everything when it stops. In production run `redistill run stream`, `run repair`,
    `run alerts` and `run web` under systemd or Kubernetes instead.

    \b
    redistill up
    redistill up --broker-port 19092      # services keep dev://127.0.0.1:19092
    redistill up --broker kafka:9092 --port 8080
    """
    from redistill.workers.alerts.channel_set import ChannelSet
    from redistill.workers.errors import UsageError
    from redistill.workers.settings import dev_address
    from redistill.workers.store import opening

    settings = common.load(servers=broker, home=home, web_port=port)
    stop = threading.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: stop.set())
    in_memory = not settings.has_broker or dev_address.is_short(settings.servers or "")
    if broker_port is not None and not in_memory:
        raise UsageError("--broker-port is of the broker in memory, and another one is set")
    # what is wrong with these is said here, not in a log
    secrets = ChannelSet.read(settings.alerts_path).config.variables
    database = opening.open(settings)
    memory = None
    try:
        if in_memory:
            from redistill.streams.kafka.dev_broker import DevBroker

            kept = settings.servers.rpartition(":")[2] if settings.servers else ""
            fixed = broker_port or (int(kept) if kept.isdigit() else None)
            memory = DevBroker(namespace=settings.namespace, port=fixed)
            servers = memory.start().servers
            settings = common.load(servers=servers, home=home, web_port=port)
            if fixed is not None:
                dev_address.keep(settings.root, servers)
            _tell_memory(settings, servers.partition("?")[0] if fixed is not None else servers)
        else:
            _want_topics(settings.broker())
        _run(settings, database, stop, secrets)
    finally:
        database.dispose()
        if memory is not None:
            memory.stop()


def _tell_memory(settings: Settings, address: str) -> None:
    common.echo(
        "no broker is set, so this one is in memory: IT FORGETS EVERYTHING WHEN IT STOPS.\n"
        f"  for your services: PredictionLogger({address!r})\n"
        "  for other commands: "
        f"export REDISTILL_BROKER='{address}' REDISTILL_HOME='{settings.root}'\n"
        "  a real Kafka: redistill up --broker host:port"
    )


def _want_topics(broker: Broker) -> None:
    """Say at once which topics are missing; a broker that is away is waited for."""
    from redistill.streams.engine.start import missing_topics, topic_ids
    from redistill.streams.errors import BrokerUnavailable
    from redistill.streams.wire.events import TOPICS

    wanted = [broker.topic(name) for name in TOPICS.values()]
    try:
        missing = missing_topics(wanted, topic_ids(broker, wanted))
    except BrokerUnavailable as error:
        common.echo(f"waits for the broker: {error}")
        return
    if missing is not None:
        raise missing


def _run(
    settings: Settings, database: Database, stop: threading.Event, secrets: frozenset[str]
) -> None:
    """Start the processes and keep them running until ``stop``; ``secrets`` are variables for the
    alert process alone.

    Raises
    ------
    WorkersError
        One cannot be started.
    """
    from redistill.workers.errors import WorkersError
    from redistill.workers.processes.metrics_endpoint import ports_of
    from redistill.workers.processes.supervisor import ProcessSpec, Supervisor
    from redistill.workers.settings.environment import environment

    given: list[Death] = []

    def died(death: Death) -> None:
        common.echo(str(death), err=True)
        if death.again_in is None and death.name != "alerts":  # repairs go on without it
            given.append(death)

    supervisor = Supervisor(settings.root / "logs", on_death=died)
    watch = _Watch(settings, database, supervisor)
    own = {
        "servers": settings.servers,
        "home": str(settings.root),
        "web_port": str(settings.web_port),
    }
    try:
        ports = ports_of(settings.metrics_port, NAMES)
        for name in NAMES:
            env = environment(
                {**own, "metrics_port": ports[name]},
                process=name,
                without=() if name == "alerts" else secrets,
            )
            supervisor.start(
                ProcessSpec(name=name, module="redistill", args=("run", name), env=env)
            )
            common.echo(f"{name:<7} starts, log in {supervisor.log(name)}")
        common.echo("Ctrl-C stops everything")
        while not stop.wait(POLL_SECONDS) and not given:
            watch.tell_errors()
            supervisor.poll()
            watch.look()
        common.echo("stopping")
    finally:
        supervisor.stop()
    if given:
        raise WorkersError(f"{given[0].name} cannot be started: {given[0].last_words}")


class _Watch:
    """What the processes wait for and what goes wrong in them, told as it changes."""

    def __init__(self, settings: Settings, database: Database, supervisor: Supervisor) -> None:
        from redistill.workers.processes.log_lines import LogFollower

        self._settings, self._database = settings, database
        self._since = database.clock()
        self._began = time.monotonic()
        self._looked = self._told_at = self._began
        self._told: dict[str, str] | None = None
        self._web = "the address that its log says"
        self._was_ready = False
        self._logs = {name: LogFollower(supervisor.log(name)) for name in NAMES}

    def tell_errors(self) -> None:
        """Tell what the processes logged as an error since the last time."""
        from redistill.workers.processes.log_lines import fields_of, line_for_people

        for name, follower in self._logs.items():
            for line in follower.lines():
                found = fields_of(line)
                if found is not None and found.get("action") == "web_started":
                    self._web = str(found.get("address"))
                if (said := line_for_people(line)) is not None:
                    common.echo(f"{name}: {said}", err=True)

    def look(self) -> None:
        """Look what they wait for, if it is time."""
        from redistill.streams.errors import StreamsError
        from redistill.streams.store import process_rows
        from redistill.workers.processes.readiness import waits

        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        try:
            with self._database.read() as conn:
                rows = process_rows.seen(conn)
            found = waits(rows, NAMES, since=self._since, now=self._database.clock())
        except StreamsError as error:
            found = {"database": str(error)}
        if found == self._told and (not found or now - self._told_at < REMIND_SECONDS):
            return
        ready = (self._told or {}).keys() - found.keys()
        if not found:
            again = " again" if self._was_ready else ""
            took = common.duration(now - self._began)
            common.echo(f"ready{again} after {took}: {self._addresses()}")
            self._was_ready = True
        else:
            for name in sorted(ready & set(NAMES)):
                common.echo(f"{name:<7} ready")
            for name, reason in found.items():
                if self._told is None or self._told.get(name) != reason or found == self._told:
                    common.echo(f"{name:<7} waits: {reason}")
        self._told, self._told_at = found, now

    def _addresses(self) -> str:
        broker = (self._settings.servers or "").partition("?")[0]
        return f"broker {broker}, releases and metrics at {self._web}"

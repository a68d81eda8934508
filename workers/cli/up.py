"""``redistill up``: broker, stream, repair, alert and web process on one machine."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redistill.workers.cli import common

if TYPE_CHECKING:
    from redistill.streams.kafka.broker import Broker
    from redistill.streams.store.database import Database
    from redistill.workers.processes.supervisor import Death
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
AGAIN_SECONDS = 1.0
"""Between the signal that stops and one that kills."""
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
    signals = _Signals()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signals)
    in_memory = not settings.has_broker or dev_address.is_short(settings.servers or "")
    if broker_port is not None and not in_memory:
        raise UsageError("--broker-port is of the broker in memory, and another one is set")
    # what is wrong with these is said here, not in a log
    settings.metrics_address()
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
        _run(settings, database, signals, secrets)
    finally:
        database.dispose()
        if memory is not None:
            memory.stop()


def _tell_memory(settings: Settings, address: str) -> None:
    common.echo_text(
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


class _Signals:
    """Handler of the signals that stop; it takes no lock, which whom it interrupts may hold.

    Attributes
    ----------
    asked
        Whether one came.
    """

    def __init__(self) -> None:
        self.asked = False
        self._first = self._last = 0.0

    def __call__(self, *_: object) -> None:
        self._last = time.monotonic()
        if not self.asked:
            self._first = self._last
        self.asked = True

    def hurry(self) -> bool:
        """Whether another came later: of one Ctrl-C both a shell and what it runs may tell us."""
        return self._last - self._first > AGAIN_SECONDS


def _run(
    settings: Settings, database: Database, signals: _Signals, secrets: frozenset[str]
) -> None:
    """Start the processes and keep them running until a signal; ``secrets`` are variables for the
    alert process alone.

    Raises
    ------
    UsageError
        One cannot be started, and starting it again does not help.
    """
    from redistill.workers.errors import UsageError
    from redistill.workers.processes.metrics_endpoint import ports_of
    from redistill.workers.processes.process_watch import ProcessWatch
    from redistill.workers.processes.supervisor import ProcessSpec, Supervisor
    from redistill.workers.settings.environment import environment

    ports = ports_of(settings.metrics_port, [name for name in NAMES if name != "web"])
    given: list[Death] = []

    def died(death: Death) -> None:
        complain(str(death))
        watch.died(death.name)
        if death.again_in is None and death.name != "alerts":  # repairs go on without it
            given.append(death)

    def say(text: str, *, err: bool = False) -> None:
        with suppress(OSError):  # a terminal that is gone, or a full disk, ends no process
            common.echo(text, err=err)

    def complain(text: str) -> None:
        say(text, err=True)

    def ready() -> str:
        broker = (settings.servers or "").partition("?")[0]
        web = watch.web or "the address that its log says"
        return f"broker {broker}, releases and metrics at {web}"

    supervisor = Supervisor(settings.root / "logs", on_death=died)
    stop = threading.Event()
    watch = ProcessWatch(database, supervisor, NAMES, say=say, complain=complain, stop=stop)
    own = {
        "servers": settings.servers,
        "home": str(settings.root),
        "web_port": str(settings.web_port),
    }
    try:
        for name in NAMES:
            env = environment(
                {**own, "metrics_port": ports.get(name)},
                process=name,
                without=() if name == "alerts" else secrets,
            )
            supervisor.start(
                ProcessSpec(name=name, module="redistill", args=("run", name), env=env)
            )
            say(f"{name:<7} starts, log in {supervisor.log(name)}")
        say("Ctrl-C stops everything")
        watch.start()
        while not signals.asked and not given:
            watch.tell_errors()
            supervisor.poll()
            watch.look(ready)
            time.sleep(POLL_SECONDS)
        say("stopping; Ctrl-C once more kills what is left")
    finally:
        stop.set()
        supervisor.stop(hurry=signals.hurry)
        watch.close()
    if given:
        raise UsageError(f"{given[0].name} cannot be started: {given[0].last_words}")

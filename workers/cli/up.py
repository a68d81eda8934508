"""``redistill up``: broker, stream, repair and web process on one machine."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from redistill.workers.cli import common

__all__ = ["app"]

app = typer.Typer(
    help="Start everything for one machine: broker if none is given, stream, repair, web process.",
    rich_markup_mode=None,
    add_completion=False,
)

POLL_SECONDS = 0.2


@app.command()
def up(
    broker: Annotated[
        str | None,
        typer.Option(help="host:port of Kafka; default: REDISTILL_BROKER, else one in memory."),
    ] = None,
    home: Annotated[
        Path | None,
        typer.Option(help="Folder of database, keys, releases and logs; default: REDISTILL_HOME."),
    ] = None,
) -> None:
    """Start everything for one machine, and start again what dies; Ctrl-C stops all of it.

    Without a broker an in-memory one is started: good for trying things out, and it forgets
    everything when it stops. In production run `redistill run stream`, `run repair` and `run web`
    under systemd or Kubernetes instead.
    """
    from redistill.workers.errors import WorkersError
    from redistill.workers.processes.supervisor import Death, ProcessSpec, Supervisor
    from redistill.workers.settings.settings import environment
    from redistill.workers.store import opening

    settings = common.load(servers=broker, home=home)
    stop = threading.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: stop.set())
    opening.open(settings).dispose()  # what is wrong with the database is said here, not in a log
    memory = None
    try:
        if not settings.has_broker:
            from redistill.streams.kafka.dev_broker import DevBroker

            memory = DevBroker()
            settings = common.load(servers=memory.start().servers, home=home)
            common.echo(
                "no broker is set, so this one is in memory: IT FORGETS EVERYTHING WHEN IT STOPS.\n"
                f"  for your services: PredictionLogger({settings.servers!r})\n"
                "  for other commands: "
                f"export REDISTILL_BROKER='{settings.servers}' REDISTILL_HOME='{settings.root}'\n"
                "  a real Kafka: redistill up --broker host:port"
            )
        given: list[Death] = []

        def died(death: Death) -> None:
            common.echo(str(death), err=True)
            if death.again_in is None:
                given.append(death)

        supervisor = Supervisor(settings.root / "logs", on_death=died)
        env = environment({"servers": settings.servers, "home": str(settings.root)})
        for name in ("stream", "repair", "web"):
            supervisor.start(
                ProcessSpec(name=name, module="redistill", args=("run", name), env=env)
            )
            common.echo(f"{name:<7} started, log in {supervisor.log(name)}")
        scheme = "https" if settings.web_tls_cert else "http"
        common.echo(f"releases at {scheme}://{settings.web_host}:{settings.web_port}")
        common.echo("Ctrl-C stops everything")
        while not stop.wait(POLL_SECONDS) and not given:
            supervisor.poll()
        common.echo("stopping")
        supervisor.stop()
        if given:
            raise WorkersError(f"{given[0].name} cannot be started: {given[0].last_words}")
    finally:
        if memory is not None:
            memory.stop()

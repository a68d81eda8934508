"""``redistill run``: one process of the system, in the foreground, until SIGTERM."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable

import typer

from redistill.workers.cli import common

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Run one process in the foreground, until SIGTERM: stream, repair or web.",
)

METRICS = typer.Option(
    None,
    "--metrics-port",
    min=0,
    max=65_535,
    help="Prometheus metrics on loopback; 0: a free port, which is logged.",
)


def _leave(status: int) -> None:
    raise typer.Exit(status)


def _when_asked(end: Callable[[], object]) -> None:
    """What a signal does until the process has handlers of its own: its imports take seconds, and
    nothing has begun that would have to be ended first."""
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: end())


@app.command()
def stream(metrics_port: int | None = METRICS) -> None:
    """Watch predictions and labels, and announce what was found.

    Several may run at once on PostgreSQL: Kafka divides the partitions. On SQLite one is all it
    takes, and a second is refused. Exit status: 0 stopped, 1 it cannot start (the cause is said),
    70 stuck: start it again.
    """
    _when_asked(sys.exit)
    from redistill.streams.engine.app import StreamConfig, run
    from redistill.streams.store.batch import NameLimits
    from redistill.workers.store import opening

    settings = common.load(metrics_port=metrics_port)
    broker = settings.broker()
    opening.open(
        settings
    ).dispose()  # a database that is away, old or new is said before Kafka is asked
    _leave(
        run(
            StreamConfig(
                broker=broker,
                database_url=settings.database_url,
                state_key=settings.state_key_bytes(),
                group=settings.consumer_group,
                instance_id=settings.static_member,
                metrics_port=settings.metrics_port,
                flush_seconds=settings.flush_seconds,
                session_seconds=settings.session_timeout_seconds,
                names=NameLimits(
                    new=settings.new_names_per_flush,
                    unregistered=settings.unregistered_kept,
                    versions=settings.versions_per_model,
                ),
                log_level=settings.log_level,
            )
        )
    )


@app.command(short_help="Turn findings into jobs, publish or roll back.")
def repair(metrics_port: int | None = METRICS) -> None:
    """Turn findings into incidents and jobs, rebuild models, publish or roll back.

    Also relays announcements, signs the repository, keeps schedules and deletes what is old, each
    under a lease: several may run at once.
    """
    stop = threading.Event()
    _when_asked(stop.set)
    from redistill.workers.processes import repair_worker as worker

    settings = common.load(metrics_port=metrics_port)
    _leave(worker.run(settings, stop=stop))


@app.command(short_help="Serve releases, health and metrics over HTTP.")
def web(
    host: str | None = typer.Option(None, "--host", help="Address to listen on."),
    port: int | None = typer.Option(None, "--port", min=0, max=65_535, help="Port to listen on."),
) -> None:
    """Serve the signed repository of releases over HTTP, with health and metrics."""
    _when_asked(sys.exit)
    from redistill.workers.web import app as server

    settings = common.load(web_host=host, web_port=port)
    with common.opened(settings) as database:
        status = server.serve(settings, database, started=lambda url: common.echo(f"serving {url}"))
    _leave(status)

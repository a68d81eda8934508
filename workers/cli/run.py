"""``redistill run``: one process of the system, in the foreground, until SIGTERM."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from redistill.workers.cli import common
from redistill.workers.exit_codes import ExitCode

if TYPE_CHECKING:
    from redistill.workers.settings.environment import Process

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    help="Run one process in the foreground, until SIGTERM: stream, repair, alerts or web.",
)

METRICS_PORT = typer.Option(
    None,
    "--metrics-port",
    min=0,
    max=65_535,
    help="Port of Prometheus metrics; 0: a free one, which is logged.",
)
METRICS_HOST = typer.Option(
    None, "--metrics-host", help="Address on which they are served; default: loopback."
)


def _leave(status: int) -> None:
    raise typer.Exit(status)


@contextmanager
def _as_process(kind: Process) -> Iterator[None]:
    """Log lines in place of sentences, from the first on: whoever reads the log parses each."""
    import structlog

    from redistill.streams.engine import logs
    from redistill.streams.errors import StreamsError
    from redistill.workers.errors import WorkersError

    logs.configure(process=kind)
    logs.log_uncaught()
    try:
        yield
    except (StreamsError, WorkersError) as error:
        log = structlog.get_logger(__name__)
        log.error("cannot_start", action="cannot_start", error=str(error))
        raise typer.Exit(getattr(error, "exit_code", ExitCode.FAILED)) from error


def _when_asked(end: Callable[[], object]) -> None:
    """What a signal does until the process has handlers of its own: its imports take seconds, and
    nothing has begun that would have to be ended first."""
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: end())


@app.command()
def stream(
    metrics_port: int | None = METRICS_PORT, metrics_host: str | None = METRICS_HOST
) -> None:
    """Watch predictions and labels, and announce what was found.

    Several may run at once on PostgreSQL: Kafka divides the partitions. On SQLite one is all it
    takes, and a second is refused. Exit status: 0 stopped, 69 it cannot start (the cause is said),
    2 a setting is wrong or a port is taken, 75 stuck: start it again.
    """
    _when_asked(sys.exit)
    with _as_process("stream"):
        from redistill.streams.engine.app import StreamConfig, run
        from redistill.streams.store.batch import NameLimits
        from redistill.workers.store import opening

        settings = common.load("stream", metrics_port=metrics_port, metrics_host=metrics_host)
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
                    metrics=settings.metrics_address(),
                    metrics_models=settings.metrics_models,
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
def repair(
    metrics_port: int | None = METRICS_PORT, metrics_host: str | None = METRICS_HOST
) -> None:
    """Turn findings into incidents and jobs, rebuild models, publish or roll back.

    Also relays announcements, signs the repository, keeps schedules and deletes what is old, each
    under a lease: several may run at once.
    """
    stop = threading.Event()
    _when_asked(stop.set)
    with _as_process("repair"):
        from redistill.workers.processes import repair_worker as worker

        settings = common.load("repair", metrics_port=metrics_port, metrics_host=metrics_host)
        _leave(worker.run(settings, stop=stop))


@app.command(short_help="Tell people what is wrong, and what was done.")
def alerts(
    metrics_port: int | None = METRICS_PORT, metrics_host: str | None = METRICS_HOST
) -> None:
    """Tell people what is wrong and what was done, on the channels of alerts.toml.

    Several may run: one tells, another takes over when it dies. Needs no broker: its records only
    wake it. Exit status: 2 where alerts.toml is wrong.
    """
    stop = threading.Event()
    _when_asked(stop.set)
    with _as_process("alerts"):
        from redistill.workers.processes import alert_worker

        settings = common.load("alerts", metrics_port=metrics_port, metrics_host=metrics_host)
        _leave(alert_worker.run(settings, stop=stop))


@app.command(short_help="Serve releases, health and metrics over HTTP.")
def web(
    host: str | None = typer.Option(None, "--host", help="Address to listen on."),
    port: int | None = typer.Option(None, "--port", min=0, max=65_535, help="Port to listen on."),
) -> None:
    """Serve the signed repository of releases over HTTP, with health and metrics."""
    _when_asked(sys.exit)
    with _as_process("web"):
        from redistill.streams.engine import logs
        from redistill.workers.web import app as server

        settings = common.load("web", web_host=host, web_port=port)
        logs.configure(settings.log_level, process="web")
        with common.opened(settings) as database:
            database.wait_out()
            status = server.serve(settings, database)
        _leave(status)

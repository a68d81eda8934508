"""``redistill topics``: create the topics on the broker, or say what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from redistill.workers.cli import common
from redistill.workers.exit_codes import ExitCode

if TYPE_CHECKING:
    from redistill.workers.settings.settings import Settings

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Create the topics on the broker, or say what is wrong with them.",
)


@app.callback()
def topics() -> None:
    """Create the topics on the broker, or say what is wrong with them."""


@app.command(short_help="Create missing topics; compare the others.")
def apply(
    specs: list[Path] = typer.Argument(
        None,
        metavar="[MODEL.TOML]...",
        help="Models that are to be registered, for the topics of the sources that they bind; those"
        " of registered models are known.",
    ),
    partitions: int | None = typer.Option(
        None,
        "--partitions",
        min=1,
        max=1_000,
        help="Partitions of predictions and labels: a multiple of the stream workers. Default: 8.",
    ),
    replication: int | None = typer.Option(
        None, "--replication", min=1, max=9, help="Copies of each partition. Default: the broker's."
    ),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only look; create nothing."),
    as_json: bool = typer.Option(False, "--json", help="One JSON document instead of lines."),
) -> None:
    """Create missing topics, with retention and compaction, in REDISTILL_NAMESPACE.

    A source that some model binds ([labels] bound) has a topic of its own. Who may write to which
    topic is said as well: the broker's ACLs are all that tells one writer from another. Topics that
    are there are compared and never changed. Exit code 0: all are as they should be; 1: some differ
    (or, in a dry run, are missing); 1: the broker could not be asked.
    """
    from redistill.streams.kafka import dev_broker
    from redistill.streams.kafka.dev_broker import PARTITIONS as DEV_PARTITIONS
    from redistill.workers.documents.installation import TopicLine
    from redistill.workers.processes import topic_writers, topics

    settings = common.load()
    broker = settings.broker()
    bound = _bound(settings, specs or ())
    wanted = topics.wanted(broker, partitions=partitions or topics.PARTITIONS, bound=bound)
    if broker.is_dev:
        # The dev broker makes the others at its start, and cannot be told how any should be.
        if not dry_run:
            dev_broker.make_topics(broker, [t.name for t in wanted])
        fine = [
            TopicLine(
                topic=t.name,
                state="fine",
                partitions=DEV_PARTITIONS,
                notes=[],
                writers=t.writers,
                readers=t.readers,
            )
            for t in wanted
        ]
        common.say(
            fine,
            f"the dev broker has all topics, with {DEV_PARTITIONS} partitions each; it has no ACLs",
            as_json=as_json,
        )
        return
    found = topics.apply(broker, wanted, replication=replication, create=not dry_run)
    if as_json:
        common.print_json(
            [
                TopicLine(
                    topic=f.name,
                    state=f.state,
                    partitions=f.partitions,
                    notes=list(f.notes),
                    writers=t.writers,
                    readers=t.readers,
                )
                for f, t in zip(found, wanted, strict=True)
            ]
        )
    else:
        width = max(len(f.name) for f in found)
        for f in found:
            common.echo(f"{f.name:<{width}}  {f.state:<8} {f.partitions:>3} partitions")
            for note in f.notes:
                common.echo(f"{'':<{width}}  - {note}")
        common.echo("")
        common.echo("who may write, by the broker's ACLs (and who reads):")
        for t in wanted:
            common.echo(f"{t.name:<{width}}  {t.writers} ({t.readers})")
        for line in (*topics.grants(broker, wanted), *topic_writers.doubts(broker, sorted(bound))):
            common.echo(line)
    if any(f.state in ("differs", "missing") for f in found):
        raise typer.Exit(ExitCode.REFUSED)


def _bound(settings: Settings, files: Iterable[Path]) -> set[str]:
    """Sources that registered models bind, and those of files. Without a database there are no
    registered models."""
    from redistill.streams.store.label_topics import bound_sources
    from redistill.workers.errors import DatabaseError
    from redistill.workers.models import spec_file
    from redistill.workers.store import opening

    bound = {s for path in files for s in spec_file.read(path).labels.bound}
    if opening.missing(settings) is not None:
        return bound
    try:
        with common.opened(settings) as database, database.read() as conn:
            return bound | bound_sources(conn)
    except DatabaseError as error:
        common.echo(f"topics of registered models' bound sources are left out: {error}", err=True)
        return bound

"""``redistill topics``: create the topics on the broker, or say what is wrong with them."""

from __future__ import annotations

import typer

from redistill.workers.cli import common
from redistill.workers.exit_codes import ExitCode

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

    Topics that are there are compared and never changed. Exit code 0: all are as they should be; 3:
    some differ (or, in a dry run, are missing); 1: the broker could not be asked.
    """
    from redistill.streams.kafka.dev_broker import PARTITIONS as DEV_PARTITIONS
    from redistill.workers.documents.installation import TopicLine
    from redistill.workers.processes import topics

    broker = common.load().broker()
    if broker.is_dev:
        # The dev broker makes every topic at its start and cannot be told anything about them.
        fine = [
            TopicLine(topic=t.name, state="fine", partitions=DEV_PARTITIONS, notes=[])
            for t in topics.wanted(broker)
        ]
        common.say(
            fine,
            f"the dev broker has all topics, with {DEV_PARTITIONS} partitions each",
            as_json=as_json,
        )
        return
    found = topics.apply(
        broker,
        topics.wanted(broker, partitions=partitions or topics.PARTITIONS),
        replication=replication,
        create=not dry_run,
    )
    if as_json:
        common.print_json(
            [
                TopicLine(topic=f.name, state=f.state, partitions=f.partitions, notes=list(f.notes))
                for f in found
            ]
        )
    else:
        width = max(len(f.name) for f in found)
        for f in found:
            common.echo(f"{f.name:<{width}}  {f.state:<8} {f.partitions:>3} partitions")
            for note in f.notes:
                common.echo(f"{'':<{width}}  - {note}")
    if any(f.state in ("differs", "missing") for f in found):
        raise typer.Exit(ExitCode.REFUSED)

"""``redistill demo``: the whole loop on this machine, in about a minute."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(
    help="Watch drift being caught and repaired, here and now, without a server.",
    rich_markup_mode=None,
    add_completion=False,
)


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Of data, models, traffic and labels.", min=0)] = 0,
    keep: Annotated[
        Path | None,
        typer.Option(
            help="Keep everything in this new folder: database, releases, logs, job folders."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, for programs.")
    ] = False,
    svg: Annotated[
        Path | None, typer.Option(help="Draw the story into this file at the end.")
    ] = None,
    broker: Annotated[
        str | None,
        typer.Option(help="host:port of a real Kafka, instead of the in-memory broker."),
    ] = None,
) -> None:
    """Watch drift being caught and repaired, here and now, without a server.

    A teacher is trained on handwritten digits, three services answer with its small student, a grey
    veil falls on the scanner: redistill finds the harm, diagnoses it, re-distills, proves the new
    student better and publishes it to the running services. Then follow a change that harms nobody,
    labels that are wrong, a kill -9, a roll back, and the proof that nothing was lost.

    Every figure is measured in this run. Exit code 0: all of it happened; 1: something did not.
    """
    from redistill.workers.demo import run, screen

    shown = screen.choose(as_json=as_json)
    if svg is not None:
        shown = screen.Picture(shown, svg)
    status = run.run(shown, seed=seed, broker=broker, keep=keep)
    raise typer.Exit(status)

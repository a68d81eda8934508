"""``redistill publish``: move a model's pointer to a version that passed its gates."""

from __future__ import annotations

import typer

from redistill.workers.cli import common

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="Move a model's pointer to a version that passed its gates.",
)


@app.command()
def publish(
    model: str = common.MODEL,
    version: str = typer.Argument(..., help="Which version; `redistill models NAME` lists them."),
    reason: str = typer.Option("", "--reason", help="Why, for the record."),
    as_json: bool = typer.Option(False, "--json", help="One JSON document instead of a sentence."),
) -> None:
    """Move a model's pointer to a version that passed its gates.

    Services that listen serve it within seconds. Publishing what serves already changes nothing;
    a version that failed a gate, or whose bytes an automatic roll back took away, is refused.

    \b
    redistill publish credit r12-deadbeef
    """
    from redistill.workers.cli.pointer import move

    move(
        "publish",
        model,
        {"version": version, "reason": reason and common.want_reason(reason)},
        as_json=as_json,
    )

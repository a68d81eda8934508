"""``redistill rollback``: move a model's pointer back to the bytes that served before."""

from __future__ import annotations

import typer

from redistill.workers.cli import common

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="Move a model's pointer back to the bytes that served before.",
)


@app.command()
def rollback(
    model: str = common.MODEL,
    to: str | None = typer.Option(
        None, "--to", help="Which version; default: what the present one replaced."
    ),
    reason: str = typer.Option("", "--reason", help="Why, for the record."),
    as_json: bool = typer.Option(False, "--json", help="One JSON document instead of a sentence."),
) -> None:
    """Move a model's pointer back to the exact bytes that served before.

    Services that listen serve them within seconds. Automatic repair of the model pauses for the
    cool-down (REDISTILL_COOL_DOWN_MINUTES); forward again is `redistill publish`.

    \b
    redistill rollback credit
    redistill rollback credit --to 2026-03 --reason "complaints from support"
    """
    from redistill.workers.cli.pointer import move

    move(
        "rollback",
        model,
        {"to": to, "reason": reason and common.want_reason(reason)},
        as_json=as_json,
    )

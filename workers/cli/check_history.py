"""``redistill check-history``: prove the invariants on the database and the topics."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from redistill.times import DAY
from redistill.workers.cli import common
from redistill.workers.exit_codes import ExitCode

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    help="Prove the invariants on the database and the topics.",
)


@app.command()
def check_history(
    offline: bool = typer.Option(
        False, "--offline", help="Look at the database only, even where a broker is set."
    ),
    as_json: bool = typer.Option(False, "--json", help="One JSON document per invariant and line."),
) -> None:
    """Prove that nothing was lost, doubled or forged.

    Eleven invariants, a line each with what was counted. The database is compared with itself,
    with the audit chain, with the states that detectors sealed, and with the repository as a client
    sees it; with REDISTILL_BROKER set with the topics as well: produced = counted + dead letters +
    skipped (markers, aborted transactions) + gaps + pending + held (by open transactions). Work
    that waits is pending, not broken; so is what retention deleted. Exit code 0: all hold; 1: one
    is broken, with what contradicts it.
    """
    from redistill.workers.invariants import check

    settings = common.load()
    broker = settings.broker() if settings.has_broker and not offline else None
    with common.opened(settings) as database:
        checked = check.check(
            database.unhurried(),
            now=database.clock(),
            home=settings.root,
            outbox_kept_us=round(settings.outbox_kept_days * DAY),
            broker=broker,
            state_key=settings.state_key_here(),
        )
    broken = sum(not c.holds for c in checked)
    if as_json:
        for c in checked:
            common.echo(json.dumps(asdict(c), default=str))
        summary = {"invariants": len(checked), "broken": broken, "topics": broker is not None}
        common.echo(json.dumps({"summary": summary}))
    else:
        for c in checked:
            figures = ", ".join(f"{k.replace('_', ' ')} {_figure(v)}" for k, v in c.figures.items())
            common.echo(f"{'holds ' if c.holds else 'BROKEN'} {c.number}. {c.text} ({figures})")
            for problem in c.problems:
                common.echo(f"         {problem}")
            if c.more:
                common.echo(f"         and {c.more:,} more")
        where = "database and topics" if broker is not None else "database only: no broker given"
        common.echo(f"{len(checked) - broken} of {len(checked)} invariants hold ({where})")
    if broken:
        raise typer.Exit(ExitCode.REFUSED)


def _figure(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,}"

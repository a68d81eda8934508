"""``redistill incidents``: what was found, why it happened, what was done, and what a person may
do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from redistill.times import now_us, to_seconds
from redistill.workers.cli import common

__all__ = ["app"]

app = typer.Typer(
    cls=common.Listing,
    add_completion=False,
    rich_markup_mode=None,
    help="List incidents, or show one: what was found, why, and what was done.",
)


@app.command("list")
def list_(
    model: str | None = typer.Option(None, "--model", help="Of this model only."),
    everything: bool = typer.Option(False, "--all", help="Resolved ones as well, newest first."),
    limit: int = typer.Option(50, "--limit", min=1, max=10_000, help="At most so many."),
    as_json: bool = common.AS_JSON,
) -> None:
    """List open incidents, those that need a person first.

    \b
    redistill incidents list
    redistill incidents list --all --model credit
    """
    from redistill.workers.store import incident_queries as queries

    with common.opened(common.load()) as database, database.read() as conn:
        rows = queries.listed(conn, model=model, resolved=everything, limit=limit)
    if as_json:
        common.print_json(rows)
        return
    if not rows:
        common.echo("no incidents" if everything else "no open incidents")
        return
    now = now_us()
    for row in rows:
        state = row["resolution"] or row["stage"]
        common.echo(
            f"{row['incident_id'][:8]}  {row['model']} {row['version']}  {row['incident_class']},"
            f" {state}, {common.ago(row['opened_at'], now)} ago"
        )
        common.echo(f"          {row['why']}")


@app.command(short_help="Show findings, contributors and every step.")
def show(
    incident: str = typer.Argument(..., metavar="ID", help="Its id, or how it begins."),
    as_json: bool = common.AS_JSON,
) -> None:
    """Show one incident: findings, contributors, and every step with its time.

    \b
    redistill incidents show 3f2a81c0
    """
    from redistill.workers.incidents import incident_repository
    from redistill.workers.store import incident_queries as queries

    with common.opened(common.load()) as database, database.read() as conn:
        found = queries.detail(conn, incident_repository.find(conn, incident))
    if as_json:
        common.print_json(found)
    else:
        _print(found)


@app.command()
def resolve(
    incident: str = typer.Argument(..., metavar="ID", help="Its id, or how it begins."),
    reason: str = typer.Option(..., "--reason", help="Why it is over, for the record."),
    as_json: bool = common.AS_JSON,
) -> None:
    """End an incident: you have dealt with it, or it is none.

    Its job, if one is at work, is cancelled. The findings that it is about will not open it again;
    new ones will.

    \b
    redistill incidents resolve 3f2a81c0 --reason "the feed was mended"
    """
    from redistill.workers.errors import UsageError
    from redistill.workers.incidents import incident_repository, lifecycle, model_context

    if not reason.strip():
        raise UsageError("--reason is empty: say why the incident is over")
    with common.opened(common.load()) as database, database.begin() as conn:
        row = incident_repository.find(conn, incident)
        model_context.load(conn, row["model"], lock=True)
        row = incident_repository.find(conn, row["incident_id"])
        if row["status"] != "open":
            raise UsageError(f"incident {row['incident_id']} is resolved already: {row['why']}")
        done = lifecycle.resolve(
            conn, row, "person", why=reason.strip(), actor=common.actor(), now=now_us()
        )
    common.say(dict(done), f"incident {done['incident_id']} is resolved", as_json=as_json)


@app.command()
def approve(
    incident: str = typer.Argument(..., metavar="ID", help="Its id, or how it begins."),
    as_json: bool = common.AS_JSON,
) -> None:
    """Let an incident be repaired although the policy waits or asks.

    Overrides approval on request, pauses, the cool-down and the circuit breaker; never the level of
    the model, the daily budget or the gates.

    \b
    redistill incidents approve 3f2a81c0
    """
    from redistill.workers.incidents import incident_repository, lifecycle, model_context

    settings = common.load()
    fleet_limits = model_context.FleetLimits.of(settings)
    with common.opened(settings) as database, database.begin() as conn:
        row = incident_repository.find(conn, incident)
        lifecycle.approve(conn, row, fleet_limits, actor=common.actor(), now=now_us())
        row = incident_repository.find(conn, row["incident_id"])
    queued = f"attempt {row['attempt']} of incident {row['incident_id']} is queued"
    common.say(dict(row), queued, as_json=as_json)


def _print(found: Mapping[str, Any]) -> None:
    say = common.echo
    state = found["resolution"] or found["stage"]
    say(f"{found['incident_class']} of {found['model']} {found['version']}: {state}")
    say(f"  {found['why']}")
    say(f"  id {found['incident_id']}")
    say(
        f"  cause {found['cause'] or 'not known yet'}, decision {found['decision'] or '-'},"
        f" attempts {found['attempt']}"
    )
    if found["change_low"] is not None:
        low, high = common.moment(found["change_low"]), common.moment(found["change_high"])
        say(f"  the change began between {low} and {high}")
    for finding in found["findings"]:
        say(
            f"\nfinding {finding['kind']} ({common.one_line(finding['scope'])}),"
            f" {finding['status']}: {finding['reason']}"
        )
        for c in finding["contributors"][:5]:
            say(
                f"    {common.one_line(c['column'])}: {c['distance']} {c['value']:.3g}"
                f" (chance gives {c['noise_floor']:.3g})"
            )
    say("")
    table = common.table("TIME", "AFTER", "STEP", "WHAT")
    for column in table.columns[:2]:
        column.no_wrap = True
    for step in found["timeline"]:
        after = common.duration(to_seconds(step["at"] - found["opened_at"]))
        table.add_row(common.moment(step["at"]), after, step["what"], step["why"])
    common.console().print(table)

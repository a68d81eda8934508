"""``redistill jobs``: recompressions, their steps, and their gates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from redistill.times import now_us
from redistill.workers.cli import common

__all__ = ["app"]

app = typer.Typer(
    cls=common.Listing,
    add_completion=False,
    rich_markup_mode=None,
    help="List recompression jobs, or show one with its steps and gates.",
)


WAITED_FOR = {
    "labelled": "labelled rows",
    "gate_labelled": "labelled gate rows",
    "train": "rows to train on",
}
"""What a job waits for, in words, by the name of the count."""


@app.command("list")
def list_(
    model: str | None = typer.Option(None, "--model", help="Of this model only."),
    live: bool = typer.Option(False, "--live", help="Only those that are not over."),
    limit: int = typer.Option(30, "--limit", min=1, max=10_000, help="At most so many."),
    as_json: bool = common.AS_JSON,
) -> None:
    """List jobs, those at work first.

    \b
    redistill jobs list --model credit
    """
    from redistill.workers.store import incident_queries as queries

    with common.opened(common.load()) as database, database.read() as conn:
        rows = queries.jobs_listed(conn, model=model, live=live, limit=limit)
    if as_json:
        common.print_json(rows)
        return
    if not rows:
        common.echo("no jobs")
        return
    now = now_us()
    table = common.table("NO", "MODEL", "STATE", "ASKED BY", "MADE", "TOOK", "RESULT")
    for row in rows:
        outcome = row["outcome"]
        took = outcome.get("seconds")
        table.add_row(
            str(row["number"]),
            row["model"],
            row["state"],
            _trigger(row),
            common.ago(row["created_at"], now) + " ago",
            "-" if took is None else common.duration(took),
            str(outcome.get("why") or outcome.get("last_error") or "-"),
        )
    common.console().print(table)


@app.command(short_help="Show one job with its steps and gates.")
def show(
    job: str = typer.Argument(..., metavar="JOB", help="Its number, or how its id begins."),
    as_json: bool = common.AS_JSON,
) -> None:
    """Show one job: each step with its time, each gate with its value against its limit.

    \b
    redistill jobs show 12
    """
    from redistill.workers.store import incident_queries as queries

    with common.opened(common.load()) as database, database.read() as conn:
        found = queries.job_detail(conn, queries.find_job(conn, job))
    if as_json:
        common.print_json(found)
    else:
        _print(found)


@app.command(short_help="Cancel a job that is not over.")
def cancel(
    job: str = typer.Argument(..., metavar="JOB", help="Its number, or how its id begins."),
    reason: str = typer.Option("cancelled by hand", "--reason", help="Why, for the record."),
    as_json: bool = common.AS_JSON,
) -> None:
    """Cancel a job that is not over; the worker that is at it stops within a second or two.

    \b
    redistill jobs cancel 12 --reason "wrong labels"
    """
    from redistill.workers.errors import UsageError
    from redistill.workers.incidents import lifecycle, model_context
    from redistill.workers.store import audit, job_queue
    from redistill.workers.store import incident_queries as queries

    settings = common.load()
    actor, now = common.actor(), now_us()
    with common.opened(settings) as database, database.begin() as conn:
        found = queries.find_job(conn, job)
        model_context.load(conn, found.model, lock=True)
        found = queries.find_job(conn, found.job_id)
        if found.state not in job_queue.LIVE:
            raise UsageError(f"job {found.number} is over: {found.state}")
        job_queue.finish(
            conn, found, "cancelled", outcome={"reasons": [reason], "why": reason}, now=now
        )
        lifecycle.cancelled_by_person(conn, found, why=reason, actor=actor, now=now)
        audit.append(
            conn, actor, "job.cancelled", found.model, {"job_id": found.job_id, "why": reason}, now
        )
        done = queries.job_detail(conn, queries.find_job(conn, found.job_id))
    common.say(done, f"job {found.number} of {found.model} is cancelled", as_json=as_json)


def _trigger(row: Mapping[str, Any]) -> str:
    if row["trigger_kind"] == "incident":
        return f"incident {row['trigger_id'][:8]}"
    return str(row["trigger_id"]) if row["trigger_kind"] == "actor" else str(row["trigger_kind"])


def _print(found: Mapping[str, Any]) -> None:
    from redistill.workers.store.incident_queries import step_text

    console = common.console()
    outcome = found["outcome"]
    common.echo(
        f"job {found['number']} of {found['model']}: {found['state']}"
        + (f", {outcome['version']}" if "version" in outcome else "")
    )
    if why := outcome.get("why") or outcome.get("last_error"):
        common.echo(f"  {why}")
    common.echo(f"  id {found['job_id']}, asked by {_trigger(found)}")
    common.echo(
        f"  made {common.moment(found['created_at'])}, waits for labels until"
        f" {common.moment(found['deadline_at'])}"
    )
    if found["state"] == "waiting_labels" and (wait := outcome.get("wait")):
        common.echo(
            f"  had {found['gate_rows']:,} {WAITED_FOR[wait['count']]} when it was last judged,"
            f" is judged again at {wait['rows']:,}"
        )
    if found["steps"]:
        console.print()
        table = common.table("STEP", "WHAT")
        for step in found["steps"]:
            table.add_row(step["name"], step_text(step))
        console.print(table)
    if found["gates"]:
        console.print()
        table = common.table("GATE", "VALUE", "LIMIT", "", "WHY")
        words = {True: "passed", False: "FAILED", None: "undecided"}
        for gate in found["gates"]:
            table.add_row(
                gate["name"],
                _number(gate["value"]),
                _number(gate["limit"]),
                words[gate["passed"]],
                gate["why"],
            )
        console.print(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"

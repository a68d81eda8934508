"""``redistill jobs``: recompressions, their steps, and their gates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import typer

from redistill.workers.cli import common

__all__ = ["app"]

app = typer.Typer(
    cls=common.Listing,
    add_completion=False,
    rich_markup_mode=None,
    help="List recompression jobs, or show one with its steps and gates.",
)


NEXT = {
    "repair": "make a candidate",
    "gate": "judge the candidate again",
    "publish": "publish the candidate",
}
"""What is done next, in words, by the phase."""


@app.command("list")
def list_(
    model: str | None = common.OF_MODEL,
    live: bool = typer.Option(False, "--live", help="Only those that are not over."),
    limit: int = typer.Option(30, "--limit", min=1, max=10_000, help="At most so many."),
    as_json: bool = common.AS_JSON,
) -> None:
    """List jobs, those at work first.

    \b
    redistill jobs list --model credit
    """
    from redistill.workers.documents.job import line_of_job
    from redistill.workers.store import incident_queries as queries

    with common.opened(common.load()) as database, database.read() as conn:
        common.want_model(conn, model)
        rows = queries.jobs_listed(conn, model=model, live=live, limit=limit)
    if as_json:
        common.print_json([line_of_job(row) for row in rows])
        return
    if not rows:
        common.echo("no jobs")
        return
    now = database.clock()
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
            _why(row) or "-",
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
    from redistill.compress.plan import DOCUMENTS
    from redistill.workers.documents.job import document_of_job
    from redistill.workers.store import incident_queries as queries

    settings = common.load()
    with common.opened(settings) as database, database.read() as conn:
        found = queries.job_detail(conn, queries.find_job(conn, job))
    if as_json:
        common.print_json(document_of_job(found))
        return
    _print(found)
    written = settings.jobs_folder / found["job_id"] / "candidate" / DOCUMENTS
    if written.is_dir():
        common.echo(f"model card, gate report, lineage and bill of materials: {written}")


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
    from redistill.workers.documents.job import document_of_job
    from redistill.workers.errors import UsageError
    from redistill.workers.incidents import lifecycle, model_context
    from redistill.workers.store import audit, job_queue
    from redistill.workers.store import incident_queries as queries

    reason = common.want_reason(reason)
    settings = common.load()
    with common.opened(settings) as database, database.begin() as conn:
        actor, now = common.actor(), database.clock()
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
    common.say(
        document_of_job(done), f"job {found.number} of {found.model} is cancelled", as_json=as_json
    )


def _trigger(row: Mapping[str, Any]) -> str:
    if row["trigger_kind"] == "incident":
        return f"incident {row['trigger_id'][:8]}"
    return str(row["trigger_id"]) if row["trigger_kind"] == "actor" else str(row["trigger_kind"])


def _why(row: Mapping[str, Any]) -> str:
    """Why a job is where it is. Of one that is at work, what stopped it before: what it waited for
    is over."""
    outcome = row["outcome"]
    told = ("last_error",) if row["state"] in ("queued", "running") else ("why", "last_error")
    return next((str(outcome[key]) for key in told if outcome.get(key)), "")


def _print(found: Mapping[str, Any]) -> None:
    from redistill.workers.cli.judged import cost_line, gap_lines, gate_table
    from redistill.workers.documents.job import wait_of
    from redistill.workers.store.incident_queries import step_text

    console = common.console()
    outcome = found["outcome"]
    common.echo(
        f"job {found['number']} of {found['model']}: {found['state']}"
        + (f", {outcome['version']}" if "version" in outcome else "")
    )
    if why := _why(found):
        common.echo_text(common.paragraph(why))
    common.echo(f"  id {found['job_id']}, asked by {_trigger(found)}")
    common.echo(
        f"  made {common.moment(found['created_at'])}, waits for labels until"
        f" {common.moment(found['deadline_at'])}"
    )
    if wait := wait_of(found):
        common.echo(f"  had {wait.have:,} {wait.said} at the last look, goes on at {wait.need:,}")
    for told in _remembered(found):
        common.echo_text(common.paragraph(told))
    for recipe in found["recipes"]:
        for line in _recipe(recipe, of_incident=found["incident_id"] is not None):
            common.echo(f"  {line}")
    if found["steps"]:
        console.print()
        table = common.table("STEP", "WHAT")
        for step in found["steps"]:
            table.add_row(step["name"], step_text(step))
        console.print(table)
    if found["gates"]:
        console.print()
        console.print(gate_table(found["gates"]))
    for line in gap_lines(found["gaps"]):
        common.echo(line)
    if found["cost"]:
        common.echo(cost_line(found["cost"]))


def _remembered(found: Mapping[str, Any]) -> Iterator[str]:
    """What else the job's options and its outcome say, a sentence each."""
    from redistill.workers.documents.job import document_of_job
    from redistill.workers.store.job_queue import LIVE

    outcome, options = found["outcome"], found["options"]
    if found["state"] in LIVE and (phase := outcome.get("phase")):
        yield f"next: {NEXT[phase]}"
    if cause := outcome.get("cause"):
        yield f"cause {cause}"
    if beaten := outcome.get("incumbent"):
        yield f"compared with {beaten}"
    if train_on := options.get("train_on"):
        source = f" of source {options['source']}" if "source" in options else ""
        yield f"learns from {'its teacher' if train_on == 'teacher' else train_on + source}"
    for gate, who in options.get("waived", {}).items():
        yield f"gate {gate} is waived by {who}"
    for question in outcome.get("asked", ()):
        waived = ", ".join(question["waived"])
        beside = f" (with {waived} waived)" if waived else ""
        answered = common.moment(question["answered_at"])
        asked = common.moment(question["at"])
        yield f"asked {asked}, answered {answered}{beside}: {question['why']}"
    if (error := outcome.get("last_error")) and error != _why(found):
        yield f"was stopped before: {error}"
    if failures := outcome.get("failures"):
        yield f"failed tries: {failures}"
    if names := outcome.get("recipes"):
        yield f"recipes in this order: {', '.join(names)}"
    if again := outcome.get("again"):
        yield f"no recipe is left: goes on with the candidate of recipe {again}"
    if asked_about := outcome.get("asked_about"):
        yield f"a person was asked about the candidate of recipe {asked_about}"
    yield from (_remedy(remedy) for remedy in document_of_job(found).remedies)
    if sha256 := outcome.get("sha256"):
        epoch = f", epoch {outcome['epoch']}" if "epoch" in outcome else ""
        yield f"candidate {sha256}{epoch}"
    if (seconds := outcome.get("seconds")) is not None:
        yield f"took {common.duration(seconds)}"


def _remedy(remedy: Mapping[str, Any]) -> str:
    """What was thought of a remedy, and what it took; an estimate is never told as a measurement.

    Examples
    --------
    >>> thought = {"name": "warm", "why_not": None, "estimated_cpu_seconds": 1.5}
    >>> _remedy({**thought, "cpu_seconds": 1.25})
    'remedy warm: 1.2 CPU seconds, measured (1.5 estimated)'
    >>> _remedy({**thought, "cpu_seconds": None})
    'remedy warm: not tried, about 1.5 CPU seconds, estimated'
    >>> _remedy({**thought, "why_not": "no weights", "cpu_seconds": None})
    'remedy warm: not possible, no weights'
    """
    name, estimate = remedy["name"], remedy["estimated_cpu_seconds"]
    if why_not := remedy["why_not"]:
        return f"remedy {name}: not possible, {why_not}"
    if (took := remedy["cpu_seconds"]) is not None:
        beside = "" if estimate is None else f" ({estimate:.1f} estimated)"
        return f"remedy {name}: {took:.1f} CPU seconds, measured{beside}"
    known = "cost not known" if estimate is None else f"about {estimate:.1f} CPU seconds, estimated"
    return f"remedy {name}: not tried, {known}"


def _recipe(recipe: Mapping[str, Any], *, of_incident: bool) -> Iterator[str]:
    """What came of one way to make a candidate; those of an incident are numbered when they face
    fresh rows."""
    from redistill.compress.judge.gates.recipe import MOST
    from redistill.compress.recipes import RECIPES

    how = RECIPES.get(recipe["name"])
    text = f"recipe {recipe['name']}" + (f" ({how.told})" if how else "")
    if recipe["number"] is not None:
        text += f", candidate {recipe['number']} of at most {MOST} on the incident's fresh rows"
    if recipe["reasons"]:
        unseen = of_incident and recipe["number"] is None
        came = "open, a person can decide" if recipe.get("open") else "refused"
        text += f": {came}" + (" before it faced fresh rows" if unseen else "")
    yield text
    for reason in recipe["reasons"]:
        yield f"  {reason}"

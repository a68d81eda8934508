"""``redistill recompress``: ask for a recompression now."""

from __future__ import annotations

import enum
import time
import uuid
from typing import TYPE_CHECKING, Any

import typer

from redistill.workers.cli import common
from redistill.workers.exit_codes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redistill.streams.store.database import Database

__all__ = ["app", "ask"]

app = typer.Typer(add_completion=False, rich_markup_mode=None, help="Ask for a recompression now.")

WAIT_LOOK_SECONDS = 0.2
SETTLED_SECONDS = 10.0
"""A job that waits for labels for so long waits; before, it may be about to go on: rows came in
while it was judged."""

EXIT_CODES = {
    "succeeded": ExitCode.OK,
    "rejected": ExitCode.REFUSED,
    "cancelled": ExitCode.REFUSED,
    "waiting_labels": ExitCode.UNDECIDED,
    "expired": ExitCode.UNDECIDED,
    "needs_person": ExitCode.NEEDS_PERSON,
}
"""Of ``--wait``, by the state of the job; of one that failed, 69."""


class TrainOn(enum.StrEnum):
    """What the student learns from."""

    TEACHER = "teacher"
    LABELS = "labels"


@app.command()
def recompress(
    model: str = common.MODEL,
    train_on: TrainOn = typer.Option(
        TrainOn.TEACHER, "--train-on", help="What the student learns from."
    ),
    source: str | None = typer.Option(
        None,
        "--source",
        help="With --train-on labels: a label source to believe for this job only, also one outside"
        " [labels] sources.",
    ),
    waive: list[str] = common.WAIVE,
    reason: str | None = common.WAIVE_REASON,
    wait: bool = typer.Option(False, "--wait", help="Wait until the job is over."),
    timeout: float = typer.Option(
        600.0, "--timeout", min=1.0, help="With --wait: seconds to wait at most."
    ),
    as_json: bool = typer.Option(False, "--json", help="One JSON document instead of sentences."),
) -> None:
    """Ask for a recompression of the last rows, and publish it if it is a gain.

    It has to pass the same gates as a repair: not worse than what serves by a point, on fresh and
    on trusted rows, and better, smaller or faster by a tenth. Where the last such job that asked
    could not decide on trusted rows, --waive takes that gate upon you: its candidate is judged
    again without it, with your name and reason in the report. Exit code with --wait: 0 published,
    1 rejected or cancelled, 3 it waits for labels or they did not come, 5 it needs a person, 6 it
    is not over after --timeout, 69 it failed.

    \b
    redistill recompress credit --wait
    redistill recompress credit --train-on labels --source analyst
    redistill recompress credit --waive trusted --reason "old rows, old prices"
    """
    from redistill.workers.documents.job import document_of_job
    from redistill.workers.errors import UsageError
    from redistill.workers.jobs.question import WAIVABLE
    from redistill.workers.store import incident_queries as queries

    if source is not None and train_on is not TrainOn.LABELS:
        raise UsageError("--source needs --train-on labels: a teacher reads no labels")
    if source is not None:
        common.want_source(source)
    settings = common.load()
    options: dict[str, Any] = {"train_on": train_on.value}
    if source is not None:
        options["source"] = source
    waived = common.waived(waive, reason, WAIVABLE)
    with common.opened(settings) as database:
        job_id, number = ask(
            database,
            model,
            options,
            actor=common.actor(),
            request=str(uuid.uuid4()),
            now=database.clock(),
            waived=waived,
        )
        if not as_json:
            common.echo(f"job {number} of {model} is queued; `redistill jobs show {number}`")
        if source is not None:
            _warn_of_unseen(database, model, source, number)
        if not wait:
            if as_json:
                with database.read() as conn:
                    made = queries.job_detail(conn, queries.find_job(conn, job_id))
                common.print_json(document_of_job(made))
            return
        found = _wait(database, job_id, timeout)
    state = str(found["state"])
    if as_json:
        common.print_json(document_of_job(found))
    else:
        common.echo(f"job {number}: {state}: {found['outcome'].get('why', '-')}")
    raise typer.Exit(EXIT_CODES.get(state, ExitCode.FAILED))


def ask(
    database: Database,
    model: str,
    options: dict[str, Any],
    *,
    actor: str,
    request: str,
    now: int,
    waived: Mapping[str, str] | None = None,
) -> tuple[str, int]:
    """Make the job, or take the last one up again whose question a waiver answers.

    Parameters
    ----------
    waived
        Gates of trusted rows that the person takes upon themselves, with the reason.

    Returns
    -------
    tuple
        Its id and its number.

    Raises
    ------
    UsageError
        The model is not registered, at a level without repair, serves nothing, or has a live job.
    """
    from redistill.workers.errors import UsageError
    from redistill.workers.incidents import lifecycle, model_context
    from redistill.workers.store import audit, job_queue, names

    with database.begin() as conn:
        found = model_context.load(conn, model, lock=True)
        if found is None:
            raise UsageError(names.no_such_model(conn, model))
        if found.level != "repair":
            raise UsageError(
                f"{model} is at level {found.level}: recompression needs level repair, with a"
                " teacher, in its model.toml"
            )
        live = job_queue.live(conn, model)
        if live is not None:
            raise UsageError(
                f"job {live.number} of {model} is {live.state}: wait for it, or cancel it with"
                f" `redistill jobs cancel {live.number}`"
            )
        told = {gate: f"{actor}: {why}" for gate, why in (waived or {}).items()}
        # not the last job only: a schedule, or another candidate, may have come between
        asked = job_queue.questions(conn, model) if told else []
        question = next((job for job in asked if _made_as(job.options, options)), None)
        if question and lifecycle.take_up(conn, question, found, waived=told, now=now):
            job_id = question.job_id
        else:
            job_id = job_queue.job_id_of(model, request)
            job_queue.create(
                conn,
                job_id,
                model=model,
                trigger=("actor", actor),
                deadline_at=now + found.wait,
                now=now,
                options=options | ({"waived": told} if told else {}),
            )
        audit.append(conn, actor, "job.asked", model, {"job_id": job_id, **options}, now)
        lifecycle.say_waived(conn, model, job_id, told, actor=actor, now=now)
        made = job_queue.get(conn, job_id)
    if made is None:
        raise UsageError(f"another job of {model} was made at the same moment: try again")
    return job_id, made.number


def _warn_of_unseen(database: Database, model: str, source: str, number: int) -> None:
    """A source that is mistyped would keep the model's one live job until its deadline. One that
    is yet to come is none, and labels that were imported just now may not be stored yet: so the
    job is made."""
    from redistill.workers.incidents import model_context
    from redistill.workers.store import names

    with database.read() as conn:
        found = model_context.load(conn, model)
        believed = found.spec.labels.sources if found else ()
        unseen = names.unseen_source(conn, model, source, believed)
    if unseen is not None:
        common.echo(
            f"redistill: warning: {unseen}. The job waits until they are;"
            f" `redistill jobs cancel {number}` takes it back",
            err=True,
        )


def _made_as(options: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether a job made its candidate in the way that is asked for."""
    made = {"train_on": TrainOn.TEACHER.value, **options}
    return all(made.get(key) == asked.get(key) for key in ("train_on", "source"))


def _wait(database: Database, job_id: str, seconds: float) -> dict[str, Any]:
    """Wait until a job is over, or waits for labels."""
    from redistill.workers.errors import NotInTime
    from redistill.workers.store import incident_queries as queries
    from redistill.workers.store import job_queue

    until = time.monotonic() + seconds
    waits_for = 0.0
    while True:
        with database.read() as conn:
            job = queries.find_job(conn, job_id)
            waits_for = waits_for + WAIT_LOOK_SECONDS if job.state == "waiting_labels" else 0.0
            if job.state not in job_queue.LIVE or waits_for > SETTLED_SECONDS:
                return queries.job_detail(conn, job)
        if time.monotonic() > until:
            raise NotInTime(
                f"job {job.number} is still {job.state} after {seconds:g} s: is a repair worker"
                f" running? It stays queued; `redistill jobs cancel {job.number}` takes it back"
            )
        time.sleep(WAIT_LOOK_SECONDS)

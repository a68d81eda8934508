"""``redistill recompress``: ask for a recompression now."""

from __future__ import annotations

import enum
import getpass
import time
import uuid
from typing import TYPE_CHECKING, Any

import typer

from redistill.times import now_us
from redistill.workers.cli import common

if TYPE_CHECKING:
    from redistill.streams.store.database import Database

__all__ = ["app", "ask"]

app = typer.Typer(add_completion=False, rich_markup_mode=None, help="Ask for a recompression now.")

WAIT_LOOK_SECONDS = 0.2

EXIT_CODES = {"succeeded": 0, "rejected": 3, "waiting_labels": 4}
"""Of ``--wait``; other ends are 1."""


class TrainOn(enum.StrEnum):
    """What the student learns from."""

    TEACHER = "teacher"
    LABELS = "labels"


@app.command()
def recompress(
    model: str = typer.Argument(..., help="Name of the model."),
    train_on: TrainOn = typer.Option(
        TrainOn.TEACHER, "--train-on", help="What the student learns from."
    ),
    source: str | None = typer.Option(
        None,
        "--source",
        help="With --train-on labels: a label source to believe for this job only, also one outside"
        " [labels] sources.",
    ),
    wait: bool = typer.Option(False, "--wait", help="Wait until the job is over."),
    timeout: float = typer.Option(
        600.0, "--timeout", min=1.0, help="With --wait: seconds to wait at most."
    ),
    as_json: bool = typer.Option(False, "--json", help="One JSON document instead of sentences."),
) -> None:
    """Ask for a recompression of the last rows, and publish it if it is a gain.

    It has to pass the same gates as a repair: not worse than what serves by a point, on fresh and
    on trusted rows, and better, smaller or faster by a tenth. Exit status with --wait: 0 published,
    3 rejected, 4 it waits for labels, 1 anything else.

    \b
    redistill recompress credit --wait
    redistill recompress credit --train-on labels --source analyst
    """
    from redistill.workers.errors import UsageError

    if source is not None and train_on is not TrainOn.LABELS:
        raise UsageError("--source needs --train-on labels: a teacher reads no labels")
    settings = common.load()
    options: dict[str, Any] = {"train_on": train_on.value}
    if source is not None:
        options["source"] = source
    with common.opened(settings) as database:
        job_id, number = ask(
            database,
            model,
            options,
            actor=f"cli:{getpass.getuser()}",
            request=str(uuid.uuid4()),
            now=now_us(),
        )
        if not as_json:
            common.echo(f"job {number} of {model} is queued; `redistill jobs show {number}`")
        if not wait:
            if as_json:
                common.print_json({"job_id": job_id, "number": number, "state": "queued"})
            return
        found = _wait(database, job_id, timeout)
    state = str(found["state"])
    if as_json:
        common.print_json(found)
    else:
        common.echo(f"job {number}: {state}: {found['outcome'].get('why', '-')}")
    raise typer.Exit(EXIT_CODES.get(state, 1))


def ask(
    database: Database,
    model: str,
    options: dict[str, Any],
    *,
    actor: str,
    request: str,
    now: int,
) -> tuple[str, int]:
    """Make the job.

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
    from redistill.workers.incidents import model_context
    from redistill.workers.store import audit, job_queue

    with database.begin() as conn:
        found = model_context.load(conn, model, lock=True)
        if found is None:
            raise UsageError(f"there is no model {model!r}: see `redistill models`")
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
        job_id = job_queue.job_id_of(model, request)
        job_queue.create(
            conn,
            job_id,
            model=model,
            trigger=("actor", actor),
            deadline_at=now + found.wait,
            now=now,
            options=options,
        )
        audit.append(conn, actor, "job.asked", model, {"job_id": job_id, **options}, now)
        made = job_queue.get(conn, job_id)
    if made is None:
        raise UsageError(f"another job of {model} was made at the same moment: try again")
    return job_id, made.number


def _wait(database: Database, job_id: str, seconds: float) -> dict[str, Any]:
    """Wait until a job is over, or waits for labels."""
    from redistill.workers.errors import UsageError
    from redistill.workers.store import incident_queries as queries
    from redistill.workers.store import job_queue

    until = time.monotonic() + seconds
    settled = 0
    while True:
        with database.read() as conn:
            job = queries.find_job(conn, job_id)
            # a job that waits may be about to go on: rows came in while it was judged
            settled = settled + 1 if job.state == "waiting_labels" else 0
            if job.state not in job_queue.LIVE or settled * WAIT_LOOK_SECONDS > 10.0:
                return queries.job_detail(conn, job)
        if time.monotonic() > until:
            raise UsageError(
                f"job {job.number} is still {job.state} after {seconds:g} s: is a repair worker"
                f" running? It stays queued; `redistill jobs cancel {job.number}` takes it back"
            )
        time.sleep(WAIT_LOOK_SECONDS)

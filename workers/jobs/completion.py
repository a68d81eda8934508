"""Completion of a claim: the job waits, goes on with another recipe, ends, or becomes a release.

Each is one transaction of the job's session; what its incident is told is part of it.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import structlog

from redistill.compress.plan import NeedsPerson, Report, Tried
from redistill.streams.errors import ReleaseError
from redistill.times import to_seconds
from redistill.workers.errors import LeaseLost
from redistill.workers.incidents import lifecycle
from redistill.workers.incidents.model_context import FleetLimits
from redistill.workers.jobs import job_spec, turn
from redistill.workers.jobs.child_outcome import ChildFailed
from redistill.workers.jobs.dependencies import Dependencies
from redistill.workers.jobs.job_spec import JobInputs
from redistill.workers.jobs.publish import EarlierRelease
from redistill.workers.jobs.question import question
from redistill.workers.jobs.session import JobSession, JobTransaction
from redistill.workers.jobs.turn import Turn
from redistill.workers.store import job_queue

__all__ = ["ask_person", "end", "fall_back", "go_on", "park", "publish", "reject"]

log = structlog.get_logger(__name__)


def park(transaction: JobTransaction, wait: Mapping[str, Any], *, have: int, why: str) -> None:
    """Let the job wait for rows (``JobTransaction.park``), and tell its incident."""
    job = transaction.park(wait, have=have, why=why)
    lifecycle.job_parked(
        transaction.conn, job, why=why, actor=transaction.actor, now=transaction.now
    )
    log.info(
        "job_waits", action="job_waits", job_id=job.job_id, have=have, need=wait["rows"], why=why
    )


def finish(
    transaction: JobTransaction,
    fleet_limits: FleetLimits,
    state: str,
    *,
    why: str,
    outcome: Mapping[str, Any],
) -> None:
    """End the job, and tell its incident."""
    now = transaction.now
    seconds = to_seconds(now - (transaction.job().started_at or now))
    job = transaction.finish(state, {**outcome, "why": why, "seconds": seconds})
    lifecycle.job_ended(
        transaction.conn,
        replace(job, state=state),
        state,
        why=why,
        fleet_limits=fleet_limits,
        actor=transaction.actor,
        now=now,
    )
    log.info(
        "job_ended", action="job_ended", job_id=job.job_id, state=state, why=why, seconds=seconds
    )


def end(session: JobSession, fleet_limits: FleetLimits, state: str, *, why: str) -> None:
    """End the job without a release; if it is not ours any more, leave it."""
    try:
        with session.fenced() as transaction:
            finish(transaction, fleet_limits, state, why=why, outcome={"reasons": [why]})
    except (LeaseLost, job_queue.JobEnded) as error:
        log.warning("job_left", action="job_left", job_id=session.job.job_id, why=str(error))


def go_on(
    session: JobSession,
    deps: Dependencies,
    context: JobInputs,
    report: Report,
    present: Turn,
    judged: Tried,
    *,
    again: str | None = None,
) -> None:
    """The candidate failed its gates, or only a person can decide about it: say which, and let the
    next recipe have its turn.

    Parameters
    ----------
    judged
        What came of the present recipe.
    again
        No recipe follows: the one whose finished candidate, left open before, is judged again.
    """
    came = "is left open for a person" if judged.open else "was refused"
    following = f"{again} is judged again" if again else f"{present.after(judged)} is next"
    why = f"recipe {judged.name} {came} ({'; '.join(judged.reasons)}); {following}"
    with session.fenced() as transaction:
        transaction.remember(
            phase="gate" if again else "repair",
            recipes=list(present.recipes),
            tried=msgspec.to_builtins(present.every(judged)),
            again=again,
        )
        if not judged.open:
            deps.publisher.rejected(transaction.conn, report, context, now=transaction.now)
        lifecycle.candidate_refused(
            transaction.conn,
            transaction.job(),
            why=why,
            actor=transaction.actor,
            now=transaction.now,
            left_open=judged.open,
        )
    action = "recipe_left_open" if judged.open else "recipe_refused"
    log.info(action, action=action, job_id=session.job.job_id, why=why)


def fall_back(session: JobSession, *, why: str) -> bool:
    """The present recipe failed for good: where an earlier candidate is open, the job goes on
    without the recipe, since a person can still decide about that one.

    Returns
    -------
    bool
        Whether it goes on; false: nothing is open, or the open one itself cannot be judged again.
    """
    with session.fenced() as transaction:
        job = transaction.job()
        present = turn.read(transaction.conn, job_spec.read_inputs(transaction.conn, job), job)
        if present.again is not None or not any(t.open for t in present.tried):
            return False
        failed = Tried(name=present.name, number=None, sha256=None, reasons=(f"failed: {why}",))
        following = present.after(failed)
        again = None if following else present.to_ask_about(failed)
        transaction.remember(
            phase="repair" if following else "gate",
            tried=msgspec.to_builtins(present.every(failed)),
            again=again,
            failures=0,
        )
        told = f"recipe {failed.name} failed ({why}); {following or again} is next"
        lifecycle.candidate_refused(
            transaction.conn, job, why=told, actor=transaction.actor, now=transaction.now
        )
        transaction.requeue(not_before=transaction.now, why=told, forgive=True)
    log.warning("recipe_failed", action="recipe_failed", job_id=session.job.job_id, why=told)
    return True


def reject(
    session: JobSession,
    deps: Dependencies,
    context: JobInputs,
    report: Report,
    reasons: Sequence[str],
) -> None:
    """The candidate failed its gates: say which, and end the job."""
    with session.fenced() as transaction:
        sha256 = deps.publisher.rejected(transaction.conn, report, context, now=transaction.now)
        outcome = {"reasons": list(reasons), "sha256": sha256}
        finish(transaction, deps.fleet_limits, "rejected", why="; ".join(reasons), outcome=outcome)


def ask_person(
    session: JobSession,
    deps: Dependencies,
    context: JobInputs,
    report: Report,
    missing: NeedsPerson,
    present: Turn,
) -> None:
    """No label that comes in decides about the candidate: end the job with what is missing and the
    ways to go on. It can be taken up again, and then judges the same candidate."""
    judged = present.left_open(report, missing)
    job, incident = context.job, context.incident
    if incident is not None:
        again = f"redistill incidents approve {incident['incident_id'][:8]}"
    else:
        again = f"redistill recompress {job.model}"
        if job.options.get("train_on", "teacher") != "teacher":
            again += f" --train-on {job.options['train_on']}"
        if (source := job.options.get("source")) is not None:
            again += f" --source {shlex.quote(source)}"
    cause = present.cause
    why = question(
        report,
        missing,
        model=job.model,
        serving=context.version,
        again=again,
        cause=cause if incident is None else cause or "unknown",
    )
    if others := present.others:
        came = ", ".join(f"{t.name} ({'open' if t.open else 'refused'})" for t in others)
        why += f" (about the candidate of recipe {judged.name}; tried beside it: {came})"
    with session.fenced() as transaction:
        transaction.remember(phase="gate")
        if incident is not None:
            transaction.remember(
                recipes=list(present.recipes),
                tried=msgspec.to_builtins(present.every(judged)),
                again=judged.name,
                asked_about=judged.name,
            )
        outcome = {"reasons": list(present.reasons(judged))}
        finish(transaction, deps.fleet_limits, "needs_person", why=why, outcome=outcome)


def publish(session: JobSession, deps: Dependencies) -> None:
    """Package the candidate, then move the pointer, end the job and tell the incident at once.

    Raises
    ------
    ChildFailed
        The child in which it was loaded for the first time died.
    ReleaseError, RegistryError
        It was refused, or cannot be stored.
    """
    began = time.monotonic()
    with session.read() as conn:
        context = job_spec.read_inputs(conn, session.refresh(conn))
    try:
        candidate = deps.publisher.prepare(deps.folder(session.job.job_id), context)
    except ReleaseError as error:
        if not error.retriable:  # the candidate was refused
            raise
        raise ChildFailed(str(error), kind="load", retriable=True) from error
    packaged = time.monotonic()
    with session.fenced() as transaction:
        # Packaging took a while: is it still this version that has to be beaten?
        context = job_spec.read_inputs(transaction.conn, session.job)
        again = isinstance(candidate, EarlierRelease)
        if not again:
            transaction.record("seal", seconds=packaged - began)
        move = deps.publisher.publish(
            transaction.conn, candidate, context, actor=transaction.actor, now=transaction.now
        )
        transaction.record(
            "publish",
            seconds=time.monotonic() - packaged,
            detail={"version": move.version, "epoch": move.epoch},
        )
        finish(
            transaction,
            deps.fleet_limits,
            "succeeded",
            why=f"{'went back to' if again else 'published'} {move.version} (epoch {move.epoch}),"
            " its gates passed",
            outcome={"version": move.version, "sha256": candidate.sha256, "epoch": move.epoch},
        )
    deps.publisher.published()
    log.info(
        "job_published",
        action="job_published",
        job_id=session.job.job_id,
        model=session.job.model,
        version=move.version,
        epoch=move.epoch,
    )

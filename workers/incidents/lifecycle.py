"""Lifecycle of an incident between its opening and its end, and what its jobs have to do with it.

All of it in the caller's transaction, under the lock of the model
(``model_context.load(..., lock=True)``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import sqlalchemy as sa

from redistill.compress.plan import Diagnosis
from redistill.workers.errors import UsageError
from redistill.workers.incidents import incident_repository, policy, recent_actions
from redistill.workers.incidents.incident_repository import IncidentRow
from redistill.workers.incidents.model_context import FleetLimits, ModelContext, load
from redistill.workers.incidents.remedy import (
    AskPerson,
    Nothing,
    Remedy,
    Repair,
    Wait,
    WaitForLabels,
)
from redistill.workers.store import audit, job_queue
from redistill.workers.store.tables import pointers

__all__ = [
    "apply_policy",
    "approve",
    "cancel_job",
    "cancelled_by_person",
    "candidate_refused",
    "diagnosed",
    "job_ended",
    "job_parked",
    "resolve",
    "say_waived",
    "start_job",
    "take_up",
]


def apply_policy(
    conn: sa.Connection,
    incident: IncidentRow,
    context: ModelContext,
    fleet_limits: FleetLimits,
    *,
    actor: str,
    now: int,
    approved: bool = False,
) -> Remedy:
    """Ask the policy about an incident without a job, and do what it says.

    A decision that is the old one, for the same reason, changes nothing and is not announced.
    """
    incident_context, budget, recent = recent_actions.gather(
        conn, incident, context, fleet_limits, now=now, approved=approved
    )
    remedy = policy.decide(incident_context, None, budget=budget, recent=recent, now=now)
    match remedy:
        case Repair():
            start_job(conn, incident, context, remedy, actor=actor, now=now)
        case AskPerson():
            _set(conn, incident, "awaiting_person", remedy, actor=actor, now=now)
        case _:
            _set(conn, incident, "detected", remedy, actor=actor, now=now)
    return remedy


def _set(
    conn: sa.Connection,
    incident: IncidentRow,
    stage: str,
    remedy: Remedy,
    *,
    actor: str,
    now: int,
    **values: Any,
) -> None:
    same = incident["stage"] == stage and incident["decision"] == remedy.decision
    if same and (incident["why"] == remedy.why or isinstance(remedy, Wait)):
        return
    incident_repository.update(
        conn,
        incident,
        actor=actor,
        action="incident.decided",
        now=now,
        stage=stage,
        decision=remedy.decision,
        why=remedy.why,
        **values,
    )


def start_job(
    conn: sa.Connection,
    incident: IncidentRow,
    context: ModelContext,
    remedy: Repair,
    *,
    actor: str,
    now: int,
    waived: Mapping[str, str] | None = None,
) -> str:
    """Make the job of the incident's next attempt.

    ``waived`` are gates that a person takes upon themselves for this job: who and why, by gate.
    """
    attempt = int(incident["attempt"]) + 1
    job_id = job_queue.job_id_of(incident["incident_id"], attempt)
    made = job_queue.create(
        conn,
        job_id,
        model=context.model,
        trigger=("incident", incident["incident_id"]),
        incident_id=incident["incident_id"],
        attempt=attempt,
        deadline_at=now + context.wait,
        now=now,
        options={"waived": dict(waived)} if waived else None,
    )
    if not made:
        raise LookupError(f"job {job_id} exists, or another one of {context.model} is live")
    incident_repository.update(
        conn,
        incident,
        actor=actor,
        action="incident.job_made",
        now=now,
        job_id=job_id,
        stage="diagnosing",
        decision=remedy.decision,
        why=remedy.why,
        attempt=attempt,
    )
    return job_id


def diagnosed(
    conn: sa.Connection,
    incident_id: str,
    diagnosis: Diagnosis,
    fleet_limits: FleetLimits,
    *,
    job_id: str,
    actor: str,
    now: int,
) -> Remedy:
    """Write down what the child found and decide whether the job goes on.

    Returns
    -------
    Repair
        It goes on.
    WaitForLabels
        It waits.
    AskPerson, Nothing
        It ends; with *nothing* to repair the incident ends as well.
    """
    incident = incident_repository.get(conn, incident_id)
    if incident is None:
        raise LookupError(incident_id)
    context = load(conn, incident["model"], lock=True)
    if context is None:
        return AskPerson(f"{incident['model']} is not registered any more")
    incident_context, budget, recent = recent_actions.gather(
        conn, incident, context, fleet_limits, now=now
    )
    remedy = policy.decide(incident_context, diagnosis, budget=budget, recent=recent, now=now)
    cause = "unknown" if diagnosis.cause in ("unclear", "undecided") else diagnosis.cause
    stage = {
        Repair: "repairing",
        WaitForLabels: "waiting_labels",
        AskPerson: "awaiting_person",
        Nothing: "resolved",
    }[cast(Any, type(remedy))]
    values: dict[str, Any] = {"cause": cause}
    if isinstance(remedy, Nothing):
        values |= incident_repository.resolution(now, "harmless")
    if incident["stage"] != stage or incident["why"] != remedy.why:
        incident_repository.update(
            conn,
            incident,
            actor=actor,
            action="incident.diagnosed",
            now=now,
            job_id=job_id,
            decision=remedy.decision,
            why=remedy.why,
            **({"stage": stage} | values),
        )
    return remedy


def resolve(
    conn: sa.Connection, incident: IncidentRow, kind: str, *, why: str, actor: str, now: int
) -> IncidentRow:
    """End an incident, and its job if there is one at work."""
    cancel_job(conn, incident, why=f"the incident ended: {why}", now=now)
    return incident_repository.update(
        conn,
        incident,
        actor=actor,
        action="incident.resolved",
        now=now,
        why=why,
        **incident_repository.resolution(now, kind),
    )


def cancel_job(conn: sa.Connection, incident: IncidentRow, *, why: str, now: int) -> None:
    """Cancel the incident's live job; its worker notices at its next write."""
    job = job_queue.live(conn, incident["model"])
    if job is not None and job.incident_id == incident["incident_id"]:
        job_queue.finish(conn, job, "cancelled", outcome={"reasons": [why], "why": why}, now=now)


def approve(
    conn: sa.Connection,
    incident: IncidentRow,
    fleet_limits: FleetLimits,
    *,
    actor: str,
    now: int,
    waived: Mapping[str, str] | None = None,
) -> Remedy:
    """A person wants it repaired: pauses, cool-down and the circuit breaker do not count.

    Where the last attempt ended with a question to a person, it is taken up again and judges the
    same candidate, with the trusted rows and the waivers of now; else there is another attempt.

    Parameters
    ----------
    waived
        Gates of trusted rows that the person takes upon themselves, with the reason.

    Raises
    ------
    UsageError
        It is not open, or the policy still says no; the message says why.
    """
    context = load(conn, incident["model"], lock=True)
    current = incident_repository.get(conn, incident["incident_id"])
    if context is None or current is None:
        raise UsageError(f"model {incident['model']} is not registered any more")
    if current["status"] != "open":
        raise UsageError(f"incident {incident['incident_id']} is resolved: {current['why']}")
    told = {gate: f"{actor}: {reason}" for gate, reason in (waived or {}).items()}
    asked = job_queue.last(conn, context.model, incident_id=current["incident_id"])
    incident_context, budget, recent = recent_actions.gather(
        conn, current, context, fleet_limits, now=now, approved=True
    )
    if asked is not None and _answerable(conn, asked):
        budget = replace(budget, model_jobs=0, fleet_jobs=0)  # it was paid for when it began
        recent = replace(recent, tested=0)  # and its candidate keeps its number
    remedy = policy.decide(incident_context, None, budget=budget, recent=recent, now=now)
    if not isinstance(remedy, Repair):
        raise UsageError(f"it cannot be repaired now: {remedy.why}")
    if asked is None or not take_up(conn, asked, context, waived=told, now=now):
        job_id = start_job(conn, current, context, remedy, actor=actor, now=now, waived=told)
    else:
        job_id = asked.job_id
        incident_repository.update(
            conn,
            current,
            actor=actor,
            action="incident.job_taken_up",
            now=now,
            job_id=job_id,
            stage="repairing",
            decision=remedy.decision,
            why=f"job {asked.number} judges its candidate again",
        )
    say_waived(conn, context.model, job_id, told, actor=actor, now=now)
    return remedy


def take_up(
    conn: sa.Connection,
    job: job_queue.Job,
    context: ModelContext,
    *,
    waived: Mapping[str, str],
    now: int,
) -> bool:
    """Let a job that ended with a question to a person judge its candidate again.

    Returns
    -------
    bool
        False: it asked nothing, another version serves by now, or another job is at work.
    """
    if not _answerable(conn, job):
        return False
    options = {"waived": dict(waived)}
    return job_queue.reopen(conn, job, options=options, deadline_at=now + context.wait, now=now)


def _answerable(conn: sa.Connection, job: job_queue.Job) -> bool:
    """Whether a job asked a person about a candidate that still is to beat what serves."""
    serving = conn.execute(
        sa.select(pointers.c.stable).where(pointers.c.model == job.model)
    ).scalar_one_or_none()
    beaten = job.outcome.get("incumbent")
    return job.state == "needs_person" and beaten is not None and beaten == serving


def say_waived(
    conn: sa.Connection,
    model: str,
    job_id: str,
    waived: Mapping[str, str],
    *,
    actor: str,
    now: int,
) -> None:
    """Write into the audit chain which gates a person took upon themselves, if any."""
    if waived:
        body = {"job_id": job_id, "waived": dict(waived)}
        audit.append(conn, actor, "job.gates_waived", model, body, now)


def job_ended(
    conn: sa.Connection,
    job: job_queue.Job,
    state: str,
    *,
    why: str,
    fleet_limits: FleetLimits,
    actor: str,
    now: int,
) -> None:
    """Tell the job's incident how it ended: published, rejected, asking a person, failed, expired
    or cancelled."""
    context = load(conn, job.model, lock=True)
    incident = _open_incident(conn, job)
    if incident is None or context is None:
        return
    action, stage, decision = f"job_{state}", "awaiting_person", "ask_person"
    match state:
        case "succeeded":
            action, stage, decision = "published", "guarding", "repair"
        case "rejected":
            # the policy sees this rejection: it waits for the cool-down or asks a person
            remedy = apply_policy(conn, incident, context, fleet_limits, actor=actor, now=now)
            if not isinstance(remedy, Wait):
                return
            action, stage, decision = "rejected", "detected", remedy.decision
            why = f"the candidate was rejected: {why}; {remedy.why}"
        case "cancelled":  # the reconciler decides anew: another version may serve by now
            stage, decision = "detected", "wait"
    incident_repository.update(
        conn,
        incident,
        actor=actor,
        action=f"incident.{action}",
        now=now,
        job_id=job.job_id,
        stage=stage,
        decision=decision,
        why=why,
    )


def cancelled_by_person(
    conn: sa.Connection, job: job_queue.Job, *, why: str, actor: str, now: int
) -> None:
    """A person took the job away: the incident stays open and waits for a person, too."""
    incident = _open_incident(conn, job)
    if incident is not None:
        incident_repository.update(
            conn,
            incident,
            actor=actor,
            action="incident.job_cancelled",
            now=now,
            job_id=job.job_id,
            stage="awaiting_person",
            decision="ask_person",
            why=f"job {job.number} was cancelled: {why}; `redistill incidents approve ID` tries"
            " again",
        )


def candidate_refused(
    conn: sa.Connection,
    job: job_queue.Job,
    *,
    why: str,
    actor: str,
    now: int,
    left_open: bool = False,
) -> None:
    """Tell the job's incident that its job goes on with another candidate; ``left_open``: the last
    one was not refused, only a person can decide about it."""
    load(conn, job.model, lock=True)
    incident = _open_incident(conn, job)
    if incident is not None:
        incident_repository.update(
            conn,
            incident,
            actor=actor,
            action=f"incident.candidate_{'left_open' if left_open else 'refused'}",
            now=now,
            job_id=job.job_id,
            stage="repairing",
            decision=Repair.decision,
            why=why,
        )


def job_parked(conn: sa.Connection, job: job_queue.Job, *, why: str, actor: str, now: int) -> None:
    """Tell the job's incident that it waits for labels."""
    load(conn, job.model, lock=True)
    incident = _open_incident(conn, job)
    if incident is not None:
        remedy = WaitForLabels(why)
        _set(conn, incident, "waiting_labels", remedy, actor=actor, now=now)


def _open_incident(conn: sa.Connection, job: job_queue.Job) -> IncidentRow | None:
    """What the job is for, while it is open; ``None`` too for a job of a schedule or a person."""
    incident = None if job.incident_id is None else incident_repository.get(conn, job.incident_id)
    return incident if incident is not None and incident["status"] == "open" else None

"""What happens to an incident between its opening and its end: every change is one row, one event
and one audit entry, in the caller's transaction.

Whoever changes an incident holds the lock of its model (``terms.load(..., lock=True)``).
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, cast
from uuid import UUID

import sqlalchemy as sa

from compress.plan import Diagnosis
from streams.store import outbox
from streams.wire.events import IncidentChanged, IncidentClass
from workers import audit
from workers.errors import UsageError
from workers.incidents import alerts, history, policy
from workers.incidents.terms import Rules, Terms, load
from workers.jobs import store
from workers.store.tables import incident_findings, incidents

SOURCE = "redistill/repair"

Row = Mapping[str, Any]


def utc(us: int) -> datetime:
    """A stored time as an event's time."""
    return datetime.fromtimestamp(us / 1e6, UTC)


def get(conn: sa.Connection, incident_id: str) -> Row | None:
    """One incident."""
    query = sa.select(incidents).where(incidents.c.incident_id == incident_id)
    row = conn.execute(query).mappings().one_or_none()
    return None if row is None else dict(row)


def find(conn: sa.Connection, prefix: str) -> Row:
    """The incident whose id begins like this.

    Raises
    ------
    UsageError
        None does, or several do.
    """
    found = (
        conn.execute(
            sa.select(incidents)
            .where(incidents.c.incident_id.startswith(prefix, autoescape=True))
            .limit(2)
        )
        .mappings()
        .all()
    )
    if not found:
        raise UsageError(f"there is no incident {prefix!r}: see `redistill incidents list --all`")
    if len(found) > 1:
        raise UsageError(f"several incidents begin with {prefix!r}: give more of the id")
    return dict(found[0])


def open_ones(conn: sa.Connection, model: str | None = None) -> list[Row]:
    """Open incidents, oldest first."""
    query = sa.select(incidents).where(incidents.c.open_mark == 1)
    if model is not None:
        query = query.where(incidents.c.model == model)
    found = conn.execute(query.order_by(incidents.c.opened_at))
    return [dict(row) for row in found.mappings()]


def findings_of(conn: sa.Connection, incident_id: str) -> list[str]:
    """Ids of the findings of an incident, in the order in which they were attached."""
    query = (
        sa.select(incident_findings.c.finding_id)
        .where(incident_findings.c.incident_id == incident_id)
        .order_by(incident_findings.c.attached_at, incident_findings.c.finding_id)
    )
    return list(conn.execute(query).scalars())


def attach(conn: sa.Connection, incident_id: str, finding_id: str, now: int) -> bool:
    """Add a finding to an incident; False: it was there."""
    from streams.store.database import insert_ignore

    done = conn.execute(
        insert_ignore(incident_findings).values(
            incident_id=incident_id, finding_id=finding_id, attached_at=now
        )
    )
    return done.rowcount == 1


def open_new(
    conn: sa.Connection,
    *,
    incident_id: str,
    model: str,
    version: str,
    incident_class: IncidentClass,
    finding_id: str,
    change: tuple[int, int] | None,
    why: str,
    actor: str,
    now: int,
    salt: str | None = None,
) -> Row:
    """Open an incident; ``salt`` divides its gate rows from its training rows (default: random)."""
    low, high = change if change is not None else (None, None)
    conn.execute(
        sa.insert(incidents).values(
            incident_id=incident_id,
            model=model,
            version=version,
            incident_class=incident_class,
            status="open",
            stage="detected",
            cause="data_bug" if incident_class == "data_bug" else None,
            decision=None,
            why=why,
            attempt=0,
            split_salt=salt or secrets.token_hex(8),
            change_low=low,
            change_high=high,
            opened_at=now,
            updated_at=now,
            open_mark=1,
        )
    )
    attach(conn, incident_id, finding_id, now)
    return _changed(conn, incident_id, "opened", actor=actor, action="incident.opened", now=now)


def reopen(
    conn: sa.Connection,
    incident: Row,
    *,
    version: str,
    finding_id: str,
    change: tuple[int, int] | None,
    why: str,
    actor: str,
    now: int,
) -> Row:
    """Open a resolved incident again: the same trouble came back within the cool-down."""
    attach(conn, incident["incident_id"], finding_id, now)
    low, high = change if change is not None else (None, None)
    return update(
        conn,
        incident,
        actor=actor,
        action="incident.reopened",
        now=now,
        status="open",
        stage="detected",
        version=version,
        change_low=low,
        change_high=high,
        cause=None,
        decision=None,
        resolved_at=None,
        resolution=None,
        open_mark=1,
        why=why,
    )


def update(
    conn: sa.Connection,
    incident: Row,
    *,
    actor: str,
    action: str,
    now: int,
    job_id: str | None = None,
    **values: Any,
) -> Row:
    """Change columns of an incident, and say so."""
    conn.execute(
        sa.update(incidents)
        .where(incidents.c.incident_id == incident["incident_id"])
        .values(updated_at=now, **values)
    )
    status: Literal["updated", "resolved"] = (
        "resolved" if values.get("status") == "resolved" else "updated"
    )
    return _changed(
        conn,
        incident["incident_id"],
        status,
        actor=actor,
        action=action,
        now=now,
        job_id=job_id,
    )


def _changed(
    conn: sa.Connection,
    incident_id: str,
    status: Literal["opened", "updated", "resolved"],
    *,
    actor: str,
    action: str,
    now: int,
    job_id: str | None = None,
) -> Row:
    row = get(conn, incident_id)
    if row is None:
        raise LookupError(incident_id)
    event = IncidentChanged(
        incident_id=UUID(incident_id),
        model=row["model"],
        version=row["version"],
        incident_class=row["incident_class"],
        status=status,
        cause=row["cause"],
        decision=row["decision"],
        why=row["why"],
        finding_ids=[UUID(f) for f in findings_of(conn, incident_id)],
        job_id=None if job_id is None else UUID(job_id),
        attempt=row["attempt"],
        opened_at=utc(row["opened_at"]),
        at=utc(now),
    )
    outbox.add(conn, event, source=SOURCE, now=now)
    audit.append(
        conn,
        actor,
        action,
        incident_id,
        {
            "model": row["model"],
            "version": row["version"],
            "stage": row["stage"],
            "cause": row["cause"],
            "decision": row["decision"],
            "why": row["why"],
            "attempt": row["attempt"],
            "job_id": job_id,
            "resolution": row["resolution"],
        },
        now,
    )
    alerts.tell(
        incident_id=incident_id,
        model=row["model"],
        status=status,
        decision=row["decision"],
        why=row["why"],
    )
    return row


def consider(
    conn: sa.Connection,
    incident: Row,
    terms: Terms,
    rules: Rules,
    *,
    actor: str,
    now: int,
    approved: bool = False,
) -> policy.Remedy:
    """Ask the policy about an incident without a job, and do what it says.

    A decision that is the old one, for the same reason, changes nothing and is not announced.
    """
    subject, budget, past = history.gather(conn, incident, terms, rules, now=now, approved=approved)
    remedy = policy.decide(subject, None, budget=budget, history=past, now=now)
    match remedy:
        case policy.Repair():
            start_job(conn, incident, terms, remedy, actor=actor, now=now)
        case policy.AskPerson():
            _set(conn, incident, "awaiting_person", remedy, actor=actor, now=now)
        case _:
            _set(conn, incident, "detected", remedy, actor=actor, now=now)
    return remedy


def _set(
    conn: sa.Connection,
    incident: Row,
    stage: str,
    remedy: policy.Remedy,
    *,
    actor: str,
    now: int,
    **values: Any,
) -> None:
    same = incident["stage"] == stage and incident["decision"] == remedy.decision
    if same and (incident["why"] == remedy.why or isinstance(remedy, policy.Wait)):
        return
    update(
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
    incident: Row,
    terms: Terms,
    remedy: policy.Repair,
    *,
    actor: str,
    now: int,
) -> str:
    """Make the job of the incident's next attempt."""
    attempt = int(incident["attempt"]) + 1
    job_id = store.job_id_of(incident["incident_id"], attempt)
    made = store.create(
        conn,
        job_id,
        model=terms.model,
        trigger=("incident", incident["incident_id"]),
        incident_id=incident["incident_id"],
        attempt=attempt,
        deadline_at=now + terms.wait,
        now=now,
    )
    if not made:
        raise LookupError(f"job {job_id} exists, or another one of {terms.model} is live")
    update(
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
    rules: Rules,
    *,
    job_id: str,
    actor: str,
    now: int,
) -> policy.Remedy:
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
    incident = get(conn, incident_id)
    if incident is None:
        raise LookupError(incident_id)
    terms = load(conn, incident["model"], lock=True)
    if terms is None:
        return policy.AskPerson(f"{incident['model']} is not registered any more")
    subject, budget, past = history.gather(conn, incident, terms, rules, now=now)
    remedy = policy.decide(subject, diagnosis, budget=budget, history=past, now=now)
    cause = "unknown" if diagnosis.cause == "undecided" else diagnosis.cause
    stage = {
        policy.Repair: "repairing",
        policy.WaitForLabels: "waiting_labels",
        policy.AskPerson: "awaiting_person",
        policy.Nothing: "resolved",
    }[cast(Any, type(remedy))]
    values: dict[str, Any] = {"cause": cause}
    if isinstance(remedy, policy.Nothing):
        values |= resolution(now, "harmless")
    if incident["stage"] != stage or incident["why"] != remedy.why:
        update(
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


def resolution(now: int, kind: str) -> dict[str, Any]:
    """Columns that end an incident: ``recovered``, ``reverted``, ``harmless`` or ``person``."""
    return {
        "status": "resolved",
        "stage": "resolved",
        "resolution": kind,
        "resolved_at": now,
        "open_mark": None,
    }


def resolve(
    conn: sa.Connection, incident: Row, kind: str, *, why: str, actor: str, now: int
) -> Row:
    """End an incident, and its job if there is one at work."""
    cancel_job(conn, incident, why=f"the incident ended: {why}", now=now)
    return update(
        conn,
        incident,
        actor=actor,
        action="incident.resolved",
        now=now,
        why=why,
        **resolution(now, kind),
    )


def cancel_job(conn: sa.Connection, incident: Row, *, why: str, now: int) -> None:
    """Cancel the incident's live job; its worker notices at its next write."""
    job = store.live(conn, incident["model"])
    if job is not None and job.incident_id == incident["incident_id"]:
        store.finish(conn, job, "cancelled", outcome={"reasons": [why]}, now=now)


def approve(
    conn: sa.Connection, incident: Row, rules: Rules, *, actor: str, now: int
) -> policy.Remedy:
    """A person wants it repaired: pauses, cool-down and the circuit breaker do not count.

    Raises
    ------
    UsageError
        It is not open, or the policy still says no; the message says why.
    """
    terms = load(conn, incident["model"], lock=True)
    current = get(conn, incident["incident_id"])
    if terms is None or current is None:
        raise UsageError(f"model {incident['model']} is not registered any more")
    if current["status"] != "open":
        raise UsageError(f"incident {incident['incident_id']} is resolved: {current['why']}")
    remedy = consider(conn, current, terms, rules, actor=actor, now=now, approved=True)
    if not isinstance(remedy, policy.Repair):
        raise UsageError(f"it cannot be repaired now: {remedy.why}")
    return remedy


def job_ended(
    conn: sa.Connection,
    job: store.Job,
    state: str,
    *,
    why: str,
    rules: Rules,
    actor: str,
    now: int,
) -> None:
    """Tell the job's incident how it ended: published, rejected, failed, expired or cancelled."""
    if job.incident_id is None:
        return
    terms = load(conn, job.model, lock=True)
    incident = get(conn, job.incident_id)
    if incident is None or incident["status"] != "open" or terms is None:
        return
    match state:
        case "succeeded":
            update(
                conn,
                incident,
                actor=actor,
                action="incident.published",
                now=now,
                job_id=job.job_id,
                stage="guarding",
                decision="repair",
                why=why,
            )
        case "rejected":
            # the policy sees this rejection: it waits for the cool-down or asks a person
            remedy = consider(conn, incident, terms, rules, actor=actor, now=now)
            if isinstance(remedy, policy.Wait):
                update(
                    conn,
                    incident,
                    actor=actor,
                    action="incident.rejected",
                    now=now,
                    job_id=job.job_id,
                    stage="detected",
                    decision=remedy.decision,
                    why=f"the candidate was rejected: {why}; {remedy.why}",
                )
        case "cancelled":  # the sweep decides anew: another version may serve by now
            update(
                conn,
                incident,
                actor=actor,
                action="incident.job_cancelled",
                now=now,
                job_id=job.job_id,
                stage="detected",
                decision="wait",
                why=why,
            )
        case _:
            update(
                conn,
                incident,
                actor=actor,
                action=f"incident.job_{state}",
                now=now,
                job_id=job.job_id,
                stage="awaiting_person",
                decision="ask_person",
                why=why,
            )


def cancelled_by_person(
    conn: sa.Connection, job: store.Job, *, why: str, actor: str, now: int
) -> None:
    """A person took the job away: the incident stays open and waits for a person, too."""
    if job.incident_id is None:
        return
    incident = get(conn, job.incident_id)
    if incident is None or incident["status"] != "open":
        return
    update(
        conn,
        incident,
        actor=actor,
        action="incident.job_cancelled",
        now=now,
        job_id=job.job_id,
        stage="awaiting_person",
        decision="ask_person",
        why=f"job {job.number} was cancelled: {why}; `redistill incidents approve ID` tries again",
    )


def job_parked(conn: sa.Connection, job: store.Job, *, why: str, actor: str, now: int) -> None:
    """Tell the job's incident that it waits for labels."""
    if job.incident_id is None:
        return
    load(conn, job.model, lock=True)
    incident = get(conn, job.incident_id)
    if incident is not None and incident["status"] == "open":
        _set(
            conn,
            incident,
            "waiting_labels",
            policy.WaitForLabels(why),
            actor=actor,
            now=now,
        )


def timeline(conn: sa.Connection, incident_id: str) -> list[dict[str, Any]]:
    """What happened, oldest first: audit entries of the incident and of its jobs' releases.

    Returns
    -------
    list of dict
        ``at`` (microseconds), ``what`` (the audit's action), ``actor``, ``body``.
    """
    from workers.store.tables import audit as entries

    found = conn.execute(
        sa.select(entries.c.at, entries.c.action, entries.c.actor, entries.c.body)
        .where(entries.c.subject == incident_id)
        .order_by(entries.c.seq)
    )
    return [
        {"at": r.at, "what": r.action, "actor": r.actor, "body": json.loads(r.body)} for r in found
    ]

"""Incidents in SQL: every change is one row, one event and one audit entry, in the caller's
transaction.

Whoever changes an incident holds the lock of its model (``model_context.load(..., lock=True)``).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

import sqlalchemy as sa

from redistill.files import sha256_of_bytes
from redistill.streams.store import outbox
from redistill.streams.store.database import insert_ignore
from redistill.streams.wire.events import IncidentChanged, IncidentClass
from redistill.times import utc
from redistill.workers.errors import UsageError
from redistill.workers.incidents import change_log
from redistill.workers.store import alert_holds, audit
from redistill.workers.store.tables import incident_findings, incidents

__all__ = [
    "IncidentRow",
    "attach",
    "find",
    "findings_of",
    "get",
    "last_resolved",
    "of_finding",
    "open_new",
    "open_ones",
    "reopen",
    "resolution",
    "update",
]

SOURCE = "redistill/repair"
"""``ce_source`` of what repair workers announce."""

IncidentRow = Mapping[str, Any]
"""A row of ``incidents``."""


def get(conn: sa.Connection, incident_id: str) -> IncidentRow | None:
    """One incident."""
    return _row(conn, sa.select(incidents).where(incidents.c.incident_id == incident_id))


def find(conn: sa.Connection, prefix: str) -> IncidentRow:
    """The incident whose id begins like this.

    Raises
    ------
    UsageError
        None does, or several do.
    """
    query = sa.select(incidents).where(incidents.c.incident_id.startswith(prefix, autoescape=True))
    rows = conn.execute(query.limit(2)).mappings().all()
    if not rows:
        raise UsageError(f"there is no incident {prefix!r}: see `redistill incidents list --all`")
    if len(rows) > 1:
        raise UsageError(f"several incidents begin with {prefix!r}: give more of the id")
    return dict(rows[0])


def open_ones(conn: sa.Connection, model: str | None = None) -> list[IncidentRow]:
    """Open incidents, oldest first."""
    query = sa.select(incidents).where(incidents.c.open_mark == 1)
    if model is not None:
        query = query.where(incidents.c.model == model)
    return [dict(row) for row in conn.execute(query.order_by(incidents.c.opened_at)).mappings()]


def of_finding(
    conn: sa.Connection, finding_id: str, incident_class: IncidentClass | None
) -> IncidentRow | None:
    """The incident that a finding belongs to: rather one of this class, rather an open one."""
    c = incidents.c
    query = (
        sa.select(incidents)
        .join(incident_findings, incident_findings.c.incident_id == c.incident_id)
        .where(incident_findings.c.finding_id == finding_id)
        .order_by(
            sa.case((c.incident_class == (incident_class or ""), 0), else_=1),
            sa.case((c.open_mark == 1, 0), else_=1),
            c.opened_at.desc(),
        )
        .limit(1)
    )
    return _row(conn, query)


def last_resolved(
    conn: sa.Connection, model: str, incident_class: IncidentClass, *, since: int
) -> IncidentRow | None:
    """The last incident of a class, if it was resolved after ``since``."""
    c = incidents.c
    query = (
        sa.select(incidents)
        .where(
            c.model == model,
            c.incident_class == incident_class,
            c.status == "resolved",
            c.resolved_at > since,
        )
        .order_by(c.resolved_at.desc())
        .limit(1)
    )
    return _row(conn, query)


def _row(conn: sa.Connection, query: sa.Select[Any]) -> IncidentRow | None:
    row = conn.execute(query).mappings().one_or_none()
    return None if row is None else dict(row)


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
) -> IncidentRow:
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
    incident: IncidentRow,
    *,
    version: str,
    finding_id: str,
    change: tuple[int, int] | None,
    why: str,
    actor: str,
    now: int,
) -> IncidentRow:
    """Make an incident about new trouble: it came back within the cool-down, or it is harm to what
    was published against it. Who had it in hand is forgotten."""
    alert_holds.clear(conn, alert_holds.of_incident(incident["incident_id"]))
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
    incident: IncidentRow,
    *,
    actor: str,
    action: str,
    now: int,
    job_id: str | None = None,
    **values: Any,
) -> IncidentRow:
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
) -> IncidentRow:
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
            "incident_class": row["incident_class"],
            "change_low": row["change_low"],
            "change_high": row["change_high"],
            "split_salt_sha256": sha256_of_bytes(row["split_salt"].encode()),
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
    change_log.log_change(
        incident_id=incident_id,
        model=row["model"],
        status=status,
        decision=row["decision"],
        why=row["why"],
    )
    return row


def resolution(now: int, kind: str) -> dict[str, Any]:
    """Columns that end an incident: ``recovered``, ``reverted``, ``harmless`` or ``person``."""
    return {
        "status": "resolved",
        "stage": "resolved",
        "resolution": kind,
        "resolved_at": now,
        "open_mark": None,
    }

"""Audit trail: what the audit chain tells of incidents, jobs, releases and models, to be compared
with their rows. Whether the chain itself is whole is another question (``bounds``)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from redistill.workers.store.tables import audit

__all__ = ["AuditTrail", "Told", "read_trail"]

ROOMS = ("alert.", "incident.", "job.", "model.", "release.", "states.")
MOVES = frozenset({"release.publish", "release.rollback", "release.automatic_rollback"})
ENTERED = frozenset({"release.candidate", "release.rejected"})
REGISTERED = frozenset({"model.registered", "model.changed"})


@dataclass(frozen=True, slots=True)
class Told:
    """An entry of the chain."""

    seq: int
    at: int
    actor: str
    action: str
    subject: str
    body: Mapping[str, Any]


@dataclass(slots=True)
class AuditTrail:
    """Entries by what they are about, each in the order of the chain."""

    incidents: dict[str, list[Told]] = field(default_factory=lambda: defaultdict(list))
    """Changes of each incident: its row, its event and its entry are written together."""
    moves: dict[tuple[str, int], list[Told]] = field(default_factory=lambda: defaultdict(list))
    """Moves of the pointers, by model and epoch."""
    entered: dict[tuple[str, str], list[Told]] = field(default_factory=lambda: defaultdict(list))
    """Versions that came into the registry, by model and version."""
    pruned: set[tuple[str, str]] = field(default_factory=set)
    """Versions whose files retention removed."""
    registered: dict[str, list[Told]] = field(default_factory=lambda: defaultdict(list))
    """Registrations of each model."""
    jobs: dict[str, Told] = field(default_factory=dict)
    """By job: who asked for it, or made it."""
    tested: dict[tuple[str, str], list[Told]] = field(default_factory=lambda: defaultdict(list))
    """By incident and SHA-256, candidates that faced its fresh rows."""
    lifted: set[tuple[str, str]] = field(default_factory=set)
    """Models, and SHA-256 of bytes that a person let be published again."""
    adopted: dict[str, int] = field(default_factory=dict)
    """When a person vouched for a model's rows as they stood."""
    others: list[Told] = field(default_factory=list)


def read_trail(conn: sa.Connection) -> AuditTrail:
    """Read the chain. An entry whose body cannot be read is left out: its hash says so as well."""
    trail = AuditTrail()
    columns = (audit.c[n] for n in ("seq", "at", "actor", "action", "subject", "body"))
    query = sa.select(*columns).order_by(audit.c.seq)
    with conn.execution_options(yield_per=1_000).execute(query) as rows:
        for row in rows:
            if not row.action.startswith(ROOMS):
                continue
            try:
                body = json.loads(row.body)
            except ValueError:
                continue
            if isinstance(body, dict):
                _sort(trail, Told(row.seq, row.at, row.actor, row.action, row.subject, body))
    return trail


def _sort(trail: AuditTrail, told: Told) -> None:
    body = told.body
    if told.action in MOVES:
        trail.moves[told.subject, int(body.get("epoch", 0))].append(told)
    elif told.action in ENTERED:
        trail.entered[told.subject, str(body.get("version"))].append(told)
    elif told.action == "release.pruned":
        trail.pruned |= {(told.subject, str(v)) for v in body.get("versions", ())}
    elif told.action in REGISTERED:
        trail.registered[told.subject].append(told)
    elif told.action == "release.adopted":
        trail.adopted[told.subject] = told.at
    elif told.action == "release.unbar":
        trail.lifted.add((told.subject, str(body.get("sha256"))))
    elif told.action == "incident.candidate_tested":
        trail.tested[told.subject, str(body.get("sha256"))].append(told)
    elif told.action.startswith("incident.") and "stage" in body:
        trail.incidents[told.subject].append(told)
        if told.action == "incident.job_made" and body.get("job_id"):
            trail.jobs[str(body["job_id"])] = told
    elif told.action in ("job.asked", "job.scheduled"):
        trail.jobs.setdefault(str(body.get("job_id")), told)  # asked again: it was taken up
    else:
        trail.others.append(told)

"""Audit trail: what the audit chain tells of incidents, jobs, releases and models, to be compared
with their rows. Whether the chain itself is whole is another question (``bounds``)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from redistill.workers.store import alarm_budget
from redistill.workers.store.future_times import BROUGHT_BACK, latest
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
    """Brought back as the rows were, where a clock was ahead (``store.future_times``)."""
    written_at: int
    """As it stands in the entry."""
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
    found: list[Told] = []
    columns = (audit.c[n] for n in ("seq", "at", "actor", "action", "subject", "body"))
    query = sa.select(*columns).order_by(audit.c.seq)
    with conn.execution_options(yield_per=1_000).execute(query) as rows:
        for row in rows:
            if row.action == BROUGHT_BACK:
                most = latest(row.at)
                found = [replace(t, at=row.at) if t.at > most else t for t in found]
            if not row.action.startswith(ROOMS):
                continue
            try:
                body = json.loads(row.body)
            except ValueError:
                continue
            if isinstance(body, dict):
                at = (row.at, row.at)
                found.append(Told(row.seq, *at, row.actor, row.action, row.subject, body))
    trail = AuditTrail()
    for told in found:
        _sort(trail, told)
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
    elif told.action == alarm_budget.CHANGED:
        if known := trail.registered.get(told.subject):
            watch = {"watch_sha256": body.get("watch_sha256")}
            known.append(replace(known[-1], body={**known[-1].body, **watch}))
    elif told.action == "release.adopted":
        trail.adopted[told.subject] = told.written_at
        _adopt(trail, told)
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


def _adopt(trail: AuditTrail, told: Told) -> None:
    """What a person vouched for takes the place of entries that say otherwise, or are gone."""
    model, body = told.subject, told.body
    versions = {(model, str(v["version"])): v for v in body.get("versions", ())}
    for key in [k for k in trail.entered if k[0] == model and k not in versions]:
        del trail.entered[key]
    for key, facts in versions.items():
        if not _agree(trail.entered.get(key, ()), facts):
            trail.entered[key] = [replace(told, body=facts)]
    moves: dict[tuple[str, int], Told] = {}
    previous = None
    for move in body.get("moves", ()):
        said = {"version": move["version"], "sha256": move["sha256"], "reason": move["reason"]}
        moves[model, int(move["epoch"])] = replace(
            told,
            at=move["at"],
            written_at=move["at"],
            action=f"release.{move['change']}",
            body={**said, "previous": previous},
        )
        previous = move["version"]
    for place in [p for p in trail.moves if p[0] == model and p not in moves]:
        del trail.moves[place]
    for place, move_told in moves.items():
        known = trail.moves.get(place, [])
        same = [t.action for t in known] == [move_told.action]
        same = same and move_told.at in (known[0].at, known[0].written_at)
        if not same or not _agree(known, move_told.body):
            trail.moves[place] = [move_told]
    registered = trail.registered[model]
    spec = {
        n: body[n] for n in ("level", "config_sha256", "spec_sha256", "watch_sha256") if body.get(n)
    }
    if spec and not _agree(registered[-1:], spec):
        before = registered[-1] if registered else replace(told, at=0, body={})
        registered.append(replace(before, body={**before.body, **spec}))
    if not registered:
        del trail.registered[model]


def _agree(known: Sequence[Told], facts: Mapping[str, Any]) -> bool:
    """Whether the first entry says what was vouched for, as far as it says anything of it."""
    return bool(known) and all(known[0].body.get(n, v) == v for n, v in facts.items())

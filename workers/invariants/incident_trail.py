"""Incidents as the audit chain tells them: every change of one is a row, an event and an entry,
written together."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import partial
from typing import Any

import sqlalchemy as sa

from redistill.files import sha256_of_bytes
from redistill.streams.store import ledger
from redistill.streams.store.tables import findings, outbox
from redistill.times import utc
from redistill.workers.invariants.audit_trail import Told
from redistill.workers.invariants.rule import RuleInput, RuleResult
from redistill.workers.invariants.topic_facts import TopicFacts
from redistill.workers.store.tables import alert_holds, incident_findings, incidents, jobs

__all__ = ["holds_recorded", "incidents_recorded", "incidents_told"]

SAID = ("model", "version", "stage", "cause", "decision", "why", "attempt", "resolution")
SAID_SINCE = ("incident_class", "change_low", "change_high")
"""Entries of older programs do not say these."""


def incidents_recorded(inputs: RuleInput) -> RuleResult:
    """Part of invariant 2: the row of an incident is what its last entry says."""
    violations: list[str] = []
    trail = inputs.trail.incidents
    attempts: dict[str, int] = defaultdict(int)
    query = sa.select(jobs.c.incident_id, sa.func.max(jobs.c.attempt)).group_by(jobs.c.incident_id)
    for incident_id, last in inputs.conn.execute(query.where(jobs.c.incident_id.is_not(None))):
        attempts[incident_id] = int(last)
    known: set[str] = set()
    for row in inputs.conn.execute(sa.select(incidents)):
        known.add(row.incident_id)
        name = f"incident {row.incident_id[:8]} of {row.model}"
        told = trail.get(row.incident_id)
        if not told:
            violations.append(f"{name} is not in the audit chain")
            continue
        other = _differences(row, told)
        if other:
            violations.append(f"{name}: the audit chain says otherwise about {', '.join(other)}")
        if row.attempt != attempts[row.incident_id]:
            violations.append(
                f"{name} had {row.attempt} attempts, its last job is number"
                f" {attempts[row.incident_id]}"
            )
    violations += [
        f"the audit chain tells of incident {i[:8]}, which is not there"
        for i in sorted(trail.keys() - known)
    ]
    entries = sum(map(len, trail.values()))
    there = inputs.conn.execute(
        sa.select(sa.func.count()).where(outbox.c.topic == "incidents")
    ).scalar_one()
    gone = inputs.counted.sum(ledger.OUTBOX_EXPIRED + "incidents")
    if entries != there + gone:
        violations.append(
            f"incidents changed {entries:,} times, {there:,} announcements are there, {gone:,}"
            " expired"
        )
    compare = partial(_in_topic, entries, inputs.unsent_of("incidents"))
    return RuleResult(violations=violations, later=(compare,))


def _in_topic(entries: int, unsent: set[str], topics: TopicFacts | None) -> RuleResult:
    """The topic ``incidents`` holds each change, also where the outbox has expired."""
    if topics is None or "incidents" not in topics.whole:
        return RuleResult()
    held = {a.event_id for a in topics.announced.values() if a.topic == "incidents"}
    lost = entries - len(held | unsent)
    return RuleResult(
        violations=[f"{lost} announcements of incidents are in no topic"] if lost > 0 else []
    )


def _differences(row: Any, told: list[Told]) -> list[str]:
    first, last = told[0], told[-1]
    other = [n for n in SAID if last.body.get(n) != getattr(row, n)]
    other += [n for n in SAID_SINCE if last.body.get(n, getattr(row, n)) != getattr(row, n)]
    salt = sha256_of_bytes(row.split_salt.encode())
    if last.body.get("split_salt_sha256", salt) != salt:
        other.append("split_salt")
    if (row.stage == "resolved") != (row.status == "resolved"):
        other.append("status")
    if row.updated_at != last.at:
        other.append("updated_at")
    if first.action != "incident.opened" or row.opened_at != first.at:
        other.append("opened_at")
    if row.resolved_at != (last.at if row.status == "resolved" else None):
        other.append("resolved_at")
    return other


def incidents_told(inputs: RuleInput) -> RuleResult:
    """Part of invariant 2: an incident has the findings that its events name, of its own model."""
    violations: list[str] = []
    attached: dict[str, set[str]] = defaultdict(set)
    for row in inputs.conn.execute(sa.select(incident_findings)):
        attached[row.incident_id].add(row.finding_id)
    stream = inputs.conn.execution_options(yield_per=1_000)
    query = sa.select(outbox.c.event_id, outbox.c.value).where(outbox.c.topic == "incidents")
    with stream.execute(query) as rows:
        for row in rows:
            try:
                event = json.loads(bytes(row.value))
                missing = set(event["finding_ids"]) - attached[event["incident_id"]]
            except (ValueError, KeyError, TypeError):
                violations.append(f"event {row.event_id[:8]} for incidents cannot be read")
                continue
            violations += [
                f"incident {event['incident_id'][:8]} was announced with finding {f[:8]}, which it"
                " does not have"
                for f in sorted(missing)
            ]
    f, i = findings.c, incident_findings.c
    apart = sa.select(i.incident_id, i.finding_id).join(
        incidents, incidents.c.incident_id == i.incident_id
    )
    apart = apart.join(findings, f.finding_id == i.finding_id).where(f.model != incidents.c.model)
    violations += [
        f"incident {r.incident_id[:8]} has finding {r.finding_id[:8]} of another model"
        for r in inputs.conn.execute(apart)
    ]
    return RuleResult(violations=violations)


def holds_recorded(inputs: RuleInput) -> RuleResult:
    """Part of invariant 2: who took an alert upon themselves is in the audit chain."""
    last: dict[str, Told] = {}
    for told in inputs.trail.others:
        room, _, what = told.action.partition(".")
        if what in ("acknowledged", "snoozed") and room in ("incident", "alert"):
            last[f"incident:{told.subject}" if room == "incident" else told.subject] = told
    violations = []
    for row in inputs.conn.execute(sa.select(alert_holds)):
        hold = last.get(row.alert_key)
        who = row.acknowledged_by if row.acknowledged_at is not None else row.snoozed_by
        stands = hold is not None and hold.actor == who
        if stands and hold is not None and hold.action.endswith(".acknowledged"):
            stands = row.acknowledged_at == hold.at and row.snoozed_until is None
            stands = stands and row.snoozed_by is None
        elif stands and hold is not None:
            until = f"until {utc(row.snoozed_until or 0).isoformat(timespec='seconds')}"
            stands = row.acknowledged_at is None and row.acknowledged_by is None
            stands = stands and hold.body.get("why") == until
        if not stands:
            violations.append(f"{row.alert_key}: the audit chain does not say who has it in hand")
    return RuleResult(violations=violations)

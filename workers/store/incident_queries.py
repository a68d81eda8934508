"""Incidents and jobs as commands show them: queries with names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from redistill.streams.store.tables import findings
from redistill.workers.errors import UsageError
from redistill.workers.store import checkpoints, job_queue
from redistill.workers.store.tables import audit as entries
from redistill.workers.store.tables import incident_findings, incidents, jobs

__all__ = [
    "audit_trail",
    "data_bugs",
    "detail",
    "find_job",
    "job_detail",
    "jobs_listed",
    "listed",
    "step_text",
]

NEEDS_A_PERSON = "awaiting_person"


def listed(
    conn: sa.Connection, *, model: str | None, resolved: bool, limit: int
) -> list[dict[str, Any]]:
    """Incidents, those that need a person first, then the newest."""
    i = incidents.c
    query = sa.select(incidents)
    if model is not None:
        query = query.where(i.model == model)
    if not resolved:
        query = query.where(i.open_mark == 1)
    urgent = sa.case((sa.and_(i.open_mark == 1, i.stage == NEEDS_A_PERSON), 0), else_=1)
    rows = conn.execute(query.order_by(urgent, i.opened_at.desc()).limit(limit))
    return [dict(row) for row in rows.mappings()]


def data_bugs(conn: sa.Connection) -> dict[tuple[str, str], list[str]]:
    """Bodies (JSON) of open findings of open data bugs, by incident and model."""
    i, f = incidents.c, incident_findings.c
    rows = conn.execute(
        sa.select(i.incident_id, i.model, findings.c.body)
        .join(incident_findings, f.incident_id == i.incident_id)
        .join(findings, findings.c.finding_id == f.finding_id)
        .where(i.open_mark == 1, i.incident_class == "data_bug", findings.c.status != "resolved")
        .order_by(i.incident_id, f.attached_at, f.finding_id)
    )
    out: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        out.setdefault((row.incident_id, row.model), []).append(row.body)
    return out


def detail(conn: sa.Connection, incident: Mapping[str, Any]) -> dict[str, Any]:
    """One incident with its findings and a timeline of what happened, oldest first.

    Returns
    -------
    dict
        The row, and ``findings`` (each with ``attached_at``), ``jobs``, and ``timeline``: a list of
        ``at`` (microseconds), ``what``, ``why``, ``seconds``.
    """
    incident_id = incident["incident_id"]
    attached = conn.execute(
        sa.select(findings.c.body, findings.c.intake_note, incident_findings.c.attached_at)
        .join(incident_findings, incident_findings.c.finding_id == findings.c.finding_id)
        .where(incident_findings.c.incident_id == incident_id)
        .order_by(incident_findings.c.attached_at)
    )
    made = conn.execute(
        sa.select(jobs).where(jobs.c.incident_id == incident_id).order_by(jobs.c.attempt)
    )
    finding_bodies = [
        {**json.loads(r.body), "attached_at": r.attached_at, "note": r.intake_note}
        for r in attached
    ]
    own = [job_detail(conn, job_queue.job_of(row)) for row in made.mappings().all()]
    return {
        **dict(incident),
        "findings": finding_bodies,
        "jobs": own,
        "timeline": timeline(conn, incident_id, own),
    }


def timeline(
    conn: sa.Connection, incident_id: str, own: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Changes of an incident and steps of its jobs, in the order in which they happened."""
    out: list[dict[str, Any]] = [
        {
            "at": entry["at"],
            "what": entry["what"].removeprefix("incident."),
            "why": f"{entry['body'].get('why') or ''} [{entry['actor']}]",
            "seconds": None,
        }
        for entry in audit_trail(conn, incident_id)
    ]
    for job in own:
        out += [
            {
                "at": step["at"],
                "what": f"job {job['number']}: {step['name']}",
                "why": step_text(step),
                "seconds": step["seconds"],
            }
            for step in job["steps"]
        ]
    return sorted(out, key=lambda step: step["at"])


def audit_trail(conn: sa.Connection, incident_id: str) -> list[dict[str, Any]]:
    """What happened, oldest first: audit entries of the incident and of its jobs' releases.

    Returns
    -------
    list of dict
        ``at`` (microseconds), ``what`` (the audit's action), ``actor``, ``body``.
    """
    rows = conn.execute(
        sa.select(entries.c.at, entries.c.action, entries.c.actor, entries.c.body)
        .where(entries.c.subject == incident_id)
        .order_by(entries.c.seq)
    )
    return [
        {"at": r.at, "what": r.action, "actor": r.actor, "body": json.loads(r.body)} for r in rows
    ]


def step_text(step: Mapping[str, Any]) -> str:
    """One line about a step.

    Examples
    --------
    >>> step_text({"state": "done", "seconds": 0.25, "cpu_seconds": None, "detail": {}})
    'done in 0.25 s'
    """
    text = str(step["state"])
    if step["seconds"] is not None:
        text += f" in {step['seconds']:.2f} s"
    if step["cpu_seconds"]:
        text += f" ({step['cpu_seconds']:.2f} s of CPU)"
    detail = step["detail"]
    if why := detail.get("why") or (detail.get("decision") or {}).get("why"):
        text += f": {why}"
    elif "version" in detail:
        text += f": {detail['version']}, epoch {detail['epoch']}"
    elif "train" in detail:
        text += f": {detail['train']} rows to train on, {detail['gate_labelled']} gate rows"
    return text


def jobs_listed(
    conn: sa.Connection, *, model: str | None, live: bool, limit: int
) -> list[dict[str, Any]]:
    """Jobs, live ones first, then the newest."""
    query = sa.select(jobs)
    if model is not None:
        query = query.where(jobs.c.model == model)
    if live:
        query = query.where(jobs.c.live_mark == 1)
    first = sa.case((jobs.c.live_mark == 1, 0), else_=1)
    rows = conn.execute(query.order_by(first, jobs.c.number.desc()).limit(limit))
    return [_plain(job_queue.job_of(row)) for row in rows.mappings()]


def find_job(conn: sa.Connection, what: str) -> job_queue.Job:
    """A job by its number, its id, or how its id begins.

    Raises
    ------
    UsageError
        None is meant, or several are.
    """
    exactly = jobs.c.job_id == what
    if what.isdigit() and len(what) < 10:
        exactly = sa.or_(jobs.c.number == int(what), exactly)
    begins = jobs.c.job_id.startswith(what, autoescape=True)
    query = sa.select(jobs, exactly.label("exact")).where(sa.or_(exactly, begins))
    rows = conn.execute(query.order_by(exactly.desc()).limit(2)).mappings().all()
    rows = [r for r in rows if r["exact"]] or rows
    if not rows:
        raise UsageError(f"there is no job {what!r}: see `redistill jobs list`")
    if len(rows) > 1:
        raise UsageError(f"several jobs begin with {what!r}: give more of the id, or the number")
    return job_queue.job_of(rows[0])


def job_detail(conn: sa.Connection, job: job_queue.Job) -> dict[str, Any]:
    """One job with its steps (``detail`` read) and, where it was judged, its ``gates``,
    the ``gaps`` between declared groups, and what judging it has ``cost``.

    ``recipes`` are those whose candidates were judged, the first first: ``name``, ``number`` (which
    candidate of the incident it was that faced fresh rows; ``None``: it did not), ``sha256``,
    ``reasons`` why it was refused or is ``open`` (only a person can decide), and ``gates``.
    """
    steps = [
        {**step, "detail": json.loads(step["detail"] or "{}")}
        for step in checkpoints.read(conn, job.job_id)
    ]
    judged: dict[str, Any] = next((s["detail"] for s in steps if s["name"] == "gate"), {})
    gates: list[dict[str, Any]] = judged.get("gates", [])
    tried = list(job.outcome.get("tried", ()))
    present = judged.get("recipe")
    if present is not None and present["name"] not in {t["name"] for t in tried}:
        reasons = (judged.get("decision") or {}).get("reasons", [])
        tried.append({**present, "reasons": reasons, "gates": gates})
    gaps: list[dict[str, Any]] = judged.get("gaps", [])
    told = {"gates": gates, "gaps": gaps, "cost": judged.get("cost"), "recipes": tried}
    return {**_plain(job), "steps": steps, **told}


def _plain(job: job_queue.Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in job_queue.Job.__dataclass_fields__}

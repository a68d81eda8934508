"""Actions of late about a model, and the jobs of a day, read from SQL for the policy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

import sqlalchemy as sa

from redistill.streams.wire.events import IncidentClass
from redistill.times import DAY
from redistill.workers.incidents.model_context import FleetLimits, ModelContext
from redistill.workers.incidents.policy import IncidentContext, JobBudget, RecentActions
from redistill.workers.releases import publication_history as releases
from redistill.workers.store import job_queue
from redistill.workers.store.tables import fresh_tests, jobs, pauses, pointer_history

__all__ = ["gather"]

AUTOMATIC = ("incident", "schedule", "guard")
"""Triggers of changes after which a model is left alone for the cool-down."""

COUNTED = ("incident", "schedule")
"""Triggers of jobs that count against the budget: what a person asks for is a person's decision."""


def gather(
    conn: sa.Connection,
    incident: Mapping[str, Any],
    context: ModelContext,
    fleet_limits: FleetLimits,
    *,
    now: int,
    approved: bool = False,
) -> tuple[IncidentContext, JobBudget, RecentActions]:
    """Everything that ``policy.decide`` asks for."""
    model = context.model
    incident_context = IncidentContext(
        model=model,
        incident_class=cast(IncidentClass, incident["incident_class"]),
        level=context.level,
        approval=context.approval,
        has_teacher=context.has_teacher,
        approved=approved,
        predecessor=releases.predecessor(conn, model),
    )
    return (
        incident_context,
        _budget(conn, context, fleet_limits, now),
        _history(conn, incident, model, fleet_limits),
    )


def _budget(
    conn: sa.Connection, context: ModelContext, fleet_limits: FleetLimits, now: int
) -> JobBudget:
    since = now - DAY
    counted = sa.and_(jobs.c.started_at > since, jobs.c.trigger_kind.in_(COUNTED))
    mine = sa.func.coalesce(sa.func.sum(sa.case((jobs.c.model == context.model, 1), else_=0)), 0)
    row = conn.execute(
        sa.select(sa.func.count(), mine, sa.func.min(jobs.c.started_at)).where(counted)
    ).one()
    return JobBudget(
        model_jobs=int(row[1]),
        model_limit=context.max_jobs_per_day,
        fleet_jobs=int(row[0]),
        fleet_limit=fleet_limits.fleet_jobs_per_day,
        free_at=int(row[2] or now) + DAY,
    )


def _history(
    conn: sa.Connection, incident: Mapping[str, Any], model: str, fleet_limits: FleetLimits
) -> RecentActions:
    live = job_queue.live(conn, model)
    pause = conn.execute(sa.select(pauses).where(pauses.c.model == model)).one_or_none()
    changed = conn.execute(
        sa.select(pointer_history.c.trigger, pointer_history.c.at)
        .where(pointer_history.c.model == model)
        .order_by(pointer_history.c.epoch.desc())
        .limit(50)
    )
    last = max(
        (row.at for row in changed if json.loads(row.trigger)["kind"] in AUTOMATIC), default=None
    )
    tried = conn.execute(
        sa.select(sa.func.max(jobs.c.finished_at)).where(
            jobs.c.incident_id == incident["incident_id"], jobs.c.state != "cancelled"
        )
    ).scalar_one_or_none()
    latest = max((t for t in (last, tried) if t is not None), default=None)
    return RecentActions(
        live_job=None if live is None else live.job_id,
        paused_until=None if pause is None else int(pause.until),
        pause_reason="" if pause is None else pause.reason,
        cooling_until=None if latest is None else int(latest) + fleet_limits.cool_down,
        rejected_in_a_row=_rejected_in_a_row(conn, model),
        tested=_tested(conn, incident["incident_id"]),
    )


def _tested(conn: sa.Connection, incident_id: str) -> int:
    """How many candidates have faced the incident's fresh rows."""
    tests = sa.select(sa.func.count()).where(fresh_tests.c.incident_id == incident_id)
    return int(conn.execute(tests).scalar_one())


def _rejected_in_a_row(conn: sa.Connection, model: str) -> int:
    states = conn.execute(
        sa.select(jobs.c.state)
        .where(
            jobs.c.model == model,
            jobs.c.trigger_kind == "incident",
            jobs.c.state.in_(("succeeded", "rejected")),
        )
        .order_by(jobs.c.finished_at.desc())
        .limit(10)
    ).scalars()
    n = 0
    for state in states:
        if state == "succeeded":
            break
        n += 1
    return n

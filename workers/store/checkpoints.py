"""Checkpoints of a job in SQL: which steps are done, how long each took, under which claim it was
written, and what the next worker has to know to go on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from redistill.streams.store.database import upsert
from redistill.workers.store.job_queue import Claim, Job
from redistill.workers.store.tables import job_steps, jobs

__all__ = ["freeze", "read", "record", "remember", "set_seconds"]


def record(
    conn: sa.Connection,
    claim: Claim,
    name: str,
    state: str,
    *,
    now: int,
    seconds: float | None = None,
    cpu_seconds: float | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Write down where the job stands; a step done for the first time renews its tries."""
    job_id = claim.job.job_id
    before = conn.execute(
        sa.select(job_steps.c.state).where(job_steps.c.job_id == job_id, job_steps.c.name == name)
    ).scalar_one_or_none()
    conn.execute(
        upsert(job_steps, ["job_id", "name"]).values(
            job_id=job_id,
            name=name,
            state=state,
            detail=None if detail is None else json.dumps(dict(detail), sort_keys=True),
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            token=claim.token,
            at=now,
        )
    )
    if state == "done" and before != "done":
        conn.execute(sa.update(jobs).where(jobs.c.job_id == job_id).values(tries=1))


def set_seconds(
    conn: sa.Connection,
    claim: Claim,
    name: str,
    seconds: float,
    *,
    cpu_seconds: float | None = None,
) -> None:
    """How long a recorded step really took, as its process measured it."""
    conn.execute(
        sa.update(job_steps)
        .where(job_steps.c.job_id == claim.job.job_id, job_steps.c.name == name)
        .values(seconds=seconds, cpu_seconds=cpu_seconds)
    )


def remember(conn: sa.Connection, job: Job, values: Mapping[str, Any]) -> None:
    """Add values to the ``outcome`` of a job as it stands now."""
    outcome = json.dumps({**job.outcome, **values}, sort_keys=True)
    conn.execute(sa.update(jobs).where(jobs.c.job_id == job.job_id).values(outcome=outcome))


def freeze(conn: sa.Connection, claim: Claim, at: int | None) -> None:
    """End the job's training rows: those served after ``at`` are never trained on; ``None``: they
    are to be chosen anew."""
    conn.execute(sa.update(jobs).where(jobs.c.job_id == claim.job.job_id).values(frozen_at=at))


def read(conn: sa.Connection, job_id: str) -> list[Mapping[str, Any]]:
    """Steps of a job in the order in which they were last written."""
    rows = conn.execute(
        sa.select(job_steps).where(job_steps.c.job_id == job_id).order_by(job_steps.c.at)
    )
    return [dict(row) for row in rows.mappings()]

"""How a job leaves a worker's hands: it waits, goes back, ends, or becomes a release.

Each is one transaction under the job's lease; what its incident is told is part of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
import structlog

from redistill.compress.plan import Report
from redistill.workers.errors import LeaseLost
from redistill.workers.incidents import lifecycle
from redistill.workers.jobs import job_spec
from redistill.workers.jobs.dependencies import Tools
from redistill.workers.jobs.job_spec import Context
from redistill.workers.store import checkpoints, job_queue
from redistill.workers.store.job_queue import Claim, Job
from redistill.workers.store.tables import jobs

log = structlog.get_logger(__name__)


def current(conn: sa.Connection, claim: Claim) -> Job:
    """The job as it stands now."""
    job = job_queue.get(conn, claim.job.job_id)
    if job is None:
        raise LookupError(claim.job.job_id)
    return job


def remember(conn: sa.Connection, claim: Claim, **values: Any) -> None:
    """Keep values in the job's ``outcome``: ``phase`` (``repair``, ``gate``, ``publish``),
    ``incumbent`` (the version that has to be beaten)."""
    job = current(conn, claim)
    outcome = json.dumps({**job.outcome, **values}, sort_keys=True)
    conn.execute(sa.update(jobs).where(jobs.c.job_id == job.job_id).values(outcome=outcome))


def park(
    conn: sa.Connection,
    tools: Tools,
    claim: Claim,
    wait: Mapping[str, Any],
    *,
    have: int,
    why: str,
) -> None:
    """Let the job wait for rows, in the caller's (fenced) transaction.

    Parameters
    ----------
    wait
        What for: ``count`` (name of a count of ``Window``), ``rows`` of it, ``outcomes`` without
        which there cannot be so many, ``look_at`` (not before that time), ``since``.
    have
        What there is.
    """
    now, job = tools.clock(), current(conn, claim)
    job_queue.park(
        conn,
        Claim(job, claim.token),
        outcome={"wait": dict(wait), "why": why},
        gate_rows=have,
        now=now,
    )
    lifecycle.job_parked(conn, job, why=why, actor=tools.actor, now=now)
    log.info(
        "job_waits", action="job_waits", job_id=job.job_id, have=have, need=wait["rows"], why=why
    )


def finish(
    conn: sa.Connection,
    tools: Tools,
    claim: Claim,
    state: str,
    *,
    why: str,
    outcome: Mapping[str, Any],
) -> None:
    """End the job and tell its incident, in the caller's (fenced) transaction."""
    now, job = tools.clock(), current(conn, claim)
    seconds = (now - (job.started_at or now)) / 1e6
    job_queue.finish(conn, job, state, outcome={**outcome, "why": why, "seconds": seconds}, now=now)
    job_queue.release(conn, claim)
    lifecycle.job_ended(
        conn,
        replace(job, state=state),
        state,
        why=why,
        rules=tools.rules,
        actor=tools.actor,
        now=now,
    )
    log.info(
        "job_ended", action="job_ended", job_id=job.job_id, state=state, why=why, seconds=seconds
    )


def end(tools: Tools, claim: Claim, state: str, *, why: str) -> None:
    """End the job without a release; if it is not ours any more, leave it."""
    try:
        with job_queue.fenced(tools.database, claim, tools.clock) as conn:
            finish(conn, tools, claim, state, why=why, outcome={"reasons": [why]})
    except (LeaseLost, job_queue.JobEnded) as error:
        log.warning("job_left", action="job_left", job_id=claim.job.job_id, why=str(error))


def reject(
    tools: Tools, claim: Claim, context: Context, report: Report, reasons: list[str]
) -> None:
    """The candidate failed its gates: say which, and end the job."""
    now = tools.clock()
    with job_queue.fenced(tools.database, claim, tools.clock) as conn:
        sha256 = tools.publisher.rejected(conn, report, context, now=now)
        outcome = {"reasons": reasons, "sha256": sha256}
        finish(conn, tools, claim, "rejected", why="; ".join(reasons), outcome=outcome)


def publish(tools: Tools, claim: Claim, context: Context) -> None:
    """Seal the candidate, then move the pointer, end the job and tell the incident at once."""
    began = time.monotonic()
    candidate = tools.publisher.prepare(tools.folder(claim.job.job_id), context)
    sealed = time.monotonic()
    now = tools.clock()
    with job_queue.fenced(tools.database, claim, tools.clock) as conn:
        # Sealing took a while: is it still this version that has to be beaten?
        context = job_spec.read_context(conn, claim.job)
        checkpoints.record(conn, claim, "seal", "done", now=now, seconds=sealed - began)
        moved = tools.publisher.publish(conn, candidate, context, actor=tools.actor, now=now)
        checkpoints.record(
            conn,
            claim,
            "publish",
            "done",
            now=now,
            seconds=time.monotonic() - sealed,
            detail={"version": moved.version, "epoch": moved.epoch},
        )
        finish(
            conn,
            tools,
            claim,
            "succeeded",
            why=f"published {moved.version} (epoch {moved.epoch}), its gates passed",
            outcome={"version": moved.version, "sha256": candidate.sha256, "epoch": moved.epoch},
        )
    tools.publisher.published()
    log.info(
        "job_published",
        action="job_published",
        job_id=claim.job.job_id,
        model=claim.job.model,
        version=moved.version,
        epoch=moved.epoch,
    )

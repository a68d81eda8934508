"""Remedy facts of a job: what SQL says about which remedies are possible and what they cost."""

from __future__ import annotations

import json

import sqlalchemy as sa

from redistill.compress import remedies
from redistill.compress.plan import Diagnosis
from redistill.compress.remedies import ConsideredRemedy, RemedyFacts
from redistill.workers.jobs.job_spec import TRAINING, JobInputs
from redistill.workers.store.tables import jobs

__all__ = ["MEASURED", "considered"]

MEASURED = "cpu_seconds"
"""Key of a job's outcome: CPU seconds of the child by recipe, as they were measured."""
LATEST = 20
"""Jobs of a model that are looked at for what its recipes took."""


def considered(
    conn: sa.Connection, context: JobInputs, diagnosis: Diagnosis | None
) -> tuple[ConsideredRemedy, ...]:
    """What is thought of every remedy before a job makes anything.

    Parameters
    ----------
    diagnosis
        Of the incident; ``None``: there was none.
    """
    return remedies.consider(
        RemedyFacts(
            cause=None if diagnosis is None else diagnosis.cause,
            recoverable=diagnosis is None or diagnosis.repairable,
            incident=context.incident is not None,
            weights=all(name in context.incumbent.files for name in TRAINING),
            releases=len(context.earlier),
            measured=_measured(conn, context.job.model),
        )
    )


def _measured(conn: sa.Connection, model: str) -> dict[str, float]:
    """CPU seconds of each recipe in the newest job that tried it."""
    rows = conn.execute(
        sa.select(jobs.c.outcome)
        .where(jobs.c.model == model, jobs.c.outcome.is_not(None))
        .order_by(jobs.c.number.desc())
        .limit(LATEST)
    ).scalars()
    found: dict[str, float] = {}
    for outcome in rows:
        took = json.loads(outcome).get(MEASURED, {})
        found = {**took, **found}  # the newer one counts
    return found

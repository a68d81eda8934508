"""Evidence of a recovery, read from SQL: what is known of the version that serves in place of a
harmed one.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from redistill.streams.monitor.base_error import BaseError
from redistill.streams.store.tables import (
    accuracy_states,
    findings,
    input_states,
    outcomes,
    profiles,
)
from redistill.streams.wire.events import DriftFound
from redistill.workers.incidents.incident_repository import IncidentRow
from redistill.workers.incidents.model_context import load
from redistill.workers.store.tables import incident_findings, pointers

__all__ = ["RecoveryEvidence", "gather"]

MAX_OUTCOMES = 8_192
"""Outcomes of a new version that are looked at, the first ones: more than any recovery needs."""


@dataclass(frozen=True, slots=True, eq=False)
class RecoveryEvidence:
    """A recovery to be judged: see ``recovery.judge``."""

    version: str
    errors: NDArray[np.uint8]  # (n,)
    n: int
    base: BaseError
    harmed: float
    tolerance: float
    share: float
    labels_per_alarm: float


def gather(conn: sa.Connection, incident: IncidentRow, seen: int) -> RecoveryEvidence | None:
    """What is known of the version that serves now; ``None``: it is still the harmed one, or there
    is no new outcome."""
    model = incident["model"]
    pointer = conn.execute(sa.select(pointers).where(pointers.c.model == model)).one_or_none()
    if pointer is None or pointer.stable == incident["version"]:
        return None
    o = outcomes.c
    served = sa.and_(
        o.model == model,
        o.version == pointer.stable,
        o.served_at >= pointer.moved_at,
        o.uniform,
        o.label.is_not(None),
    )
    n = int(conn.execute(sa.select(sa.func.count()).where(served)).scalar_one())
    if n == seen and incident["stage"] == "guarding":
        return None
    context = load(conn, model)
    harm = _harm(conn, incident)
    if context is None or harm is None:
        return None
    correct = (
        conn.execute(
            sa.select(sa.case((o.label == o.prediction, 1), else_=0))
            .where(served)
            .order_by(o.seq)
            .limit(MAX_OUTCOMES)
        )
        .scalars()
        .all()
    )
    base = _base(conn, incident, harm)
    if base is None or harm.impact.current is None:
        return None
    share = _share(conn, model, pointer.stable)
    return RecoveryEvidence(
        version=pointer.stable,
        errors=1 - np.asarray(correct, np.uint8),
        n=n,
        base=base,
        harmed=1 - harm.impact.current,
        tolerance=context.watch.tolerance_points / 100,
        share=share,
        labels_per_alarm=max(1_000.0, context.watch.rows_per_alarm * share),
    )


def _harm(conn: sa.Connection, incident: IncidentRow) -> DriftFound | None:
    """The finding of harm that the incident is about: the worst one."""
    rows = conn.execute(
        sa.select(findings.c.body)
        .join(incident_findings, incident_findings.c.finding_id == findings.c.finding_id)
        .where(
            incident_findings.c.incident_id == incident["incident_id"],
            findings.c.kind == "accuracy",
            findings.c.version == incident["version"],
        )
    ).scalars()
    attached = [msgspec.json.decode(body, type=DriftFound) for body in rows]
    known = [f for f in attached if f.impact.current is not None]
    return min(known, key=lambda f: f.impact.current or 0.0, default=None)


def _base(conn: sa.Connection, incident: IncidentRow, harm: DriftFound) -> BaseError | None:
    """The error that was promised for the harmed version."""
    text = conn.execute(
        sa.select(profiles.c.base_error).where(
            profiles.c.model == incident["model"], profiles.c.version == incident["version"]
        )
    ).scalar_one_or_none()
    if text is not None:
        return BaseError.from_json(text)
    if harm.impact.reference is None:
        return None
    # Learned from traffic and never stored: the finding tells the rate, a thousand rows taught it.
    wrong = round((1 - harm.impact.reference) * 1_000)
    errors = np.repeat(np.array([1, 0], np.uint8), [wrong, 1_000 - wrong])
    return BaseError.from_errors(errors, ordered=False, provisional=True)


def _share(conn: sa.Connection, model: str, version: str) -> float:
    """Share of a version's rows that have a label."""
    rows = conn.execute(
        sa.select(sa.func.coalesce(sa.func.sum(input_states.c.rows), 0)).where(
            input_states.c.model == model, input_states.c.version == version
        )
    ).scalar_one()
    labelled = conn.execute(
        sa.select(accuracy_states.c.n).where(
            accuracy_states.c.model == model, accuracy_states.c.version == version
        )
    ).scalar_one_or_none()
    if not rows or not labelled:
        return 1.0
    return float(min(1.0, max(0.001, labelled / int(rows))))

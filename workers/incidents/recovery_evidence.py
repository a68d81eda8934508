"""Evidence of a recovery, read from SQL: what is known of the version that serves in place of a
harmed one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.daily_cycle import daily_cycle
from redistill.streams.monitor.expected_error import ExpectedError
from redistill.streams.monitor.slice_tests import TOLERANCE
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
from redistill.workers.store.tables import incident_findings, pointer_history, pointers

__all__ = ["MAX_OUTCOMES", "RecoveryEvidence", "gather"]

SLICE = "slice:"
"""``slice:COLUMN=VALUE``, the scope of a finding of a slice."""
MAX_OUTCOMES = 8_192
"""Outcomes of a version that are looked at; of more, every so many-th, and so they last as long."""


@dataclass(frozen=True, slots=True, eq=False)
class RecoveryEvidence:
    """A recovery to be judged: see ``recovery.judge``."""

    version: str
    errors: NDArray[np.uint8]  # (m,)
    times: NDArray[np.int64]  # (m,)
    n: int
    """Outcomes there are."""
    base: BaseError
    harmed: float
    """Error rate as the finding measured it."""
    level: float
    """The least that it can have been. A finding opens on the labels that look worst: half of the
    versions that are as bad would be better than what it says."""
    tolerance: float
    share: float
    """Labels that were looked at, per served row."""


def gather(conn: sa.Connection, incident: IncidentRow, seen: int) -> RecoveryEvidence | None:
    """What is known of the version that serves now; ``None``: it is still the harmed one, or there
    is no new outcome."""
    model = incident["model"]
    pointer = conn.execute(sa.select(pointers).where(pointers.c.model == model)).one_or_none()
    if pointer is None or pointer.stable == incident["version"]:
        return None
    o, h = outcomes.c, pointer_history.c
    harm = _harm(conn, incident)
    if harm is None:
        return None
    moved_at = sa.select(h.at).where(h.model == model, h.epoch == pointer.epoch)
    served = sa.and_(
        o.model == model,
        o.version == pointer.stable,
        o.served_at >= moved_at.scalar_subquery(),
        o.uniform,
        o.label.is_not(None),
        _within(harm),
    )
    n = int(conn.execute(sa.select(sa.func.count()).where(served)).scalar_one())
    if n == seen and incident["stage"] == "guarding":
        return None
    context = load(conn, model)
    if context is None:
        return None
    base = _base(conn, incident, harm)
    if base is None or harm.impact.current is None or harm.impact.high is None:
        return None
    every = max(1, -(-n // MAX_OUTCOMES))
    errors, times = _outcomes(conn, sa.and_(served, o.seq % every == 0))
    return RecoveryEvidence(
        version=pointer.stable,
        errors=errors,
        times=times,
        n=n,
        base=base,
        harmed=1 - harm.impact.current,
        level=1 - harm.impact.high,
        tolerance=context.watch.tolerance_points / 100 if harm.scope == "all" else TOLERANCE,
        share=_share(conn, model, pointer.stable) / every,
    )


def _outcomes(
    conn: sa.Connection, which: sa.ColumnElement[bool], *, newest: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Errors and times of serving, in the order in which they were numbered; the first ones, or the
    newest."""
    o = outcomes.c
    rows = conn.execute(
        sa.select(sa.case((o.label == o.prediction, 0), else_=1), o.served_at)
        .where(which)
        .order_by(o.seq.desc() if newest else o.seq)
        .limit(MAX_OUTCOMES)
    ).all()
    errors, times = np.array([tuple(row) for row in rows], np.int64).reshape(-1, 2).T
    return errors.astype(np.uint8), times


def _harm(conn: sa.Connection, incident: IncidentRow) -> DriftFound | None:
    """The finding of harm that the incident is about: the worst one of the whole model, else of a
    slice."""
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
    return min(known, key=lambda f: (f.scope != "all", f.impact.current or 0.0), default=None)


def _within(harm: DriftFound) -> sa.ColumnElement[bool]:
    """Which outcomes a finding is about: all, or those of its slice."""
    if not harm.scope.startswith(SLICE):
        return sa.true()
    key, _, value = harm.scope.removeprefix(SLICE).partition("=")
    one = {key: value}
    pairs = {json.dumps(one)[1:-1], msgspec.json.encode(one).decode()[1:-1]}  # of rows, of labels
    stored = outcomes.c.slices  # SQLite's LIKE takes "eu" for "EU"
    return sa.or_(*(sa.func.replace(stored, p, "") != stored for p in sorted(pairs)))


def _base(conn: sa.Connection, incident: IncidentRow, harm: DriftFound) -> BaseError | None:
    """The error that was promised for the harmed version."""
    row = conn.execute(
        sa.select(profiles.c.base_error, profiles.c.expected_error).where(
            profiles.c.model == incident["model"], profiles.c.version == incident["version"]
        )
    ).one_or_none()
    if row is not None and row.base_error is not None:
        base = BaseError.from_json(row.base_error)
        if base.daily is None:
            base = replace(base, daily=_daily(conn, incident))
        if not harm.scope.startswith(SLICE):
            return base
        if row.expected_error is None:
            return None
        name = harm.scope.removeprefix(SLICE)
        slices = ExpectedError.from_json(row.expected_error).slices
        return next((s.base(base) for s in slices if s.name == name), None)
    if harm.impact.reference is None:
        return None
    # Learned from traffic and never stored: the finding tells the rate, a thousand rows taught it.
    wrong = round((1 - harm.impact.reference) * 1_000)
    errors = np.repeat(np.array([1, 0], np.uint8), [wrong, 1_000 - wrong])
    base = BaseError.from_errors(errors, ordered=False, provisional=True)
    return replace(base, daily=_daily(conn, incident))


def _daily(conn: sa.Connection, incident: IncidentRow) -> bool | None:
    """Whether the errors of the harmed version followed the hour of the day."""
    o = outcomes.c
    harmed = sa.and_(
        o.model == incident["model"],
        o.version == incident["version"],
        o.uniform,
        o.label.is_not(None),
    )
    return daily_cycle(*_outcomes(conn, harmed, newest=True))


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

"""Queries that commands and workers share, each with a name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from redistill.streams.store.tables import (
    accuracy_states,
    feature_rows,
    findings,
    input_states,
    labels,
    model_locks,
    outcomes,
    profiles,
    specs,
    unregistered,
    windows,
)
from redistill.times import DAY, MINUTE
from redistill.workers.store import usual_gaps
from redistill.workers.store.tables import (
    incidents,
    jobs,
    pauses,
    pointer_history,
    pointers,
    versions,
)

__all__ = [
    "LEARNED_FROM",
    "Overview",
    "Traffic",
    "UnregisteredModel",
    "label_lag",
    "overview",
    "recent_outcomes",
    "rows_per_alarm",
    "traffic",
    "trusted_churn",
    "unregistered_models",
]

WEEK = 7 * DAY
RECENT_OUTCOMES = 2_000
"""Measured accuracy is that of so many of a version's last labelled rows."""
RECENT_LAGS = 200
MANY_REPORTS = 20
"""Gate reports that are looked through for one that compared: the first model's has none."""
LEARNED_FROM = 1_000
"""Outcomes from which a version without a base error learns one."""


def rows_per_alarm(
    conn: sa.Connection, model: str, *, alarms_per_week: float, now: int
) -> float | None:
    """Served rows of a model per promised false alarm, from a week of the fleet's labelled traffic.

    Labels per alarm are the same for all models, ``A = max(1000, the fleet's labelled rows a week /
    alarms a week)``, so that the alarms of all models add up to what the operator accepts.

    Returns
    -------
    float or None
        ``None``: a week of labelled traffic is not known yet, of the fleet or of this model.
    """
    since = now - WEEK
    first = conn.execute(sa.select(sa.func.min(outcomes.c.made_at))).scalar_one()
    if first is None or first > since:
        return None
    recent = outcomes.c.made_at > since
    fleet = conn.execute(
        sa.select(sa.func.count()).select_from(outcomes).where(recent)
    ).scalar_one()
    mine = conn.execute(
        sa.select(sa.func.count()).select_from(outcomes).where(recent, outcomes.c.model == model)
    ).scalar_one()
    served = conn.execute(
        sa.select(sa.func.coalesce(sa.func.sum(windows.c.rows), 0)).where(
            windows.c.model == model, windows.c.last_served_at > since
        )
    ).scalar_one()
    if not mine or not served:
        return None
    per_alarm = max(1_000.0, fleet / alarms_per_week)
    return float(per_alarm * max(1.0, float(served) / mine))


@dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """What a model's last days looked like; rates are per day."""

    days: float
    """How long was looked at: since the first row, at most seven days."""
    rows: float
    labels: float
    gate_rows: float
    """Rows with both label and stored features: what a gate can judge on."""


def trusted_churn(conn: sa.Connection, model: str) -> float | None:
    """Share of trusted rows that only one of a model's newest version and what it was to replace
    had right, by its gate report; ``None``: none was compared yet."""
    query = (
        sa.select(versions.c.report)
        .where(versions.c.model == model)
        .order_by(versions.c.created_at.desc(), versions.c.version)
        .limit(MANY_REPORTS)
    )
    for text in conn.execute(query).scalars():
        told = json.loads(text).get("trusted") or {}
        differ = told.get("wins", 0) + told.get("losses", 0)
        if rows := differ + told.get("ties", 0):
            return float(differ / rows)
    return None


def traffic(conn: sa.Connection, model: str, now: int) -> Traffic | None:
    """Rates of the last week; ``None``: nothing was served in it."""
    since = now - WEEK
    served, first = conn.execute(
        sa.select(sa.func.sum(windows.c.rows), sa.func.min(windows.c.first_served_at)).where(
            windows.c.model == model, windows.c.last_served_at > since
        )
    ).one()
    states, first_state = conn.execute(
        sa.select(
            sa.func.sum(input_states.c.rows), sa.func.min(input_states.c.first_served_at)
        ).where(input_states.c.model == model, input_states.c.last_served_at > since)
    ).one()
    begun = min((t for t in (first, first_state) if t is not None), default=None)
    if begun is None:
        return None
    days = max(MINUTE, min(now - begun, WEEK)) / DAY
    # A model younger than a week has everything it ever served in its input states.
    rows = float(states or 0) if begun > since else float(served or 0)
    made = conn.execute(
        sa.select(sa.func.count()).where(outcomes.c.model == model, outcomes.c.made_at > since)
    ).scalar_one()
    rates = conn.execute(
        sa.select(model_locks.c.join_exponent, model_locks.c.feature_exponent).where(
            model_locks.c.model == model
        )
    ).one_or_none()
    stored = conn.execute(
        sa.select(sa.func.count()).where(feature_rows.c.model == model)
    ).scalar_one()
    nested = 0.0
    if stored:
        nested = 1.0 if rates is None else 2.0 ** -max(0, rates[1] - rates[0])
    return Traffic(days=days, rows=rows / days, labels=made / days, gate_rows=made * nested / days)


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """One model as ``redistill models`` shows it."""

    model: str
    level: str
    version: str | None
    """What the pointer names; at level watch the version that served last."""
    correct: int
    labelled: int
    """The version's last labelled rows, at most ``RECENT_OUTCOMES``, drawn uniformly."""
    labels_waiting: int
    gate_rows_per_day: float | None
    last_served_at: int | None
    last_label_at: int | None
    label_lag_us: int | None
    """Median time from serving to label of the last labelled rows."""
    has_base_error: bool
    """Whether it is known how often the version is normally wrong."""
    incident: tuple[str, str, str] | None
    """Class, stage and reason of the worst open incident."""
    job: str | None
    """State of the live job."""
    open_findings: int
    paused_until: int | None
    last_change: str | None
    """How the pointer came to where it is: ``publish``, ``rollback``, ``automatic_rollback``."""
    row_gap_us: int | None = None
    """Usual gap between rows; ``None``: not known, or not asked, since rows came lately."""
    label_gap_us: int | None = None
    """The same of labels."""


def recent_outcomes(conn: sa.Connection, model: str, version: str | None) -> tuple[int, int]:
    """How many of a version's last labelled rows there are, at most ``RECENT_OUTCOMES``, drawn
    uniformly, and how many of them are correct."""
    recent = (
        sa.select(outcomes.c.correct)
        .where(
            outcomes.c.model == model,
            outcomes.c.version == (version or ""),
            outcomes.c.uniform.is_(True),
            outcomes.c.label.is_not(None),  # taken back, or of a label that was none
        )
        .order_by(outcomes.c.seq.desc())
        .limit(RECENT_OUTCOMES)
        .subquery()
    )
    labelled, correct = conn.execute(
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(recent.c.correct), 0))
    ).one()
    return int(labelled), int(correct)


def _observed_at() -> sa.ColumnElement[Any]:
    """When the label of an outcome was observed: it may claim a time later than when it came."""
    o = outcomes.c
    return sa.case((o.observed_at > o.made_at, o.made_at), else_=o.observed_at)


def label_lag(conn: sa.Connection, model: str, version: str | None) -> int | None:
    """Median time from serving to label of a version's last labelled rows, in microseconds;
    ``None``: there are none."""
    lags = sorted(
        conn.execute(
            sa.select(_observed_at() - outcomes.c.served_at)
            .where(outcomes.c.model == model, outcomes.c.version == (version or ""))
            .order_by(outcomes.c.seq.desc())
            .limit(RECENT_LAGS)
        ).scalars()
    )
    return int(lags[len(lags) // 2]) if lags else None


def overview(conn: sa.Connection, model: str, now: int) -> Overview:
    """Everything that the table of models shows of one."""
    level = conn.execute(sa.select(specs.c.level).where(specs.c.model == model)).scalar_one()
    pointer = conn.execute(
        sa.select(pointers.c.stable, pointer_history.c.change)
        .join(
            pointer_history,
            (pointer_history.c.model == pointers.c.model)
            & (pointer_history.c.epoch == pointers.c.epoch),
            isouter=True,
        )
        .where(pointers.c.model == model)
    ).one_or_none()
    newest = conn.execute(
        sa.select(input_states.c.version, input_states.c.last_served_at)
        .where(input_states.c.model == model)
        .order_by(input_states.c.last_served_at.desc())
        .limit(1)
    ).one_or_none()
    version = pointer.stable if pointer else (newest.version if newest else None)
    labelled, correct = recent_outcomes(conn, model, version)
    waiting = conn.execute(
        sa.select(sa.func.count()).where(labels.c.model == model, labels.c.state == "waiting")
    ).scalar_one()
    last_label = conn.execute(
        sa.select(sa.func.max(_observed_at())).where(outcomes.c.model == model)
    ).scalar_one()
    base = conn.execute(
        sa.select(profiles.c.base_error).where(
            profiles.c.model == model, profiles.c.version == (version or "")
        )
    ).scalar_one_or_none()
    seen = conn.execute(
        sa.select(accuracy_states.c.n).where(
            accuracy_states.c.model == model, accuracy_states.c.version == (version or "")
        )
    ).scalar_one_or_none()
    incident = conn.execute(
        sa.select(incidents.c.incident_class, incidents.c.stage, incidents.c.why)
        .where(incidents.c.model == model, incidents.c.status == "open")
        .order_by((incidents.c.incident_class == "harm").desc(), incidents.c.opened_at)
        .limit(1)
    ).one_or_none()
    job = conn.execute(
        sa.select(jobs.c.state).where(jobs.c.model == model, jobs.c.live_mark == 1)
    ).scalar_one_or_none()
    open_findings = conn.execute(
        sa.select(sa.func.count()).where(findings.c.model == model, findings.c.status != "resolved")
    ).scalar_one()
    paused = conn.execute(
        sa.select(pauses.c.until).where(pauses.c.model == model, pauses.c.until > now)
    ).scalar_one_or_none()
    rates = traffic(conn, model, now)
    last_row = newest.last_served_at if newest else None
    no_row = last_row is not None and now - last_row > usual_gaps.LEAST_US
    no_label = last_label is not None and now - last_label > usual_gaps.LEAST_US
    return Overview(
        model=model,
        level=level,
        version=version,
        correct=correct,
        labelled=labelled,
        labels_waiting=int(waiting),
        gate_rows_per_day=None if rates is None else rates.gate_rows,
        last_served_at=last_row,
        last_label_at=last_label,
        label_lag_us=label_lag(conn, model, version),
        has_base_error=base is not None or (seen or 0) >= LEARNED_FROM,
        incident=None if incident is None else (incident[0], incident[1], incident[2]),
        job=job,
        open_findings=int(open_findings),
        paused_until=paused,
        last_change=pointer.change if pointer else None,
        row_gap_us=usual_gaps.of_rows(conn, model, now) if no_row else None,
        label_gap_us=usual_gaps.of_labels(conn, model, now) if no_label else None,
    )


@dataclass(frozen=True, slots=True)
class UnregisteredModel:
    """A model that was seen and that nobody registered."""

    model: str
    rows: int
    first_seen_at: int
    """Microseconds since 1970."""


def unregistered_models(conn: sa.Connection) -> list[UnregisteredModel]:
    """Models that were seen and that nobody registered, those with most rows first."""
    total = sa.func.sum(unregistered.c.rows)
    rows = conn.execute(
        sa.select(unregistered.c.model, total, sa.func.min(unregistered.c.first_seen_at))
        .where(unregistered.c.model.not_in(sa.select(specs.c.model)))
        .group_by(unregistered.c.model)
        .order_by(total.desc(), unregistered.c.model)
    )
    return [UnregisteredModel(str(model), int(count), int(first)) for model, count, first in rows]

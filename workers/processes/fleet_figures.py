"""Figures of the whole fleet: what an installation's SQL tells Prometheus, read at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

import sqlalchemy as sa

from redistill.streams.store import process_rows
from redistill.streams.store.named_models import NamedModels, named_models
from redistill.streams.store.process_rows import Kind
from redistill.streams.store.tables import specs
from redistill.workers.alerts.incident_alerts import severity_of
from redistill.workers.alerts.operational.heart import state as heart_state
from redistill.workers.store import event_counts
from redistill.workers.store.model_figures import FigureMemory, ModelFigures, figures_of
from redistill.workers.store.tables import alert_deliveries, incidents, operational_alerts

__all__ = ["FleetFigures", "read"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetFigures:
    """Everything, bounded: models beyond the named ones are counted, not named."""

    at: int
    """When it was read, microseconds since 1970."""
    registered: Mapping[str, int]
    """Models by level."""
    models: tuple[ModelFigures, ...]
    """Those that are named."""
    incidents: Mapping[tuple[str, str, str], int]
    """Open ones by model (or ``named_models.OTHER``), class and severity."""
    job_ends: Mapping[str, int]
    """Since the installation began, by state."""
    refusals: Mapping[str, int]
    """The same, by gate."""
    processes: Mapping[tuple[str, bool], int]
    """Those that live, by kind and whether they are ready; kinds of which none does are there."""
    troubles: Mapping[tuple[str, str], int]
    """Open operational alerts by kind and severity."""
    deliveries: Mapping[tuple[str, str], int]
    """Of alerts, by channel and state."""
    beat_at: int | None
    """When the dead man's switch last heard a beat, microseconds since 1970; ``None``: never."""


def read(conn: sa.Connection, memory: FigureMemory, *, most_models: int, now: int) -> FleetFigures:
    """Read everything.

    Parameters
    ----------
    memory
        Of the readings before.
    most_models
        So many are named.
    now
        Microseconds since 1970.
    """
    named = named_models(conn, most_models)
    level = sa.select(specs.c.level, sa.func.count()).group_by(specs.c.level)
    t, d = operational_alerts.c, alert_deliveries.c
    troubles = (
        sa.select(t.kind, t.severity, sa.func.count())
        .where(t.open_mark == 1)
        .group_by(t.kind, t.severity)
    )
    deliveries = sa.select(d.channel, d.state, sa.func.count()).group_by(d.channel, d.state)
    heart = heart_state(conn)
    return FleetFigures(
        at=now,
        registered=dict(conn.execute(level).all()),
        models=tuple(figures_of(conn, sorted(named.names), memory, now=now)),
        incidents=_incidents(conn, named),
        job_ends=event_counts.job_ends(conn),
        refusals=event_counts.gate_refusals(conn),
        processes=_processes(conn, now),
        troubles={(kind, severity): n for kind, severity, n in conn.execute(troubles)},
        deliveries={(channel, state): n for channel, state, n in conn.execute(deliveries)},
        beat_at=None if heart is None else heart.sent_at,
    )


def _incidents(conn: sa.Connection, named: NamedModels) -> dict[tuple[str, str, str], int]:
    i = incidents.c
    query = (
        sa.select(i.model, i.incident_class, i.stage, sa.func.count().label("n"))
        .where(i.open_mark == 1)
        .group_by(i.model, i.incident_class, i.stage)
    )
    out: Counter[tuple[str, str, str]] = Counter()
    for model, kind, stage, n in conn.execute(query):
        severity = severity_of({"incident_class": kind, "stage": stage})
        out[named.label(model), kind, severity] += n
    return dict(out)


def _processes(conn: sa.Connection, now: int) -> dict[tuple[str, bool], int]:
    out = {(kind, ready): 0 for kind in get_args(Kind) for ready in (True, False)}
    for row in process_rows.seen(conn):
        if row.lives(now) and (row.kind, row.ready) in out:
            out[row.kind, row.ready] += 1
    return out

"""Alarm budget: the operator's one number, alarms per week, as rows per promised false alarm of
each model.

Until a week of labelled traffic is known, a million rows are assumed per alarm. Afterwards the
thresholds follow the fleet's traffic, slowly: they are replaced when they are off by a factor of
two.
"""

from __future__ import annotations

from dataclasses import replace
from statistics import harmonic_mean

import sqlalchemy as sa
import structlog

from redistill.files import sha256_of_bytes
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.store.database import Database
from redistill.streams.store.tables import specs
from redistill.workers.store import audit, names, queries

__all__ = ["CHANGED", "of_fleet", "refresh"]

log = structlog.get_logger(__name__)

FACTOR = 2.0
CHANGED = "model.budget_changed"
"""Action of the audit entry: who makes thresholds wider by SQL would silence a detector unseen."""


def of_fleet(conn: sa.Connection) -> float | None:
    """Rows per promised false alarm that the stream workers use now.

    Returns
    -------
    float or None
        Of several models the mean, as of rates: so many rows of each bring one false alarm.
        ``None``: there is no model.
    """
    texts = conn.execute(sa.select(specs.c.watch)).scalars()
    budgets = [WatchConfig.from_json(text).rows_per_alarm for text in texts]
    return harmonic_mean(budgets) if budgets else None


def refresh(database: Database, *, alarms_per_week: float, now: int) -> list[str]:
    """Bring every model's rows per alarm up to date; names of those that changed.

    Parameters
    ----------
    alarms_per_week
        False alarms a week that the operator accepts, for the fleet.
    now
        Microseconds since 1970.
    """
    with database.read() as conn:
        known = names.model_names(conn)
    changed = []
    for model in known:
        with database.begin() as conn:
            wanted = queries.rows_per_alarm(conn, model, alarms_per_week=alarms_per_week, now=now)
            if wanted is None:
                continue
            text = conn.execute(
                sa.select(specs.c.watch).where(specs.c.model == model).with_for_update()
            ).scalar_one()
            config = WatchConfig.from_json(text)
            if 1 / FACTOR < wanted / config.rows_per_alarm < FACTOR:
                continue
            watch = replace(config, rows_per_alarm=wanted).to_json().decode()
            conn.execute(
                sa.update(specs)
                .where(specs.c.model == model)
                .values(watch=watch, revision=specs.c.revision + 1, updated_at=now)
            )
            told = {"rows_per_alarm": wanted, "watch_sha256": sha256_of_bytes(watch.encode())}
            audit.append(conn, "budget", CHANGED, model, told, now)
        changed.append(model)
        log.info(
            "budget_changed",
            action="budget_changed",
            model=model,
            rows_per_alarm=round(wanted),
            before=round(config.rows_per_alarm),
        )
    return changed

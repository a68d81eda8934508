"""Label budget: how many labels of a model may be asked for on a day, and how many were."""

from __future__ import annotations

import math
from dataclasses import dataclass

import sqlalchemy as sa

from redistill.streams.monitor.config import WatchConfig
from redistill.streams.store.tables import label_requests
from redistill.times import DAY

__all__ = ["Budget", "budget_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """Rows whose labels may be asked for on one day (UTC)."""

    allowed: int
    used: int

    @property
    def left(self) -> int:
        """Rows that may still be asked for."""
        return max(0, self.allowed - self.used)


def budget_of(conn: sa.Connection, config: WatchConfig, now: int) -> Budget:
    """The budget of the day (UTC) in which ``now`` lies, as far as it is used.

    Parameters
    ----------
    now
        Microseconds since 1970, by the database's clock.
    """
    allowed = config.requests_per_day
    if config.label_cost_per_day is not None and config.label_cost > 0:
        allowed = min(allowed, math.floor(config.label_cost_per_day / config.label_cost))
    c = label_requests.c
    used = sa.select(sa.func.coalesce(sa.func.sum(c.rows), 0)).where(
        c.model == config.model, c.asked_at >= now - now % DAY, c.asked_at < now - now % DAY + DAY
    )
    return Budget(allowed=allowed, used=int(conn.execute(used).scalar_one()))

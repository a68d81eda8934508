"""Rates at which rows are kept: ``2^-exponent``, per model, the same for all workers.

A worker that exceeds a cap lowers the rate in the flush that obeys it already. Only the join
step, which sees all partitions, raises it again, after traffic has been low for a while: each
change begins a new period, and gates draw from whole periods.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from redistill.streams.monitor.config import WatchConfig
from redistill.streams.store.database import insert_ignore, upsert
from redistill.streams.store.tables import input_states, join_rates, model_locks
from redistill.times import to_seconds, to_us

__all__ = ["MEASURE_SECONDS", "QUIET_SECONDS", "RateRaiser", "set_rate"]

QUIET_SECONDS = 60.0
"""How long traffic has to be low before more of it is kept."""
MEASURE_SECONDS = 10.0
"""Time between two measurements of a model's traffic."""


def set_rate(
    conn: sa.Connection,
    model: str,
    *,
    now: int,
    join: int | None = None,
    feature: int | None = None,
    lower: bool = False,
) -> None:
    """Change the rates at which join and feature rows are kept.

    Parameters
    ----------
    model
        Whose.
    now
        Microseconds since 1970; a join rate is stored with the time since when it holds.
    join, feature
        New exponents: rate = 2^-exponent.
    lower
        Exponents may become smaller too; only the join step, which sees all partitions, may say so.
    """
    c = model_locks.c
    conn.execute(insert_ignore(model_locks).values(model=model))
    if join is not None:
        done = conn.execute(
            sa.update(model_locks)
            .where(c.model == model, c.join_exponent != join if lower else c.join_exponent < join)
            .values(join_exponent=join)
        )
        if done.rowcount:
            conn.execute(
                upsert(join_rates, ["model", "since"]).values(model=model, since=now, exponent=join)
            )
    if feature is not None:
        conn.execute(
            sa.update(model_locks)
            .where(
                c.model == model,
                c.feature_exponent != feature if lower else c.feature_exponent < feature,
            )
            .values(feature_exponent=feature)
        )


@dataclass(slots=True)
class _Traffic:
    rows: int
    at: int
    quiet_since: int | None = None


class RateRaiser:
    """Raises the rates of models whose traffic fell.

    Parameters
    ----------
    join_cap
        Join rows a second that the database takes for one model at most.
    """

    def __init__(self, *, join_cap: float) -> None:
        self._join_cap = join_cap
        self._traffic: dict[str, _Traffic] = {}

    def measure(self, conn: sa.Connection, config: WatchConfig, *, now: int) -> bool:
        """Look at a model's traffic, and raise its rates by one step if it has been low for a
        minute.

        Parameters
        ----------
        conn
            A writing transaction.
        now
            Microseconds since 1970.

        Returns
        -------
        bool
            Whether a rate was raised.
        """
        model = config.model
        last = self._traffic.get(model)
        if last is not None and now - last.at < to_us(MEASURE_SECONDS):
            return False
        rows = int(
            conn.execute(
                sa.select(sa.func.coalesce(sa.func.sum(input_states.c.rows), 0)).where(
                    input_states.c.model == model
                )
            ).scalar_one()
        )
        if last is None:
            self._traffic[model] = _Traffic(rows, now)
            return False
        rate = max(0.0, (rows - last.rows) / to_seconds(now - last.at))
        last.rows, last.at = rows, now
        exponents = conn.execute(
            sa.select(model_locks.c.join_exponent, model_locks.c.feature_exponent).where(
                model_locks.c.model == model
            )
        ).one_or_none()
        if exponents is None:
            return False
        join = _raised(rate, min(config.join_rows_per_second, self._join_cap), exponents[0])
        feature = max(join, _raised(rate, config.feature_rows_per_second, exponents[1]))
        if (join, feature) == (exponents[0], max(join, exponents[1])):
            last.quiet_since = None
            return False
        if last.quiet_since is None:
            last.quiet_since = now
        if now - last.quiet_since < to_us(QUIET_SECONDS):
            return False
        last.quiet_since = None
        set_rate(conn, model, join=join, feature=feature, lower=True, now=now)
        return True


def _raised(rate: float, cap: float, exponent: int) -> int:
    """One step less, if even then no more than 70% of the cap is kept.

    Examples
    --------
    >>> _raised(1_000, 2_000, 3), _raised(11_000, 2_000, 3), _raised(0, 10, 0)
    (2, 3, 0)
    """
    if exponent > 0 and rate / 2 ** (exponent - 1) <= 0.7 * cap:
        return exponent - 1
    return exponent

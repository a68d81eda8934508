"""Counts of what happened, kept in SQL with the change that they count: how jobs ended, which gates
refused candidates. One row each in the table ``counters``, so they outlive every process and are
the same whoever reads them.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from redistill.streams.store.counters import add_counters
from redistill.streams.store.tables import counters

__all__ = ["JOB_ENDS", "count_job_end", "count_refusals", "gate_refusals", "job_ends"]

JOB_ENDS, REFUSALS = "jobs_ended:", "gate_refused:"
"""Starts of the counters' names."""


def count_job_end(conn: sa.Connection, state: str, *, now: int) -> None:
    """A job ended in this state, in this transaction."""
    add_counters(conn, {("", JOB_ENDS + state): 1}, now=now)


def count_refusals(conn: sa.Connection, gates: Iterable[str], *, now: int) -> None:
    """These gates refused a candidate, in this transaction."""
    add_counters(conn, {("", REFUSALS + gate): 1 for gate in gates}, now=now)


def job_ends(conn: sa.Connection) -> dict[str, int]:
    """How many jobs ended, by the state in which they did. One that was taken up again and ended
    again has ended twice."""
    return _of(conn, JOB_ENDS)


def gate_refusals(conn: sa.Connection) -> dict[str, int]:
    """How many candidates each gate refused; several may refuse one."""
    return _of(conn, REFUSALS)


def _of(conn: sa.Connection, start: str) -> dict[str, int]:
    c = counters.c
    query = sa.select(c.name, c.value).where(
        c.model == "", c.name.startswith(start, autoescape=True)
    )
    return {name.removeprefix(start): int(value) for name, value in conn.execute(query)}

"""Times of the future: what a clock that was ahead has written is brought back to now.

Otherwise everything that waits for them (a pause, a cool-down, a retry, a budget of a day, a
comparison, a pointer's next announcement) would stand still until then, for 40 days if need be,
after the clock was mended. Called only while the clocks agree.
"""

from __future__ import annotations

import sqlalchemy as sa

from redistill.streams.store.database import Database
from redistill.streams.store.lease import AHEAD_US
from redistill.streams.store.tables import specs
from redistill.workers.store import audit
from redistill.workers.store.tables import (
    alert_holds,
    barred,
    fresh_tests,
    incidents,
    job_steps,
    jobs,
    monitored_releases,
    pauses,
    pointer_history,
    pointers,
    versions,
)

__all__ = ["BROUGHT_BACK", "bring_back", "latest"]

BROUGHT_BACK = "times.brought_back"
"""Action of the audit entry that says so: without it ``check-history`` would find that the rows and
the entries before it tell of different times."""

PAST = (
    jobs.c.started_at,
    jobs.c.finished_at,
    incidents.c.opened_at,
    incidents.c.updated_at,
    incidents.c.resolved_at,
    specs.c.registered_at,
    specs.c.updated_at,
    versions.c.created_at,
    versions.c.published_at,
    pointers.c.announced_at,
    pointer_history.c.at,
    barred.c.at,
    job_steps.c.at,
    fresh_tests.c.at,
    alert_holds.c.acknowledged_at,
)
"""When something happened: never later than now. Not the audit chain, which is signed over its
times, nor ``pointers.moved_at``, which has to be the chain's (nothing would be signed any more;
what waits goes by ``pointer_history.at``), nor what only tells (activations)."""

SPANS = (
    (jobs.c.created_at, jobs.c.deadline_at),
    (monitored_releases.c.since, monitored_releases.c.until),
)
"""When something began and when it ends: it lasts as long as it was meant to."""

RETRY_US = 60_000_000
"""No retry waits so long (``retry.BACKOFF_SECONDS``)."""


def latest(now: int) -> int:
    """What a time may be at most that is none of the future."""
    return now + AHEAD_US


def bring_back(database: Database, *, now: int, longest_pause: int) -> dict[str, int]:
    """Bring every time of the future back.

    Parameters
    ----------
    now
        Microseconds since 1970: the time on which the clocks agree.
    longest_pause
        Of automatic repair, microseconds.

    Returns
    -------
    dict
        Values that were changed, by ``table.column``.
    """
    limit, changed = latest(now), dict[str, int]()

    def change(conn: sa.Connection, column: sa.Column[int], most: int, **values: object) -> None:
        update = sa.update(column.table).where(column > most).values({column.name: now, **values})
        if rows := conn.execute(update).rowcount:
            changed[f"{column.table.name}.{column.name}"] = rows

    with database.read() as conn:
        if not _any(conn, limit, now, longest_pause):
            return {}
    with database.begin() as conn:
        for began, ends in SPANS:
            change(conn, began, limit, **{ends.name: ends - began + now})
        for column in PAST:
            change(conn, column, limit)
        change(conn, jobs.c.not_before, now + RETRY_US)
        change(conn, pauses.c.until, now + longest_pause, until=now + longest_pause)
        audit.append(conn, "retention", BROUGHT_BACK, "", changed, now)
    return changed


def _any(conn: sa.Connection, limit: int, now: int, longest_pause: int) -> bool:
    """Mostly there is none, and nobody has to wait for a look."""
    looked_at = [
        *((column, limit) for column in PAST),
        *((began, limit) for began, _ in SPANS),
        (jobs.c.not_before, now + RETRY_US),
        (pauses.c.until, now + longest_pause),
    ]
    return any(
        conn.execute(sa.select(column).where(column > most).limit(1)).first() is not None
        for column, most in looked_at
    )

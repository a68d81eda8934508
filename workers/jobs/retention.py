"""Retention: what is kept no longer is deleted, rows by the model's own limits, files by the
fleet's.

In small transactions, so that a flush never waits long; a round that is cut short is finished by
the next one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa
import structlog

from redistill.streams.errors import StreamsError
from redistill.streams.store import outbox
from redistill.streams.store.counters import add_counters
from redistill.streams.store.database import Database
from redistill.streams.store.tables import (
    counters,
    feature_rows,
    findings,
    input_states,
    join_rows,
    labels,
    outcomes,
    profiles,
    unregistered,
    windows,
)
from redistill.times import DAY, to_us
from redistill.workers.errors import WorkersError
from redistill.workers.incidents.model_context import ModelContext, load_all
from redistill.workers.releases import retention as releases
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.store.job_queue import DONE
from redistill.workers.store.queries import OUTCOMES_EXPIRED
from redistill.workers.store.tables import activations, jobs, release_requests

__all__ = ["Deletions", "RetentionLimits", "run"]

log = structlog.get_logger(__name__)

BATCH = 2_000
"""Rows deleted in one transaction: some 10 ms on SQLite."""

ROUNDS = 500
"""Batches of one table in one run: a million rows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetentionLimits:
    """How long the fleet keeps things, in days."""

    jobs_days: float
    outbox_days: float
    names_days: float
    """Of unregistered models and of counters, since they last grew."""
    releases: int
    """Published releases per model."""


@dataclass(slots=True)
class Deletions:
    """What one run removed."""

    rows: dict[str, int] = field(default_factory=dict)
    folders: int = 0
    files: int = 0

    def count(self, table: str, n: int) -> None:
        """Add deleted rows of a table."""
        if n:
            self.rows[table] = self.rows.get(table, 0) + n


def run(
    database: Database,
    *,
    home: Path,
    keep: RetentionLimits,
    lifetimes: Lifetimes,
    clock: Callable[[], int],
) -> Deletions:
    """Delete what is older than it may be.

    Returns
    -------
    Deleted
        How much it was.
    """
    now, deletions = clock(), Deletions()
    with database.read() as conn:
        models = load_all(conn)
    for model_context in models:
        _delete_rows(database, model_context, now, deletions)
        try:
            pruned = releases.prune(
                database,
                RepositoryLayout(home),
                model_context.model,
                keep=keep.releases,
                rejected_before=now - round(keep.jobs_days * DAY),
                now=now,
                lifetimes=lifetimes,
            )
        except (WorkersError, StreamsError, OSError) as error:
            log.warning(
                "prune_failed", action="prune_failed", model=model_context.model, error=str(error)
            )
        else:
            deletions.files += pruned.files
    _batches(
        database,
        deletions,
        "outbox",
        lambda c: outbox.prune(c, before=now - round(keep.outbox_days * DAY), limit=BATCH),
    )
    old = now - round(keep.jobs_days * DAY)
    _old_rows(database, deletions, activations, activations.c.at < old)
    _old_rows(database, deletions, release_requests, release_requests.c.done_at < old)
    _delete_names(database, now - round(keep.names_days * DAY), now, deletions)
    deletions.folders = _delete_folders(database, home / "jobs", old)
    if deletions.rows or deletions.folders or deletions.files:
        log.info(
            "retention",
            action="retention",
            rows=deletions.rows,
            folders=deletions.folders,
            files=deletions.files,
        )
    return deletions


def _delete_rows(
    database: Database, model_context: ModelContext, now: int, deletions: Deletions
) -> None:
    """Rows of one model: join rows live as long as a label may take, the rest by its retention."""
    watch = model_context.watch
    kept = now - round(watch.retention_days * DAY)
    joined = now - round(watch.wait_days * DAY)
    for table, at, before in (
        (join_rows, join_rows.c.served_at, joined),
        (labels, labels.c.received_at, min(kept, joined)),
        (outcomes, outcomes.c.served_at, min(kept, joined)),
        (feature_rows, feature_rows.c.last_served_at, kept),
        (windows, windows.c.closed_at, kept),
    ):
        old = sa.and_(table.c.model == model_context.model, at < before)
        expired = model_context.model if table is outcomes else None
        _old_rows(database, deletions, table, old, expired=expired, now=now)
    _old_rows(
        database, deletions, input_states, _left_states(model_context.model, min(kept, joined))
    )
    _old_rows(
        database,
        deletions,
        feature_rows,
        _beyond_size(model_context.model, round(watch.feature_megabytes * 2**20)),
    )


def _beyond_size(model: str, most: int) -> sa.ColumnElement[bool]:
    """Blocks of feature rows behind the newest ``most`` bytes of their model."""
    newest = sa.select(
        feature_rows.c.block_id,
        sa.func.sum(feature_rows.c.bytes)
        .over(order_by=feature_rows.c.block_id.desc())
        .label("so_far"),
    ).where(feature_rows.c.model == model)
    sums = newest.subquery()
    return feature_rows.c.block_id.in_(sa.select(sums.c.block_id).where(sums.c.so_far > most))


def _left_states(model: str, before: int) -> sa.ColumnElement[bool]:
    """States of versions that nobody registered and no service serves any more; one whose finding
    is open stays, to close it."""
    s, p, f = input_states.c, profiles.c, findings.c
    registered = sa.select(p.version).where(p.model == model)
    at_fault = sa.select(f.version).where(f.model == model, f.status != "resolved")
    return sa.and_(
        s.model == model,
        s.last_served_at < before,
        s.version.not_in(registered),
        s.version.not_in(at_fault),
    )


def _delete_names(database: Database, before: int, now: int, deletions: Deletions) -> None:
    """Names from the wire that no longer come, and counters that no longer grow: but for those that
    `check-history` needs."""
    _old_rows(database, deletions, unregistered, unregistered.c.last_seen_at < before)
    c = counters.c
    with database.begin() as conn:
        conn.execute(sa.update(counters).where(c.updated_at.is_(None)).values(updated_at=now))
    idle = sa.and_(c.name != OUTCOMES_EXPIRED, c.updated_at < before)
    _old_rows(database, deletions, counters, idle)


def _old_rows(
    database: Database,
    deletions: Deletions,
    table: sa.Table,
    where: sa.ColumnElement[bool],
    *,
    expired: str | None = None,
    now: int = 0,
) -> None:
    keys = list(table.primary_key.columns)

    def delete(conn: sa.Connection) -> int:
        old = sa.select(*keys).where(where).limit(BATCH)
        match = keys[0].in_(old) if len(keys) == 1 else sa.tuple_(*keys).in_(old)
        n = conn.execute(sa.delete(table).where(match)).rowcount
        if expired is not None and n:
            # `check-history` compares: outcomes that were made = there + expired
            add_counters(conn, {(expired, OUTCOMES_EXPIRED): n}, now=now)
        return n

    _batches(database, deletions, table.name, delete)


def _batches(
    database: Database, deletions: Deletions, name: str, delete: Callable[[sa.Connection], int]
) -> None:
    for _ in range(ROUNDS):
        with database.begin() as conn:
            n = delete(conn)
        deletions.count(name, n)
        if n < BATCH:
            return


def _delete_folders(database: Database, folder: Path, before: int) -> int:
    """Folders of jobs that ended long ago, or of which nothing is known any more."""
    if not folder.is_dir():
        return 0
    with database.read() as conn:
        kept = set(
            conn.execute(
                sa.select(jobs.c.job_id).where(
                    sa.or_(jobs.c.state.not_in(DONE), jobs.c.finished_at >= before)
                )
            ).scalars()
        )
    n = 0
    for path in folder.iterdir():
        if path.is_dir() and path.name not in kept and to_us(path.stat().st_mtime) < before:
            shutil.rmtree(path, ignore_errors=True)
            n += 1
    return n

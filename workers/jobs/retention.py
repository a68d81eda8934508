"""Retention: what is kept no longer is deleted, rows by the model's own limits, files by the
fleet's.

Nothing goes for its age while clocks differ (``clock_watch``), nor a whole table at once
(``expired_rows``). A round that is cut short is finished by the next one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
import structlog

from redistill.streams.errors import StreamsError
from redistill.streams.store import ledger, process_rows
from redistill.streams.store.database import Database
from redistill.streams.store.tables import counters, outbox, processes, unregistered
from redistill.times import DAY, to_us
from redistill.workers.errors import WorkersError
from redistill.workers.incidents.model_context import load_all
from redistill.workers.jobs.expired_rows import (
    DeletedRows,
    delete_beyond_size,
    delete_expired,
    delete_rows,
    retired_models,
)
from redistill.workers.releases import retention as releases
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.store import event_counts
from redistill.workers.store.job_queue import DONE
from redistill.workers.store.tables import (
    activations,
    alert_deliveries,
    alert_holds,
    incidents,
    jobs,
    operational_alerts,
    release_requests,
)

__all__ = ["Deletions", "RetentionLimits", "bound_size", "run"]

PROCESSES_KEPT_US = DAY
"""A process that was killed, and in whose place none came, is told of for so long."""

log = structlog.get_logger(__name__)


GONE = ".gone-"
"""How the name of a job's folder begins once it is deleted, until its files are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RetentionLimits:
    """How long the fleet keeps things, in days."""

    jobs_days: float
    outbox_days: float
    names_days: float
    """Of unregistered models and of counters, since they last grew."""
    releases: int
    """Published releases per model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deletions:
    """What one run removed."""

    rows: dict[str, int]
    left: dict[str, int]
    """Expired rows that have to wait for the next hour."""
    folders: int = 0
    files: int = 0


def bound_size(database: Database, stop: Callable[[], bool] = lambda: False) -> dict[str, int]:
    """Delete what a model stores beyond its megabytes, the oldest first; rows by table.

    No clock decides about it: it goes on while clocks differ.
    """
    done = DeletedRows(stop=stop)
    with database.read() as conn:
        models = load_all(conn)
    for context in models:
        delete_beyond_size(database, context.model, context.watch.feature_megabytes, done)
    if done.deleted:
        log.info("size_bounded", action="size_bounded", rows=done.deleted)
    return done.deleted


def run(
    database: Database,
    *,
    home: Path,
    keep: RetentionLimits,
    lifetimes: Lifetimes,
    now: int,
    stop: Callable[[], bool] = lambda: False,
) -> Deletions:
    """Delete what is older than it may be.

    Parameters
    ----------
    now
        Microseconds since 1970: the time on which the clocks agree.
    stop
        Whether the process wants to end: asked between two batches.

    Returns
    -------
    Deletions
        How much it was, and what is left for later.
    """
    done, files = DeletedRows(stop=stop), 0
    old = now - round(keep.jobs_days * DAY)
    with database.read() as conn:
        models, retired = load_all(conn), retired_models(conn)
    for model in retired:
        delete_expired(database, model, None, now=now, done=done)
    for context in models:
        delete_expired(database, context.model, context.watch, now=now, done=done)
        try:
            files += releases.prune(
                database,
                RepositoryLayout(home),
                context.model,
                keep=keep.releases,
                rejected_before=old,
                now=now,
                lifetimes=lifetimes,
            ).files
        except (WorkersError, StreamsError, OSError) as error:
            log.warning(
                "prune_failed", action="prune_failed", model=context.model, error=str(error)
            )
    names = now - round(keep.names_days * DAY)
    c = counters.c
    with database.begin() as conn:
        conn.execute(sa.update(counters).where(c.updated_at.is_(None)).values(updated_at=now))
        ledger.fold(conn, before=names)
    for table, expired in (
        (outbox, outbox.c.sent_at < now - round(keep.outbox_days * DAY)),
        (activations, activations.c.at < old),
        (release_requests, release_requests.c.done_at < old),
        (operational_alerts, operational_alerts.c.resolved_at < old),
        (alert_deliveries, _told_long_ago(old)),
        (alert_holds, _held_for_nothing(old)),
        (unregistered, unregistered.c.last_seen_at < names),
        (counters, sa.and_(_no_ledger(), c.updated_at < names)),
    ):
        delete_rows(database, table, expired, now=now, done=done)
    with database.begin() as conn:
        if gone := process_rows.retire(conn, now - PROCESSES_KEPT_US):
            done.deleted[processes.name] = gone
    deletions = Deletions(
        rows=done.deleted,
        left=done.left,
        folders=_delete_folders(database, home / "jobs", old),
        files=files,
    )
    if deletions.rows or deletions.left or deletions.folders or deletions.files:
        log.info(
            "retention",
            action="retention",
            rows=deletions.rows,
            left=deletions.left,
            folders=deletions.folders,
            files=deletions.files,
        )
    return deletions


def _no_ledger() -> sa.ColumnElement[bool]:
    """Counters that `check-history` does not add up."""
    starts = (ledger.OUTBOX_EXPIRED, event_counts.JOB_ENDS)
    kept = (counters.c.name.startswith(start, autoescape=True) for start in starts)
    return sa.and_(counters.c.name.not_in(ledger.KEPT), *(~k for k in kept))


def _told_long_ago(before: int) -> sa.ColumnElement[bool]:
    """Deliveries of alerts that are over, or to channels that have not been told for long."""
    d = alert_deliveries.c
    over = sa.and_(d.told_state == "resolved", d.state != "owed")
    never = sa.and_(d.told_state.is_(None), d.wanted_at < before)
    return sa.or_(sa.and_(over, d.sent_at < before), never)


def _held_for_nothing(before: int) -> sa.ColumnElement[bool]:
    """Holds that are old, but for those of incidents that are still open."""
    h = alert_holds.c
    open_ = sa.select(sa.literal("incident:") + incidents.c.incident_id).where(
        incidents.c.open_mark == 1
    )
    old = sa.func.coalesce(h.acknowledged_at, h.snoozed_until, 0) < before
    return sa.and_(old, h.alert_key.not_in(open_))


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
    for path in sorted(folder.iterdir()):  # what was cut short, ".gone-...", comes first
        if path.name in kept:
            continue
        try:
            n += _delete_folder(path, before)
        except OSError as error:
            log.warning("folder_kept", action="folder_kept", folder=path.name, error=str(error))
    return n


def _delete_folder(path: Path, before: int) -> bool:
    """Delete what is left of a folder, or one that was not changed since; whether it was that."""
    if not path.is_dir():
        return False
    if path.name.startswith(GONE):
        shutil.rmtree(path)
        return False
    if to_us(path.stat().st_mtime) >= before:
        return False
    # whole or not at all: a job that is taken up judges what lies in its folder
    shutil.rmtree(path.rename(path.with_name(GONE + path.name)))
    return True

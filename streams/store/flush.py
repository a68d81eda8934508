"""Flush: everything that some records changed, and how far they were read, in one transaction.

So each offset changes state once, whatever dies when: after a crash the records are read
again, from the ``next_offset`` that was committed together with the state that had counted them.
Two workers that believe to own a partition are told apart by a compare-and-set on ``next_offset``:
the second one writes nothing at all.
"""

from __future__ import annotations

import itertools
from typing import Any
from uuid import UUID, uuid5

import sqlalchemy as sa
import structlog

from redistill.streams.store import ledger
from redistill.streams.store.batch import (
    FlushBatch,
    Flushed,
    OffsetsMoved,
    Partition,
    Progress,
)
from redistill.streams.store.bulk import insert_new
from redistill.streams.store.conflicting_rows import conflicting
from redistill.streams.store.counters import add_counters
from redistill.streams.store.database import Database, insert_ignore, upsert
from redistill.streams.store.findings import announce, store_findings
from redistill.streams.store.late_logs import look_again
from redistill.streams.store.rates import set_rate
from redistill.streams.store.stored_labels import store_labels
from redistill.streams.store.tables import (
    feature_rows,
    gaps,
    input_states,
    join_rows,
    labels,
    offsets,
    profiles,
    specs,
    windows,
)
from redistill.streams.store.unregistered_names import store_unregistered

__all__ = ["flush"]

log = structlog.get_logger(__name__)

UNREGISTERED_LABELS = 100_000
"""Labels that wait for their model to be registered, of all models: some 20 MB."""

_NAMESPACE = UUID("0b0f5f0e-55a5-5c9e-9d57-5f2b6a2a7c11")


class _OffsetsMovedError(Exception):
    """Ends the transaction; never leaves this module."""


def flush(database: Database, batch: FlushBatch, *, now: int) -> Flushed | OffsetsMoved:
    """Write a batch, or nothing.

    Parameters
    ----------
    database
        Where to.
    batch
        What; it is not changed, so that it can be tried again.
    now
        Microseconds since 1970 by the database's clock (``Database.clock``): how long rows are kept
        follows from it.

    Returns
    -------
    Flushed or OffsetsMoved
        ``OffsetsMoved``: another worker has taken partitions over; drop the batch and read them
        again.

    Raises
    ------
    StoreUnavailable
        Nothing was written; try again.
    """
    partitions: list[Partition] = []
    try:
        with database.begin() as conn:
            partitions = [p for p in sorted(batch.progress) if not _move(conn, p, batch, now)]
            if partitions:
                raise _OffsetsMovedError
            return _write(conn, batch, now)
    except _OffsetsMovedError:
        return OffsetsMoved(tuple(partitions))


def _move(conn: sa.Connection, partition: Partition, batch: FlushBatch, now: int) -> bool:
    """Compare-and-set of one partition's ``next_offset``."""
    p = batch.progress[partition]
    if p.expected is None:
        new = insert_ignore(offsets).values(
            topic_id=partition.topic_id,
            partition=partition.number,
            topic=p.topic,
            first_offset=p.first_offset,
            next_offset=p.next_offset,
            counted=p.counted,
            dead=p.dead,
            skipped=p.skipped,
            rows=p.rows,
            updated_at=now,
            tries=p.tries,
            log_end=_log_end(p),
        )
        return conn.execute(new).rowcount == 1
    c = offsets.c
    moved = (
        sa.update(offsets)
        .where(
            c.topic_id == partition.topic_id,
            c.partition == partition.number,
            c.next_offset == p.expected,
        )
        .values(
            first_offset=c.first_offset - p.rewound,  # so that what was produced is counted whole
            next_offset=p.next_offset,
            fence=p.next_offset,
            counted=c.counted + p.counted,
            dead=c.dead + p.dead,
            skipped=c.skipped + p.skipped,
            rows=c.rows + p.rows,
            updated_at=now,
            tries=c.tries if p.next_offset == p.expected else p.tries,
            log_end=_log_end(p),
        )
    )
    return conn.execute(moved).rowcount == 1


def _log_end(p: Progress) -> int:
    """Where a partition's log ends at least: what was read stood in it."""
    return max(p.next_offset, p.log_end or 0)


def _write(conn: sa.Connection, batch: FlushBatch, now: int) -> Flushed:
    for model, e in sorted(batch.join_exponents.items()):
        set_rate(conn, model, join=e, now=now)
    for model, e in sorted(batch.feature_exponents.items()):
        set_rate(conn, model, feature=e, now=now)
    if batch.gaps:
        conn.execute(
            insert_ignore(gaps),
            [
                {
                    "topic_id": g.partition.topic_id,
                    "partition": g.partition.number,
                    "topic": g.topic,
                    "first": g.first,
                    "last": g.last,
                    "found_at": now,
                }
                for g in batch.gaps
            ],
        )
    _write_states(conn, batch, now)
    counts = dict(batch.counters)
    for w in batch.windows:
        _add(counts, w.model, ledger.WINDOWS_STORED, 1)
    new_joins = other = 0
    for model, rows in sorted(batch.joins.items()):
        columns = rows.by_hash(model)
        new = insert_new(conn, join_rows, columns, same={"stored_at": now})
        _add(counts, model, ledger.JOINS_STORED, new)
        if again := look_again(conn, model, columns["id_hash"], now=now) if new else 0:
            _add(counts, model, ledger.DECIDED_EXPIRED, again)
        if new < len(rows):
            _add(counts, model, "rows_duplicate", len(rows) - new)
            other += (differ := conflicting(conn, columns))
            _add(counts, model, "rows_conflicting", differ)
        new_joins += new
    offered = _with_room(conn, batch.labels)
    _add(counts, "", "labels_unregistered_left_out", len(batch.labels) - len(offered))
    stored = store_labels(conn, offered, now=now)
    for model, again in stored.items():
        _add(counts, model, ledger.DECIDED_EXPIRED, again)
    for model, n in stored.left_out.items():
        _add(counts, model, ledger.LABELS_OVER_LIMIT, n)
    if batch.features:
        conn.execute(
            sa.insert(feature_rows),
            [
                {
                    "model": b.model,
                    "version": b.version,
                    "first_served_at": b.first_served_at,
                    "last_served_at": b.last_served_at,
                    "rows": b.rows,
                    "bytes": len(b.data),
                    "data": b.data,
                    "stored_at": now,
                }
                for b in batch.features
            ],
        )
        for b in batch.features:
            _add(counts, b.model, ledger.FEATURES_STORED, 1)
    announced = store_findings(conn, batch.findings, now=now)
    for letter in batch.dead:
        # its id follows from where it stood: sent twice, it is counted once
        where = f"{letter.topic}|{letter.partition}|{letter.offset}|{letter.at.isoformat()}"
        announce(conn, letter, str(uuid5(_NAMESPACE, where)), now)
    dropped = store_unregistered(conn, batch.unregistered, batch.names)
    _add(counts, "", "names_dropped", dropped.names)
    _add(counts, "", ledger.UNREGISTERED_EXPIRED, dropped.rows)
    for row in batch.profiles:
        _learned(conn, row.model, row.version, row.profile)
    _add(counts, "", "labels_duplicate", len(offered) - stored.new - stored.left_out.total())
    add_counters(conn, counts, now=now)
    return Flushed(join_rows=new_joins, labels=stored.new, findings=announced, conflicting=other)


def _with_room(conn: sa.Connection, offered: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without labels of unregistered models for which there is no room."""
    strangers = sum(row["state"] == "unregistered" for row in offered)
    if not strangers:
        return offered
    waiting = sa.select(sa.func.count()).where(labels.c.state == "unregistered")
    room = max(0, UNREGISTERED_LABELS - int(conn.execute(waiting).scalar_one()))
    if strangers <= room:
        return offered
    numbers = itertools.count(1)
    return [row for row in offered if row["state"] != "unregistered" or next(numbers) <= room]


def _add(counts: dict[tuple[str, str], int], model: str, name: str, n: int) -> None:
    counts[model, name] = counts.get((model, name), 0) + n


def _write_states(conn: sa.Connection, batch: FlushBatch, now: int) -> None:
    if batch.states:
        conn.execute(
            upsert(input_states, ["model", "version", "topic_id", "partition"]),
            [
                {
                    "model": s.model,
                    "version": s.version,
                    "topic_id": s.partition.topic_id,
                    "partition": s.partition.number,
                    "state": s.state,
                    "rows": s.rows,
                    "first_served_at": s.first_served_at,
                    "last_served_at": s.last_served_at,
                    "stored_at": now,
                }
                for s in batch.states
            ],
        )
    if batch.windows:
        conn.execute(
            insert_ignore(windows),
            [
                {
                    "model": w.model,
                    "version": w.version,
                    "topic_id": w.partition.topic_id,
                    "partition": w.partition.number,
                    "number": w.number,
                    "rows": w.rows,
                    "first_served_at": w.first_served_at,
                    "last_served_at": w.last_served_at,
                    "closed_at": now,
                }
                for w in batch.windows
            ],
        )


def _learned(conn: sa.Connection, model: str, version: str, profile: bytes) -> None:
    """Store a profile learned from traffic, unless there is one: somebody's word weighs more."""
    new = insert_ignore(profiles).values(
        model=model, version=version, profile=profile, provisional=True
    )
    c = profiles.c
    if conn.execute(new).rowcount != 1:
        done = conn.execute(
            sa.update(profiles)
            .where(c.model == model, c.version == version, c.profile.is_(None))
            .values(profile=profile, provisional=True)
        )
        if done.rowcount != 1:
            return
    conn.execute(
        sa.update(specs).where(specs.c.model == model).values(revision=specs.c.revision + 1)
    )

"""Expired rows: which rows of SQL are kept no longer, and their deletion.

How old a row is follows from when the database got it, never from what a service says: one whose
clock is 40 days behind does not lose its rows at once, and one whose clock is ahead does not keep
them for ever. At most a tenth of a table goes in an hour (``deletion_budget``). Batches are small
transactions, so that a flush never waits long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from redistill.streams.monitor.config import WatchConfig
from redistill.streams.store import ledger
from redistill.streams.store.counters import add_counters
from redistill.streams.store.database import Database
from redistill.streams.store.lease import AHEAD_US
from redistill.streams.store.tables import (
    feature_rows,
    findings,
    input_states,
    join_rows,
    label_request_rows,
    label_request_states,
    label_requests,
    labels,
    outcomes,
    profiles,
    specs,
    windows,
)
from redistill.times import DAY
from redistill.workers.store import deletion_budget

__all__ = [
    "RETIRED_DAYS",
    "DeletedRows",
    "delete_beyond_size",
    "delete_expired",
    "delete_rows",
    "retired_models",
]

BATCH = 2_000
"""Rows of one transaction: some 10 ms on SQLite."""

LARGE = {label_requests: 4}
"""The same of tables whose rows take others with them: a request has up to 500 of its own."""

ROUNDS = 500
"""Batches of one table in one run: a million rows."""

RETIRED_DAYS = 30.0
"""For rows of models that are not registered any more: the default of ``model.toml``."""


@dataclass(slots=True)
class DeletedRows:
    """Rows by table."""

    deleted: dict[str, int] = field(default_factory=dict)
    left: dict[str, int] = field(default_factory=dict)
    """Expired ones that have to wait, since a tenth of their table went within the hour."""
    stop: Callable[[], bool] = lambda: False
    """Asked between two batches: the process wants to end, and the next round does the rest."""


def retired_models(conn: sa.Connection) -> list[str]:
    """Models that have rows and are not registered any more."""
    with_rows = {m for table in (*_STAMPS, label_requests) for m in _models(conn, table)}
    return sorted(with_rows.difference(conn.execute(sa.select(specs.c.model)).scalars()))


def delete_expired(
    database: Database, model: str, watch: WatchConfig | None, *, now: int, done: DeletedRows
) -> None:
    """Delete the rows of one model that are too old: join rows live as long as a label may take,
    the rest by the model's retention.

    Parameters
    ----------
    watch
        The model's limits; ``None``: it is retired.
    now
        Microseconds since 1970: the time on which the clocks agree.
    done
        Is added to.
    """
    kept_days, wait_days = (
        (RETIRED_DAYS, RETIRED_DAYS) if watch is None else (watch.retention_days, watch.wait_days)
    )
    for table in _STAMPS:
        _stamp(database, table, model, now)
    kept, joined = now - round(kept_days * DAY), now - round(wait_days * DAY)
    both = min(kept, joined)
    # until a row had the time at which it was stored, blocks went by when they were served
    f = feature_rows.c
    # what was drawn is known as long as there may be an outcome of it
    drawn = both if watch is None else both - round(wait_days * DAY)
    served = sa.select(f.version).where(f.model == model)
    for table, old in (
        (join_rows, join_rows.c.stored_at < joined),
        (labels, labels.c.received_at < both),
        (outcomes, outcomes.c.made_at < both),
        (feature_rows, f.stored_at < kept),
        (feature_rows, sa.and_(f.stored_at.is_(None), f.last_served_at < kept)),
        (windows, windows.c.closed_at < kept),
        (input_states, _left_states(model, both)),
        (label_requests, label_requests.c.asked_at < drawn),
        (label_request_states, label_request_states.c.version.not_in(served)),
    ):
        delete_rows(
            database, table, sa.and_(table.c.model == model, old), model=model, now=now, done=done
        )


def delete_beyond_size(database: Database, model: str, megabytes: float, done: DeletedRows) -> None:
    """Delete blocks of feature rows behind the newest ``megabytes`` of their model.

    It goes by the order in which they came and by their size, and keeps the newest: no clock can
    make it delete too much, so neither the tenth nor a wrong clock holds it up. Otherwise the disk
    would not be bounded.
    """
    newest = sa.select(
        feature_rows.c.block_id,
        sa.func.sum(feature_rows.c.bytes)
        .over(order_by=feature_rows.c.block_id.desc())
        .label("so_far"),
    ).where(feature_rows.c.model == model)
    sums = newest.subquery()
    beyond = sa.select(sums.c.block_id).where(sums.c.so_far > round(megabytes * 2**20))
    _batches(
        database,
        feature_rows,
        lambda conn: _delete(
            conn,
            feature_rows,
            feature_rows.c.block_id.in_(beyond),
            BATCH,
            model=model,
            now=database.clock(),
        ),
        done,
    )


def delete_rows(
    database: Database,
    table: sa.Table,
    where: sa.ColumnElement[bool],
    *,
    now: int,
    done: DeletedRows,
    model: str | None = None,
) -> None:
    """Delete rows within the budget of their table, and of their model."""
    if done.stop():
        return
    with database.read() as conn:  # mostly there are none, and nobody has to wait for us
        if (
            conn.execute(sa.select(sa.literal(1)).select_from(table).where(where).limit(1)).first()
            is None
        ):
            return

    def delete(conn: sa.Connection) -> int:
        most = min(_batch(table), deletion_budget.left(conn, table, model, now=now))
        n = _delete(conn, table, where, most, model=model, now=now) if most else 0
        deletion_budget.spend(conn, table, model, n, now=now)
        return n

    _batches(database, table, delete, done)
    with database.read() as conn:
        rows = sa.select(sa.func.count()).select_from(table).where(where)
        if left := int(conn.execute(rows).scalar_one()):
            done.left[table.name] = done.left.get(table.name, 0) + left


def _batches(
    database: Database, table: sa.Table, delete: Callable[[sa.Connection], int], done: DeletedRows
) -> None:
    for _ in range(ROUNDS):
        if done.stop():
            return
        with database.begin() as conn:
            n = delete(conn)
        if n:
            done.deleted[table.name] = done.deleted.get(table.name, 0) + n
        if n < _batch(table):
            return


def _batch(table: sa.Table) -> int:
    return LARGE.get(table, BATCH)


def _delete(
    conn: sa.Connection,
    table: sa.Table,
    where: sa.ColumnElement[bool],
    most: int,
    *,
    model: str | None,
    now: int,
) -> int:
    keys = list(table.primary_key.columns)
    # a row that somebody writes just now is left for the next round: two that wait for each
    # other's rows would be a deadlock
    old = sa.select(*keys).where(where).limit(most).with_for_update(skip_locked=True)
    match = keys[0].in_(old) if len(keys) == 1 else sa.tuple_(*keys).in_(old)
    deletion = sa.delete(table).where(match)
    told = ledger.expired(table)
    if told is None:
        return conn.execute(deletion).rowcount
    column, count = told
    rows = conn.execute(deletion.returning(column)).all()
    # `check-history` compares: what was made = there + expired
    counts = {(model or "", name): n for name, n in count(rows).items()}
    add_counters(conn, counts, now=now)
    if table is label_requests:  # one with a part of its rows would look as if somebody took some
        gone = label_request_rows.c.request_id.in_([row.request_id for row in rows])
        conn.execute(sa.delete(label_request_rows).where(gone))
    return len(rows)


def _left_states(model: str, before: int) -> sa.ColumnElement[bool]:
    """States of versions that nobody registered and no service serves any more; one whose finding
    is open stays, to close it."""
    s, p, f = input_states.c, profiles.c, findings.c
    registered = sa.select(p.version).where(p.model == model)
    at_fault = sa.select(f.version).where(f.model == model, f.status != "resolved")
    return sa.and_(s.stored_at < before, s.version.not_in(registered), s.version.not_in(at_fault))


def _models(conn: sa.Connection, table: sa.Table) -> Iterator[str]:
    """Names of the models that have rows, with one look into the index for each: a table has many
    rows and few models."""
    lowest = sa.select(sa.func.min(table.c.model).label("model")).cte("found", recursive=True)
    following = sa.select(sa.func.min(table.c.model)).where(table.c.model > lowest.c.model)
    found = lowest.union_all(
        sa.select(following.scalar_subquery()).where(lowest.c.model.is_not(None))
    )
    yield from conn.execute(sa.select(found.c.model).where(found.c.model.is_not(None))).scalars()


_STAMPS = {
    labels: labels.c.received_at,
    outcomes: outcomes.c.made_at,
    windows: windows.c.closed_at,
    feature_rows: feature_rows.c.stored_at,
    join_rows: join_rows.c.stored_at,
    input_states: input_states.c.stored_at,
}
"""When the database got a row."""

_FILLED = {join_rows: join_rows.c.served_at, input_states: input_states.c.last_served_at}
"""What old rows have instead. (Blocks of feature rows are too large to be written again.)"""


def _stamp(database: Database, table: sa.Table, model: str, now: int) -> None:
    """Put right what has no time, or one in the future: old rows, and those that came while a clock
    was ahead. No row was stored before it was served, nor later than now."""
    at, mine = _STAMPS[table], table.c.model == model
    values: dict[Any, Any] = {at: sa.literal(now)}
    if table is labels:  # and is looked up by this time
        c = labels.c
        values[c.check_at] = sa.case((c.check_at < now, c.check_at), else_=now)
    _set(database, table, sa.and_(mine, at > now + AHEAD_US), values)
    if (said := _FILLED.get(table)) is not None:
        _set(
            database,
            table,
            sa.and_(mine, at.is_(None)),
            {at: sa.case((said < now, said), else_=now)},
        )


def _set(
    database: Database, table: sa.Table, where: sa.ColumnElement[bool], values: dict[Any, Any]
) -> None:
    keys = list(table.primary_key.columns)
    found = sa.select(*keys).where(where).limit(BATCH).with_for_update(skip_locked=True)
    match = keys[0].in_(found) if len(keys) == 1 else sa.tuple_(*keys).in_(found)
    with database.read() as conn:
        if conn.execute(sa.select(*keys).where(where).limit(1)).first() is None:
            return
    for _ in range(ROUNDS):
        with database.begin() as conn:
            if conn.execute(sa.update(table).where(match).values(values)).rowcount < BATCH:
                return

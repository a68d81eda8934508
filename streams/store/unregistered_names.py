"""Names of unregistered models and versions, with the number of their rows: as many as are allowed,
those that were seen last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import sqlalchemy as sa
import structlog

from redistill.streams.store.batch import NameLimits, Unregistered
from redistill.streams.store.bulk import insert_new
from redistill.streams.store.tables import unregistered

__all__ = ["store_unregistered"]

log = structlog.get_logger(__name__)


class Dropped(NamedTuple):
    """Names that had to go for others, those that were not seen for longest."""

    names: int = 0
    rows: int = 0
    """That they had."""


def store_unregistered(
    conn: sa.Connection, seen: Mapping[tuple[str, str], Unregistered], limits: NameLimits
) -> Dropped:
    """Add what was seen to what is stored.

    Returns
    -------
    Dropped
        What had to go for it.
    """
    if not seen:
        return Dropped()
    c = unregistered.c
    rows = sorted(seen.items())
    new = insert_new(
        conn,
        unregistered,
        {
            "model": [model for (model, _), _ in rows],
            "version": [version for (_, version), _ in rows],
            "rows": [0] * len(rows),
            "first_seen_at": [u.first_seen_at for _, u in rows],
            "last_seen_at": [u.last_seen_at for _, u in rows],
        },
    )
    is_one = sa.and_(c.model == sa.bindparam("m"), c.version == sa.bindparam("v"))
    counted = sa.update(unregistered).where(is_one)
    conn.execute(
        counted.values(rows=c.rows + sa.bindparam("n"), last_seen_at=sa.bindparam("at")),
        [{"m": m, "v": v, "n": u.rows, "at": u.last_seen_at} for (m, v), u in rows],
    )
    samples = [{"m": m, "v": v, "s": u.sample} for (m, v), u in rows if u.sample is not None]
    if samples:
        conn.execute(counted.values(sample=sa.bindparam("s")), samples)
    rows_gone = _drop(conn, {model for model, _ in seen}, limits) if new else []
    if rows_gone:
        log.warning("names_dropped", action="names_dropped", names=len(rows_gone))
    return Dropped(len(rows_gone), sum(rows_gone))


def _drop(conn: sa.Connection, models: Iterable[str], limits: NameLimits) -> list[int]:
    """Rows of each name that went."""
    c = unregistered.c
    crowded = (
        sa.select(c.model)
        .where(c.model.in_(models))
        .group_by(c.model)
        .having(sa.func.count() > limits.versions)
    )
    newest = (c.last_seen_at.desc(), c.model, c.version)
    gone: list[int] = []
    for model in conn.execute(crowded).scalars().all():
        old = sa.select(c.version).where(c.model == model).order_by(*newest).offset(limits.versions)
        crowd = sa.delete(unregistered).where(c.model == model, c.version.in_(old))
        gone += conn.execute(crowd.returning(c.rows)).scalars()
    stored = conn.execute(sa.select(sa.func.count()).select_from(unregistered)).scalar_one()
    if stored > limits.unregistered:
        old = sa.select(c.model, c.version).order_by(*newest).offset(limits.unregistered)
        crowd = sa.delete(unregistered).where(sa.tuple_(c.model, c.version).in_(old))
        gone += conn.execute(crowd.returning(c.rows)).scalars()
    return gone

"""Findings in SQL: changes are stored with their announcement, each revision once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID, uuid5

import msgspec
import sqlalchemy as sa
import structlog

from redistill.streams.errors import WireError
from redistill.streams.store import outbox
from redistill.streams.store.database import upsert
from redistill.streams.store.tables import findings
from redistill.streams.wire.events import DeadLetter, DriftFound
from redistill.times import microseconds

__all__ = ["announce", "store_findings"]

log = structlog.get_logger(__name__)

SOURCE = "/redistill/stream"
"""``ce_source`` of what stream workers announce."""


def store_findings(
    conn: sa.Connection,
    changes: Iterable[DriftFound],
    *,
    now: int,
    raised_seq: Mapping[UUID, int] | None = None,
) -> int:
    """Store changes of findings and announce them; one that is not newer than what is stored is
    dropped.

    Parameters
    ----------
    now
        Microseconds since 1970, by the database's clock.
    raised_seq
        Number of the outcome that opened a finding, of those that one opened.

    Returns
    -------
    int
        Changes that were stored and announced.
    """
    announced = 0
    newer = upsert(
        findings,
        ["finding_id"],
        update=["status", "severity", "revision", "body", "stored_at"],
        where=lambda offered: offered.revision > findings.c.revision,
    )
    for f in changes:
        row = {
            "finding_id": str(f.finding_id),
            "model": f.model,
            "version": f.version,
            "kind": f.kind,
            "scope": f.scope,
            "status": f.status,
            "severity": f.severity,
            "revision": f.revision,
            "body": msgspec.json.encode(f).decode(),
            "opened_at": microseconds(f.opened_at),
            "stored_at": now,
            "raised_seq": (raised_seq or {}).get(f.finding_id),
        }
        if conn.execute(newer, row).rowcount == 1:
            event_id = str(uuid5(f.finding_id, str(f.revision)))
            announced += announce(conn, f, event_id, now)
    return announced


def announce(conn: sa.Connection, event: DeadLetter | DriftFound, event_id: str, now: int) -> bool:
    """Put an event into the outbox. One that breaks its own contract is a defect of ours: it is
    logged, and does not stop every flush after it."""
    try:
        outbox.add(conn, event, source=SOURCE, event_id=event_id, now=now)
    except WireError as error:
        log.error(
            "not_announced",
            action="not_announced",
            type=type(event).__name__,
            event_id=event_id,
            error=str(error),
        )
        return False
    return True

"""Heart: the dead man's switch at work. It looks for signs of life, sends the beat past Kafka, and
writes down why it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

import sqlalchemy as sa
import structlog

from redistill.streams.store import outbox, process_rows, properties, relay
from redistill.streams.store.database import Database
from redistill.streams.store.tables import leases
from redistill.workers.alerts.alert import Alert
from redistill.workers.alerts.channels.channel import DeliveryFailed
from redistill.workers.alerts.operational.heartbeat import Signs, beat, why_silent

__all__ = ["Heart", "HeartState", "state"]

log = structlog.get_logger(__name__)

NAME = "heartbeat"
"""Of the property."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeartState:
    """What the heart did last. Times are microseconds since 1970 by the database's clock."""

    why: tuple[str, ...]
    """Why it does not beat; empty: it beats."""
    since: int
    """Since when that is so."""
    sent_at: int | None
    """When the channel last took a beat; ``None``: it never did."""
    error: str | None
    """Why it did not take the last one; ``None``: it did, or was not asked."""


class Heart:
    """Beats once a call, if it may.

    Parameters
    ----------
    send
        Tells the channel; raises ``DeliveryFailed``.
    own_id
        ``process_id`` of this alert process.
    """

    def __init__(self, database: Database, send: Callable[[Alert], None], *, own_id: str) -> None:
        self._database = database
        self._send = send
        self._own_id = own_id

    def run_once(self) -> None:
        """One beat, or none; either is written down.

        Raises
        ------
        DeliveryFailed
            The channel did not take it; the next try is due soon.
        StoreUnavailable
            Nobody knows who lives, so there is no beat.
        """
        with self._database.read() as conn:
            now = self._database.clock()
            before = state(conn)
            why = why_silent(signs(conn, self._own_id), now)
        since = before.since if before is not None and (not before.why) == (not why) else now
        sent_at = None if before is None else before.sent_at
        failed: DeliveryFailed | None = None
        if not why:
            try:
                self._send(beat(now))
                sent_at = now
            except DeliveryFailed as refused:
                failed = refused
        after = HeartState(
            why=why, since=since, sent_at=sent_at, error=None if failed is None else str(failed)
        )
        with self._database.begin() as conn:
            properties.put(conn, NAME, json.dumps(asdict(after), sort_keys=True))
        self._log(before, after)
        if failed is not None:
            raise failed

    def _log(self, before: HeartState | None, after: HeartState) -> None:
        if after.why and (before is None or before.why == ()):
            log.warning("heart_stopped", action="heart_stopped", why=list(after.why))
        elif not after.why and (before is None or before.why):
            log.info("heart_beats", action="heart_beats")


def state(conn: sa.Connection) -> HeartState | None:
    """What the heart did last; ``None``: it was never asked to beat, or nobody can read what it
    did. It beats all the same, and writes it anew."""
    text = properties.get(conn, NAME)
    if text is None:
        return None
    try:
        told = json.loads(text)
        return HeartState(**{**told, "why": tuple(told["why"])})
    except (ValueError, TypeError, KeyError):
        return None


def signs(conn: sa.Connection, own_id: str) -> Signs:
    """The signs of life that SQL holds."""
    at = conn.execute(sa.select(leases.c.renewed_at).where(leases.c.name == relay.LEASE)).scalar()
    relay_at = int(at) if at else None
    waiting, untried = outbox.ready(conn, 1), outbox.ready(conn, 1, after=relay_at)
    return Signs(
        processes=tuple(process_rows.seen(conn)),
        own_id=own_id,
        relay_at=relay_at,
        waits_since=int(waiting[0]["created_at"]) if waiting else None,
        untried_since=int(untried[0]["created_at"]) if untried else None,
    )

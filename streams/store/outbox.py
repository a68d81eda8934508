"""Outbox of events, announced if and only if the transaction that made them was committed.

``add`` writes the event beside the change that it announces; ``redistill.streams.store.relay``
sends it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from redistill.streams.store import properties
from redistill.streams.store.tables import outbox
from redistill.streams.wire.codec import encode
from redistill.streams.wire.events import Event

__all__ = ["Backlog", "add", "backlog", "mark_sent", "ready"]


@dataclass(frozen=True, slots=True)
class Backlog:
    """What has not been sent yet."""

    rows: int
    oldest_at: int | None
    """Microseconds since 1970 when the oldest of them was added."""


def add(
    conn: sa.Connection,
    event: Event,
    *,
    source: str,
    now: int,
    event_id: str | None = None,
    after_snapshot: int | None = None,
) -> str:
    """Announce ``event`` when this transaction is committed.

    Parameters
    ----------
    conn
        The transaction that makes the change.
    event
        What happened.
    source
        ``ce_source``: which program says so, for example ``redistill/stream``.
    now
        Microseconds since 1970.
    event_id
        ``ce_id``. Give one that follows from the change (finding and revision, say), and announcing
        it twice is once; ``None``: a new one.
    after_snapshot
        Send it only when this snapshot of the repository is published: earlier, and a client that
        it wakes would find the old pointer.

    Returns
    -------
    str
        The event's id.
    """
    encoded = encode(event, source=source, event_id=event_id)
    headers = {name: value.decode() for name, value in encoded.headers}
    conn.execute(
        # Only the same event again is left alone: a number that is taken (a restored database may
        # have set its sequence back) is an error, or nobody would ever hear of what was found.
        postgresql.insert(outbox)
        .on_conflict_do_nothing(index_elements=["event_id"])
        .values(
            event_id=encoded.event_id,
            topic=encoded.topic,
            key=_key(encoded.key),
            headers=json.dumps(headers),
            value=encoded.value,
            after_snapshot=after_snapshot,
            created_at=now,
        )
    )
    return str(encoded.event_id)


def _key(raw: bytes | None) -> str:
    """A key as text; none where it is no text that a database stores, as of a dead letter whose
    record had a key in another format.
    """
    try:
        text = (raw or b"").decode()
    except UnicodeDecodeError:
        return ""
    return "" if "\0" in text else text


def backlog(conn: sa.Connection) -> Backlog:
    """How much is unsent, and since when."""
    row = conn.execute(
        sa.select(sa.func.count(), sa.func.min(outbox.c.created_at)).where(
            outbox.c.sent_at.is_(None)
        )
    ).one()
    return Backlog(int(row[0]), None if row[1] is None else int(row[1]))


def ready(
    conn: sa.Connection,
    limit: int,
    *,
    after: int | None = None,
    without_topics: Collection[str] = (),
    without_rows: Collection[int] = (),
) -> list[Mapping[str, Any]]:
    """Unsent rows that may go, oldest first: none that waits for a snapshot, nor what follows it
    under its key; none of the topics and rows (by ``seq``) that are passed over; where ``after`` is
    given (microseconds since 1970), none that was added before.
    """
    published = properties.published_snapshot(conn)
    blocked = outbox.alias("blocked")
    behind = sa.exists().where(
        blocked.c.sent_at.is_(None),
        blocked.c.after_snapshot > published,
        blocked.c.topic == outbox.c.topic,
        blocked.c.key == outbox.c.key,
        blocked.c.seq <= outbox.c.seq,
    )
    query = (
        sa.select(
            outbox.c.seq,
            outbox.c.topic,
            outbox.c.key,
            outbox.c.headers,
            outbox.c.value,
            outbox.c.created_at,
        )
        .where(outbox.c.sent_at.is_(None), ~behind)
        .order_by(outbox.c.seq)
        .limit(limit)
    )
    if after is not None:
        query = query.where(outbox.c.created_at > after)
    if without_topics:
        query = query.where(outbox.c.topic.not_in(sorted(without_topics)))
    if without_rows:
        query = query.where(outbox.c.seq.not_in(sorted(without_rows)))
    return [dict(row) for row in conn.execute(query).mappings()]


def mark_sent(conn: sa.Connection, seqs: Sequence[int], *, now: int) -> None:
    """Mark rows as sent that the broker has acknowledged."""
    if seqs:
        conn.execute(
            sa.update(outbox)
            .where(outbox.c.seq.in_(seqs), outbox.c.sent_at.is_(None))
            .values(sent_at=now)
        )

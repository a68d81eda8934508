"""Audit chain: who did what and when, with hashes that a changed, removed or inserted entry breaks.

Entries are written in the transaction of what they tell of, so that neither exists without the
other. The chain's head stands in ``properties`` as well: it is what a writer locks, and it shows
that the newest entries are still there. The chain is evidence against accidents and against whoever
cannot rewrite all of it; keep a copy of the head elsewhere (``redistill check-history --json``
prints it) to prove more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from redistill.streams.store.database import insert_ignore
from redistill.streams.store.tables import properties
from redistill.workers.store.tables import audit

__all__ = ["GENESIS", "HEAD", "Verified", "append", "verify"]

HEAD = "audit_head"
"""Name of the property ``SEQ SHA256`` of the newest entry."""

GENESIS = "0" * 64
"""What the first entry names as its predecessor."""


def digest(
    previous: str, seq: int, at: int, actor: str, action: str, subject: str, body: str
) -> str:
    """SHA-256 of an entry, over the canonical JSON of everything it says and the hash before it."""
    text = json.dumps([previous, seq, at, actor, action, subject, body], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def append(
    conn: sa.Connection,
    actor: str,
    action: str,
    subject: str,
    body: Mapping[str, Any] | None,
    now: int,
) -> int:
    """Add an entry in the caller's transaction.

    The chain's head stays locked until that transaction ends: call this late in it, so that no two
    transactions wait for each other.

    Parameters
    ----------
    conn
        A writing transaction (``Database.begin``).
    actor
        Who: ``cli:USER``, ``worker:INSTANCE``, ``schedule``.
    action
        What, as a constant word with a dot, for example ``model.registered``.
    subject
        To what, for example the model's name.
    body
        Details; must be JSON.
    now
        Microseconds since 1970.

    Returns
    -------
    int
        The entry's number, from 1, without holes.
    """
    conn.execute(insert_ignore(properties).values(name=HEAD, value=f"0 {GENESIS}"))
    locked = sa.select(properties.c.value).where(properties.c.name == HEAD).with_for_update()
    last, previous = conn.execute(locked).scalar_one().split(" ")
    seq = int(last) + 1
    text = json.dumps(body or {}, sort_keys=True, separators=(",", ":"), default=str)
    sha256 = digest(previous, seq, now, actor, action, subject, text)
    conn.execute(
        sa.insert(audit).values(
            seq=seq,
            at=now,
            actor=actor,
            action=action,
            subject=subject,
            body=text,
            previous_sha256=previous,
            sha256=sha256,
        )
    )
    conn.execute(
        sa.update(properties).where(properties.c.name == HEAD).values(value=f"{seq} {sha256}")
    )
    return seq


@dataclass(frozen=True, slots=True)
class Verified:
    """What a walk along the chain found."""

    entries: int
    head: str
    """Hash of the newest entry."""
    problem: str | None
    """Where the chain breaks first; ``None``: it is whole."""


def verify(conn: sa.Connection) -> Verified:
    """Walk along the whole chain, with bounded memory."""
    row = conn.execute(
        sa.select(properties.c.value).where(properties.c.name == HEAD)
    ).scalar_one_or_none()
    last, head = (row or f"0 {GENESIS}").split(" ")
    previous, seq = GENESIS, 0
    entries = conn.execution_options(yield_per=1_000).execute(
        sa.select(audit).order_by(audit.c.seq)
    )
    with entries:
        for e in entries:
            if e.seq != seq + 1:
                return Verified(seq, previous, f"entry {seq + 1} is missing")
            if e.previous_sha256 != previous:
                return Verified(seq, previous, f"entry {e.seq} does not follow entry {seq}")
            expected = digest(previous, e.seq, e.at, e.actor, e.action, e.subject, e.body)
            if expected != e.sha256:
                return Verified(seq, previous, f"entry {e.seq} was changed")
            previous, seq = e.sha256, e.seq
    if (seq, previous) != (int(last), head):
        return Verified(seq, previous, f"the chain ends at entry {seq}, its head says {last}")
    return Verified(seq, previous, None)

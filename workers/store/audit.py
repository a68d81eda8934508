"""Audit chain: who did what and when, with hashes that a changed, removed or inserted entry breaks.

Entries are written in the transaction of what they tell of, so that neither exists without the
other. The chain's head stands in ``properties`` as well: it is what a writer locks, and it shows
that the newest entries are still there. Each entry has a MAC made with the audit key
(``audit_key``), without which whoever writes SQL can make none; length and head of the chain stand
in the signed metadata (``releases.anchor``), so that it cannot be cut or put back unseen either.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from redistill.streams.store.database import insert_ignore
from redistill.streams.store.tables import properties
from redistill.workers.store import audit_key
from redistill.workers.store.audit_key import AuditKey
from redistill.workers.store.tables import audit

__all__ = [
    "GENESIS",
    "HEAD",
    "Entry",
    "after",
    "append",
    "by_action",
    "has_persons",
    "hash_of",
    "head",
    "of_subject",
]

HEAD = "audit_head"
"""Name of the property ``SEQ SHA256`` of the newest entry."""

PERSON = "cli:"
"""Start of an actor's name: a person, by a command."""

GENESIS = "0" * 64
"""What the first entry names as its predecessor."""


def digest(
    previous: str, seq: int, at: int, actor: str, action: str, subject: str, body: str
) -> str:
    """SHA-256 of an entry, over the canonical JSON of everything it says and the hash before it."""
    text = json.dumps([previous, seq, at, actor, action, subject, body], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the chain."""

    seq: int
    at: int
    actor: str
    action: str
    subject: str
    body: str
    """JSON."""
    previous_sha256: str
    sha256: str
    mac: str

    def is_whole(self) -> bool:
        """Whether its hash is that of what it says."""
        said = (self.seq, self.at, self.actor, self.action, self.subject, self.body)
        return digest(self.previous_sha256, *said) == self.sha256

    def is_authentic(self, key: AuditKey) -> bool:
        """Whether it was written by somebody who has the key, at this place of the chain."""
        return self.is_whole() and key.fits(self.mac, "audit-entry", str(self.seq), self.sha256)

    def __str__(self) -> str:
        return f"audit entry {self.seq} ({self.action} of {self.subject or '-'} by {self.actor})"


def head(conn: sa.Connection) -> tuple[int, str]:
    """Number and hash of the newest entry, as the chain's head says; (0, ``GENESIS``): none."""
    value = conn.execute(
        sa.select(properties.c.value).where(properties.c.name == HEAD)
    ).scalar_one_or_none()
    last, _, sha256 = (value or f"0 {GENESIS}").partition(" ")
    return int(last), sha256


def hash_of(conn: sa.Connection, seq: int) -> str | None:
    """Hash of an entry, ``GENESIS`` of number 0; ``None``: there is no such entry."""
    if seq == 0:
        return GENESIS
    return conn.execute(sa.select(audit.c.sha256).where(audit.c.seq == seq)).scalar_one_or_none()


def after(
    conn: sa.Connection, seq: int, *, most: int | None = None
) -> Generator[Entry, None, None]:
    """Entries from number ``seq`` on, it included, in order and with bounded memory; ``most`` of
    them."""
    query = sa.select(audit).where(audit.c.seq >= seq).order_by(audit.c.seq).limit(most)
    with conn.execute(query, execution_options={"yield_per": 1_000}) as rows:
        for row in rows:
            yield Entry(*row)


def by_action(conn: sa.Connection, actions: Collection[str], *, after: int) -> list[Entry]:
    """Entries of some actions, newer than number ``after``, oldest first."""
    query = sa.select(audit).where(audit.c.seq > after, audit.c.action.in_(actions))
    return [Entry(*row) for row in conn.execute(query.order_by(audit.c.seq))]


def of_subject(conn: sa.Connection, subject: str) -> Iterator[Entry]:
    """Entries about one subject, oldest first."""
    for row in conn.execute(
        sa.select(audit).where(audit.c.subject == subject).order_by(audit.c.seq)
    ).all():
        yield Entry(*row)


def has_persons(conn: sa.Connection, *, after: int) -> bool:
    """Whether a person's command wrote an entry that is newer than number ``after``."""
    query = sa.select(audit.c.seq).where(audit.c.seq > after, audit.c.actor.startswith(PERSON))
    return conn.execute(query.limit(1)).first() is not None


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
    key = audit_key.claim(conn)
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
            mac="" if key is None else key.mac("audit-entry", str(seq), sha256),
        )
    )
    conn.execute(
        sa.update(properties).where(properties.c.name == HEAD).values(value=f"{seq} {sha256}")
    )
    return seq

"""Signing refusal: why nothing is signed at present, in a row that all processes read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from redistill.streams.store import properties
from redistill.streams.store.database import Database
from redistill.times import to_us
from redistill.workers.errors import KeysError
from redistill.workers.store import audit_key

__all__ = ["MEND", "SigningRefusal", "clear", "get", "put", "want_key"]

NAME = "signing_refused"
"""Of the property."""


TOLD_SECONDS = 86_400.0
"""For so long something is told of that was refused at once, and nothing else is wrong."""

MEND = (
    "put the rows back as the audit has them, or restore a backup, and see to it that nobody else"
    " can write them. `redistill keys accept-restore --vouch --reason TEXT` takes them as they are"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SigningRefusal:
    """What does not agree. Times are microseconds since 1970."""

    why: str
    """Which rows, and in what."""
    remedy: str
    """What to do or to type."""
    since: int
    until: int | None
    """When it is told no more: something was refused, and all else is well. ``None``: when all
    agrees again."""
    holder: str
    """The process that found it."""

    @classmethod
    def once(
        cls, why: str, *, now: int, holder: str, remedy: str = MEND, before: SigningRefusal | None
    ) -> SigningRefusal:
        """Of something that was refused at once: told for a day, or for as long as what is told
        ``before`` it, which it does not hide."""
        if before is not None and before.until is None:
            return before
        return cls(
            why=why, remedy=remedy, since=now, until=now + to_us(TOLD_SECONDS), holder=holder
        )

    def lasts(self, now: int) -> bool:
        """Whether it is to be told still."""
        return self.until is None or now < self.until


def get(conn: sa.Connection) -> SigningRefusal | None:
    """The refusal that there is; ``None``: what is signed agrees with the audit."""
    text = properties.get(conn, NAME)
    return None if text is None else SigningRefusal(**json.loads(text))


def put(conn: sa.Connection, refusal: SigningRefusal) -> None:
    """Write it down, in place of another one."""
    properties.put(conn, NAME, json.dumps(asdict(refusal), sort_keys=True))


def clear(conn: sa.Connection) -> None:
    """All agrees again."""
    properties.drop(conn, NAME)


def want_key(database: Database, *, holder: str) -> None:
    """Refuse to begin with an audit key that is not the database's, and tell everybody: two hosts
    with a key each look well, until one of them is to sign. Who begins then is told of no more.

    Raises
    ------
    KeysError
        See ``audit_key.claim``.
    """
    said = f"the repair worker {holder} did not start: "
    try:
        audit_key.check(database)
    except KeysError as error:
        with database.begin() as conn:
            put(
                conn,
                SigningRefusal.once(
                    f"{said}{error}",
                    now=database.clock(),
                    holder=holder,
                    remedy="see to it that all hosts have one audit key",
                    before=get(conn),
                ),
            )
        raise
    with database.begin() as conn:
        told = get(conn)
        if told is not None and told.why.startswith(said):
            clear(conn)

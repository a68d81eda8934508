"""Signing refusal: why nothing is signed at present, in a row that all processes read."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from redistill.streams.store import properties

__all__ = ["SigningRefusal", "clear", "get", "put"]

NAME = "signing_refused"
"""Of the property."""


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

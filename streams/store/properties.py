"""Properties of an installation: single values that both sides read, ``published_snapshot``,
``salt``, ..."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import sqlalchemy as sa

from redistill.streams.store.database import insert_ignore, upsert
from redistill.streams.store.tables import properties

__all__ = ["PUBLISHED_SNAPSHOT", "SALT", "drop", "get", "published_snapshot", "put", "salt"]

PUBLISHED_SNAPSHOT = "published_snapshot"
SALT = "salt"


def get(conn: sa.Connection, name: str) -> str | None:
    """A property's value; ``None`` if it was never put."""
    value = conn.execute(
        sa.select(properties.c.value).where(properties.c.name == name)
    ).scalar_one_or_none()
    return None if value is None else str(value)


def put(conn: sa.Connection, name: str, value: str) -> None:
    """Write a property; the old value is replaced."""
    conn.execute(upsert(properties, ["name"]).values(name=name, value=value))


def drop(conn: sa.Connection, name: str) -> None:
    """Take a property away."""
    conn.execute(sa.delete(properties).where(properties.c.name == name))


def published_snapshot(conn: sa.Connection) -> int:
    """Version of the newest repository snapshot that clients can read; 0 before the first."""
    return int(get(conn, PUBLISHED_SNAPSHOT) or 0)


def salt(conn: sa.Connection, *, make: Callable[[int], bytes] = secrets.token_bytes) -> bytes:
    """This installation's salt for hashing ids (16 bytes), made on first use.

    It never changes afterwards: join rows, splits and bursts are all drawn by the salted hash.
    """
    value = get(conn, SALT)
    if value is None:
        conn.execute(insert_ignore(properties).values(name=SALT, value=make(16).hex()))
        value = get(conn, SALT)  # another process may have been first: its value counts
    return bytes.fromhex(value or "")

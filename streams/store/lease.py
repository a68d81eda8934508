"""Leases: one holder per name, for a time, with a token that grows with each change of holder.

The token fences: whoever writes under a lease calls :func:`check` in the same transaction, which
locks the lease's row, so that a holder who was taken for dead can write nothing more once another
one has begun.

Clocks: ``now`` is the database's (``Database.clock``); where that is each process' own (SQLite), a
difference costs availability (a lease taken over early), never correctness (the token is compared
on every write). A lease that was renewed in the future is none: whoever did it had a clock that was
ahead, and nobody waits until his time has come.
"""

from __future__ import annotations

import sqlalchemy as sa

from redistill.streams.errors import LeaseError
from redistill.streams.store.database import insert_ignore
from redistill.streams.store.tables import leases
from redistill.times import MINUTE, to_seconds, to_us

__all__ = [
    "AHEAD_US",
    "acquire",
    "check",
    "expire",
    "expires_at",
    "holder_of",
    "living",
    "release",
    "renew",
]

AHEAD_US = MINUTE
"""A time further ahead than this was written by a wrong clock: those of one installation are kept
within seconds of each other by NTP."""


def acquire(conn: sa.Connection, name: str, holder: str, *, now: int, seconds: float) -> int | None:
    """Take a lease, or keep it if it is already held under this holder's name.

    Parameters
    ----------
    conn
        A writing transaction.
    name
        What is leased, for example ``relay``.
    holder
        Who asks: unique per process (or thread) that takes leases.
    now
        Microseconds since 1970.
    seconds
        How long it lasts unless renewed.

    Returns
    -------
    int or None
        The fencing token; ``None``: somebody else holds it.

    Examples
    --------
    >>> from redistill.streams.store.tables import metadata
    >>> db = sa.create_engine("sqlite://")
    >>> metadata.create_all(db, tables=[leases])
    >>> with db.begin() as c:
    ...     acquire(c, "relay", "a", now=0, seconds=1), acquire(c, "relay", "b", now=0, seconds=1)
    ...     acquire(c, "relay", "b", now=1_000_000, seconds=1)
    (1, None)
    2
    >>> db.dispose()
    """
    conn.execute(insert_ignore(leases).values(name=name, holder="", token=0, expires_at=0))
    c = leases.c
    row = conn.execute(
        sa.select(c.holder, c.token, c.expires_at, c.renewed_at)
        .where(c.name == name)
        .with_for_update()
    ).one()
    alive = row.expires_at > now and row.renewed_at <= now + AHEAD_US
    if alive and row.holder != holder:
        return None
    token = int(row.token) if alive else int(row.token) + 1
    conn.execute(
        sa.update(leases)
        .where(leases.c.name == name)
        .values(holder=holder, token=token, expires_at=now + to_us(seconds), renewed_at=now)
    )
    return token


def renew(conn: sa.Connection, name: str, token: int, *, now: int, seconds: float) -> bool:
    """Make a lease last until ``now + seconds``.

    Returns
    -------
    bool
        False: somebody else has taken it meanwhile. A lease that ran out but that nobody took is
        renewed.
    """
    done = conn.execute(
        sa.update(leases)
        .where(leases.c.name == name, leases.c.token == token, leases.c.holder != "")
        .values(expires_at=now + to_us(seconds), renewed_at=now)
    )
    return done.rowcount == 1


def check(conn: sa.Connection, name: str, token: int, now: int) -> None:
    """Make sure, until this transaction ends, that the lease is still ours.

    Raises
    ------
    LeaseError
        It ran out, was released, or somebody else holds it.
    """
    row = conn.execute(
        sa.select(leases.c.holder, leases.c.token, leases.c.expires_at)
        .where(leases.c.name == name)
        .with_for_update()
    ).one_or_none()
    if row is None or row.token != token:
        holder = row.holder if row is not None and row.holder else "nobody"
        raise LeaseError(f"the lease {name!r} (token {token}) was taken over; {holder} holds it")
    if row.expires_at <= now:
        late = to_seconds(now - row.expires_at)
        raise LeaseError(f"the lease {name!r} (token {token}) ran out {late:.1f} s ago")


def release(conn: sa.Connection, name: str, token: int) -> bool:
    """Give a lease back, so that another one need not wait for its end. The token stays and will
    grow.

    Returns
    -------
    bool
        Whether it was ours to give back.
    """
    done = conn.execute(
        sa.update(leases)
        .where(leases.c.name == name, leases.c.token == token)
        .values(holder="", expires_at=0)
    )
    return done.rowcount == 1


def living(now: int) -> sa.ColumnElement[bool]:
    """The condition under which a row of ``leases`` is held now."""
    return sa.and_(leases.c.expires_at > now, leases.c.renewed_at <= now + AHEAD_US)


def holder_of(conn: sa.Connection, name: str, now: int) -> str | None:
    """Who holds the lease now; ``None``: nobody does."""
    row = conn.execute(
        sa.select(leases.c.holder).where(leases.c.name == name, living(now))
    ).one_or_none()
    return str(row.holder) if row is not None and row.holder else None


def expires_at(conn: sa.Connection, name: str) -> int:
    """When the lease ends unless renewed, microseconds since 1970; 0 if nobody ever held it."""
    ends = conn.execute(sa.select(leases.c.expires_at).where(leases.c.name == name)).scalar()
    return int(ends or 0)


def expire(conn: sa.Connection, name: str, holder: str) -> bool:
    """End the lease of a holder that is known to be dead. Its token stays and will grow."""
    done = conn.execute(
        sa.update(leases)
        .where(leases.c.name == name, leases.c.holder == holder)
        .values(holder="", expires_at=0)
    )
    return done.rowcount == 1

"""What commands ask of the process that holds the repository, and what it answers."""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa

from redistill.streams.errors import LeaseError
from redistill.streams.store import lease, properties
from redistill.streams.store.database import Database
from redistill.workers.errors import RegistryError
from redistill.workers.releases.repository import LEASE
from redistill.workers.store.tables import intents

if TYPE_CHECKING:
    from redistill.workers.releases.repository_writer import Keeper

Kind = Literal["publish", "rollback"]
LOOK_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Intent:
    """A wish that is not yet fulfilled."""

    intent_id: str
    kind: str
    model: str
    body: dict[str, Any]
    actor: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What became of an intent."""

    ok: bool
    message: str
    body: dict[str, Any] = field(default_factory=dict)
    """``version``, ``previous``, ``epoch`` and ``snapshot`` of a pointer that moved."""


def submit(
    conn: sa.Connection, kind: Kind, model: str, body: Mapping[str, Any], *, actor: str, now: int
) -> str:
    """Ask for a publish (``version``, ``reason``) or a roll back (``to``, ``reason``)."""
    intent_id = str(uuid.uuid4())
    conn.execute(
        sa.insert(intents).values(
            intent_id=intent_id,
            kind=kind,
            model=model,
            body=json.dumps(dict(body), sort_keys=True),
            actor=actor,
            created_at=now,
        )
    )
    return intent_id


def pending(conn: sa.Connection) -> list[Intent]:
    """Intents that nobody has fulfilled, oldest first."""
    rows = conn.execute(
        sa.select(intents)
        .where(intents.c.done_at.is_(None))
        .order_by(intents.c.created_at, intents.c.intent_id)
    )
    return [
        Intent(
            intent_id=r.intent_id,
            kind=r.kind,
            model=r.model,
            body=json.loads(r.body),
            actor=r.actor,
        )
        for r in rows
    ]


def finish(conn: sa.Connection, intent_id: str, result: Result, *, now: int) -> bool:
    """Write the answer; false if it was answered before (or its command gave up)."""
    done = conn.execute(
        sa.update(intents)
        .where(intents.c.intent_id == intent_id, intents.c.done_at.is_(None))
        .values(
            done_at=now,
            result=json.dumps(
                {"ok": result.ok, "message": result.message, **result.body}, sort_keys=True
            ),
        )
    )
    return done.rowcount == 1


def result_of(conn: sa.Connection, intent_id: str) -> Result | None:
    """The answer, once clients can see what was done; ``None`` until then."""
    text = conn.execute(
        sa.select(intents.c.result).where(intents.c.intent_id == intent_id)
    ).scalar_one_or_none()
    if text is None:
        return None
    body = json.loads(text)
    snapshot = body.get("snapshot")
    if snapshot is not None and properties.published_snapshot(conn) < snapshot:
        return None
    return Result(ok=body.pop("ok"), message=body.pop("message"), body=body)


def perform(
    database: Database,
    keeper: Keeper,
    kind: Kind,
    model: str,
    body: Mapping[str, Any],
    *,
    actor: str,
    wait_seconds: float,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """Ask, and wait until clients can see it.

    The process that holds the lease does it; where nobody holds it, this one does. A wish that
    nobody fulfilled in time is withdrawn, so that it does not come true later by surprise.

    Parameters
    ----------
    keeper
        This process's own (``Keeper.close`` it afterwards).
    actor
        Who asks, for the audit chain.

    Returns
    -------
    Result
        Also of a refusal: ``ok`` is false and ``message`` says why.

    Raises
    ------
    RegistryError
        Nobody did it within ``wait_seconds``.
    KeysError
        Nobody holds the repository, and this process cannot read the keys.
    """
    began = clock()
    with database.begin() as conn:
        intent_id = submit(conn, kind, model, body, actor=actor, now=_us(clock))
    try:
        while True:
            with database.read() as conn:
                result = result_of(conn, intent_id)
                holder = lease.holder_of(conn, LEASE, _us(clock))
            if result is not None:
                return result
            if holder is None or keeper.holds:
                with contextlib.suppress(LeaseError):  # somebody else was faster, and does it
                    keeper.attempt()
            elif clock() - began > wait_seconds:
                raise RegistryError(
                    f"{holder} holds the repository and did not answer within {wait_seconds:g} s; "
                    "is the repair worker well? Nothing was changed"
                )
            if clock() - began > wait_seconds:
                raise RegistryError(f"not done within {wait_seconds:g} s")
            sleep(LOOK_SECONDS)
    finally:
        with database.begin() as conn:
            finish(conn, intent_id, Result(ok=False, message="withdrawn"), now=_us(clock))


def _us(clock: Callable[[], float]) -> int:
    return round(clock() * 1e6)

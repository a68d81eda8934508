"""Release requests in SQL: what commands ask of the process that writes the repository, and its answers."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import sqlalchemy as sa

from redistill.streams.store import properties
from redistill.workers.store.tables import intents

Kind = Literal["publish", "rollback"]


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

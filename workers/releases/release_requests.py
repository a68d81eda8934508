"""Release requests in SQL: what commands ask of the process that writes the repository, and its
answers."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import sqlalchemy as sa

from redistill.streams.store import properties
from redistill.workers.store.tables import release_requests

__all__ = ["Kind", "ReleaseRequest", "RequestResult", "finish", "pending", "result_of", "submit"]

Kind = Literal["publish", "rollback"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseRequest:
    """A request that nobody has answered yet."""

    request_id: str
    kind: str
    model: str
    body: dict[str, Any]
    actor: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestResult:
    """What became of a request."""

    ok: bool
    message: str
    body: dict[str, Any] = field(default_factory=dict)
    """``version``, ``previous``, ``epoch`` and ``snapshot`` of a pointer that moved."""


def submit(
    conn: sa.Connection, kind: Kind, model: str, body: Mapping[str, Any], *, actor: str, now: int
) -> str:
    """Ask for a publish (``version``, ``reason``) or a roll back (``to``, ``reason``)."""
    request_id = str(uuid.uuid4())
    conn.execute(
        sa.insert(release_requests).values(
            intent_id=request_id,
            kind=kind,
            model=model,
            body=json.dumps(dict(body), sort_keys=True),
            actor=actor,
            created_at=now,
        )
    )
    return request_id


def pending(conn: sa.Connection) -> list[ReleaseRequest]:
    """Requests that nobody has answered, oldest first."""
    rows = conn.execute(
        sa.select(release_requests)
        .where(release_requests.c.done_at.is_(None))
        .order_by(release_requests.c.created_at, release_requests.c.intent_id)
    )
    return [
        ReleaseRequest(
            request_id=r.intent_id,
            kind=r.kind,
            model=r.model,
            body=json.loads(r.body),
            actor=r.actor,
        )
        for r in rows
    ]


def finish(conn: sa.Connection, request_id: str, result: RequestResult, *, now: int) -> bool:
    """Write the answer; false if it was answered before (or its command gave up)."""
    answered = conn.execute(
        sa.update(release_requests)
        .where(release_requests.c.intent_id == request_id, release_requests.c.done_at.is_(None))
        .values(
            done_at=now,
            result=json.dumps(
                {"ok": result.ok, "message": result.message, **result.body}, sort_keys=True
            ),
        )
    )
    return answered.rowcount == 1


def result_of(conn: sa.Connection, request_id: str) -> RequestResult | None:
    """The answer, once clients can see what was done; ``None`` until then."""
    text = conn.execute(
        sa.select(release_requests.c.result).where(release_requests.c.intent_id == request_id)
    ).scalar_one_or_none()
    if text is None:
        return None
    body = json.loads(text)
    snapshot = body.get("snapshot")
    if snapshot is not None and properties.published_snapshot(conn) < snapshot:
        return None
    return RequestResult(ok=body.pop("ok"), message=body.pop("message"), body=body)

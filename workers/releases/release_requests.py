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
from redistill.times import to_us
from redistill.workers.store import audit_key
from redistill.workers.store.audit_key import AuditKey
from redistill.workers.store.tables import release_requests

__all__ = [
    "Kind",
    "ReleaseRequest",
    "RequestResult",
    "finish",
    "of_row",
    "pending",
    "result_of",
    "submit",
]

Kind = Literal["publish", "rollback"]

LASTS_SECONDS = 3_600.0
"""A request that nobody has answered for so long is obeyed no more: whoever asked has gone, and an
old one may have been put back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseRequest:
    """A request that nobody has answered yet."""

    request_id: str
    kind: str
    model: str
    body: dict[str, Any]
    actor: str
    created_at: int
    mac: str
    signed: tuple[str, ...]
    """What its MAC is over."""

    def is_authentic(self, key: AuditKey) -> bool:
        """Whether somebody asked who has the audit key."""
        return key.fits(self.mac, "release-request", *self.signed)

    def is_over(self, now: int) -> bool:
        """Whether it is too old to be obeyed, or of the future."""
        return not -to_us(LASTS_SECONDS) < now - self.created_at < to_us(LASTS_SECONDS)


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
    request_id, text = str(uuid.uuid4()), json.dumps(dict(body), sort_keys=True)
    key = audit_key.claim(conn)
    signed = _signed(request_id, kind, model, text, actor, now)
    conn.execute(
        sa.insert(release_requests).values(
            intent_id=request_id,
            kind=kind,
            model=model,
            body=text,
            actor=actor,
            created_at=now,
            mac="" if key is None else key.mac("release-request", *signed),
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
    return [of_row(row) for row in rows]


def of_row(row: Any) -> ReleaseRequest:
    """A row of the table as a request."""
    return ReleaseRequest(
        request_id=row.intent_id,
        kind=row.kind,
        model=row.model,
        body=_object(row.body),
        actor=row.actor,
        created_at=row.created_at,
        mac=row.mac,
        signed=_signed(row.intent_id, row.kind, row.model, row.body, row.actor, row.created_at),
    )


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


def _signed(
    request_id: str, kind: str, model: str, body: str, actor: str, created_at: int
) -> tuple[str, ...]:
    return request_id, kind, model, body, actor, str(created_at)


def _object(text: str) -> dict[str, Any]:
    """The body of a request; empty where it is none: its MAC says that it is forged."""
    try:
        body = json.loads(text)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}

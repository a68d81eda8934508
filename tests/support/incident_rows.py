"""Incidents in SQL as the repair worker leaves them, many at once where asked, for tests of alerts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import loop
import sqlalchemy as sa
from loop import finding

from redistill.streams.store.findings import store_findings
from redistill.streams.store.tables import specs
from redistill.workers.incidents import incident_repository, lifecycle
from redistill.workers.store.tables import incident_findings, incidents


def open_incident(conn: sa.Connection, *, model: str = "credit", now: int, **over: Any) -> str:
    """Open one with its finding; its id. The model is registered if it is not."""
    known = conn.execute(sa.select(specs.c.model).where(specs.c.model == model)).first()
    if known is None:
        loop.register(conn, loop.spec(model), now=now)
    found = finding(model=model, at=now)
    loop.store(conn, found, now=now)
    values: dict[str, Any] = {
        "incident_id": str(uuid4()), "model": model, "version": "v1", "incident_class": "harm",
        "finding_id": str(found.finding_id), "change": (now - 9_000_000, now - 5_000_000),
        "why": found.reason, "actor": "worker:test", "now": now,
    } | over  # fmt: skip
    return str(incident_repository.open_new(conn, **values)["incident_id"])


def open_many(conn: sa.Connection, models: Sequence[str], *, now: int) -> list[str]:
    """Open one for each model, as bare rows: without registration, event and audit. Their ids."""
    found = [finding(model=model, at=now) for model in models]
    store_findings(conn, found, now=now)
    ids = [str(uuid4()) for _ in models]
    rows = [
        {
            "incident_id": number, "model": f.model, "version": "v1", "incident_class": "harm",
            "status": "open", "stage": "detected", "why": f.reason, "attempt": 0, "split_salt": "s",
            "opened_at": now, "updated_at": now, "open_mark": 1,
        }
        for number, f in zip(ids, found, strict=True)
    ]  # fmt: skip
    conn.execute(sa.insert(incidents), rows)
    attached = [
        {"incident_id": number, "finding_id": str(f.finding_id), "attached_at": now}
        for number, f in zip(ids, found, strict=True)
    ]
    conn.execute(sa.insert(incident_findings), attached)
    return ids


def needs_person(conn: sa.Connection, incident_id: str, *, now: int) -> None:
    """The policy asks a person about it."""
    row = incident_repository.find(conn, incident_id)
    incident_repository.update(
        conn, row, actor="worker:test", action="incident.decided", now=now, stage="awaiting_person",
        decision="ask_person", why="a person must fix the feed",
    )  # fmt: skip


def resolve(conn: sa.Connection, *incident_ids: str, now: int) -> None:
    """End them: they recovered."""
    for incident_id in incident_ids:
        row = incident_repository.find(conn, incident_id)
        lifecycle.resolve(conn, row, "recovered", why="error is back", actor="worker:test", now=now)


def models(count: int) -> Sequence[str]:
    """Names."""
    return [f"m{i:04}" for i in range(count)]

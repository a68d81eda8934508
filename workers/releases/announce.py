"""Announcements of releases and pointers: events, put into the outbox by the change that they
announce."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec
import sqlalchemy as sa

from redistill.streams.store import outbox
from redistill.streams.wire.events import GateResult, PointerMoved, ReleaseChanged, Trigger
from redistill.workers.releases import roles
from redistill.workers.releases.roles import tuf_time

__all__ = ["SOURCE", "announce_pointer_move", "announce_release", "gates"]

SOURCE = "redistill/releases"

_IDS = uuid.UUID("7f0f3a52-5d2c-4a52-9d3a-6c1f9c2f6f1e")
"""Namespace of the ids of announcements: the same change has the same id."""


class AnnouncedVersion(Protocol):
    """What an announcement says of a version (``versions.Version``)."""

    @property
    def model(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def manifest_sha256(self) -> str: ...
    @property
    def report(self) -> Mapping[str, Any]: ...
    @property
    def policy_sha256(self) -> str | None: ...
    @property
    def job_id(self) -> str | None: ...


def announce_release(
    conn: sa.Connection,
    row: AnnouncedVersion,
    *,
    status: Literal["candidate", "rejected", "published", "rolledback"],
    trigger: Trigger,
    now: int,
    epoch: int | None = None,
    after: int | None = None,
) -> None:
    """Announce that a candidate was made, refused, published or taken back."""
    event = ReleaseChanged(
        model=row.model,
        version=row.version,
        sha256=row.sha256,
        status=status,
        gates=gates(row.report),
        trigger=trigger,
        job_id=None if row.job_id is None else uuid.UUID(row.job_id),
        policy_sha256=row.policy_sha256,
        epoch=epoch,
        at=tuf_time(now),
    )
    key = f"release|{row.model}|{row.version}|{status}|{epoch}"
    outbox.add(
        conn,
        event,
        source=SOURCE,
        now=now,
        event_id=str(uuid.uuid5(_IDS, key)),
        after_snapshot=after,
    )


def announce_pointer_move(
    conn: sa.Connection,
    row: AnnouncedVersion,
    epoch: int,
    reason: str,
    *,
    now: int,
    after: int | None = None,
) -> None:
    """Announce what the pointer names.

    Parameters
    ----------
    after
        The snapshot with which it moved; ``None``: nothing moved, this is for those that missed it.
    """
    until = roles.valid_until(conn)
    event = PointerMoved(
        model=row.model,
        stable=row.version,
        stable_sha256=row.manifest_sha256,
        epoch=epoch,
        expires_at=None if until is None else tuf_time(until),
        reason=reason,
        at=tuf_time(now),
    )
    key = f"pointer|{row.model}|{epoch}|{now if after is None else 'moved'}"
    outbox.add(
        conn,
        event,
        source=SOURCE,
        now=now,
        event_id=str(uuid.uuid5(_IDS, key)),
        after_snapshot=after,
    )


def gates(report: Mapping[str, Any]) -> list[GateResult]:
    """The gates of a stored report, as events carry them."""
    return msgspec.convert(list(report.get("gates", ())), list[GateResult])

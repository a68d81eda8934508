"""Publication history of a model: what its pointer has named so far, and where a roll back goes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import msgspec
import sqlalchemy as sa

from redistill.streams.client.release import FileEntry
from redistill.workers.store.tables import barred, pointer_history, versions

__all__ = ["moves", "predecessor", "published", "servable", "stack"]


def stack(moves: Iterable[tuple[str, str]]) -> list[str]:
    """What lies below the present version, oldest first, the present one last.

    A publish puts a version on top; a roll back takes the top away and ends at the version that it
    went to. Rolling back twice thus goes two steps back, never forth again.

    Parameters
    ----------
    moves
        (version, change) in the order of the epochs.

    Examples
    --------
    >>> stack([("a", "publish"), ("b", "publish"), ("c", "publish"), ("b", "rollback")])
    ['a', 'b']
    >>> stack([("a", "publish"), ("b", "publish"), ("a", "rollback"), ("b", "publish")])
    ['a', 'b']
    >>> stack([("a", "publish"), ("b", "publish"), ("c", "publish"), ("a", "automatic_rollback")])
    ['a']
    """
    out: list[str] = []
    for version, change in moves:
        if change == "publish":
            out.append(version)
            continue
        below = out[:-1]
        if version in below:
            out = below[: len(below) - below[::-1].index(version)]
        else:
            out = [*below, version]
    return out


def moves(conn: sa.Connection, model: str) -> list[tuple[str, str]]:
    """(version, change) of every move of a pointer, in order."""
    rows = conn.execute(
        sa.select(pointer_history.c.stable, pointer_history.c.change)
        .where(pointer_history.c.model == model)
        .order_by(pointer_history.c.epoch)
    )
    return [(str(r.stable), str(r.change)) for r in rows]


def published(conn: sa.Connection, model: str) -> set[str]:
    """Every version that the pointer has ever named."""
    return {version for version, _ in moves(conn, model)}


def predecessor(conn: sa.Connection, model: str) -> str | None:
    """What a roll back goes to: the last version below the present one whose bytes may serve."""
    below = stack(moves(conn, model))
    if not below:
        return None
    allowed = {v.version for v in servable(conn, model)}
    return next((v for v in reversed(below[:-1]) if v in allowed and v != below[-1]), None)


class ServableVersion(msgspec.Struct, frozen=True):
    """A version that served and can serve again."""

    version: str
    sha256: str
    manifest_sha256: str
    files: dict[str, FileEntry]


def servable(conn: sa.Connection, model: str) -> list[ServableVersion]:
    """Versions that served, whose files are kept and whose bytes are not barred, oldest first."""
    refused = set(conn.execute(sa.select(barred.c.sha256).where(barred.c.model == model)).scalars())
    served: Collection[str] = published(conn, model)
    rows = conn.execute(
        sa.select(
            versions.c.version, versions.c.sha256, versions.c.manifest_sha256, versions.c.files
        )
        .where(versions.c.model == model, versions.c.published_at.is_not(None))
        .order_by(versions.c.created_at, versions.c.version)
    )
    out = []
    for row in rows:
        files: dict[str, Any] = msgspec.json.decode(row.files, type=dict[str, FileEntry])
        if files and row.version in served and row.sha256 not in refused:
            out.append(ServableVersion(row.version, row.sha256, row.manifest_sha256, files))
    return out

"""Retention of releases: files that nobody will ask for again are removed, their rows stay as a
record."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from redistill.files import sha256_of_bytes
from redistill.streams.client.release import POINTER_FILE
from redistill.streams.store import properties
from redistill.streams.store.database import Database
from redistill.times import to_seconds
from redistill.workers.releases import best_release, publication_history, registry, roles, versions
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.store import audit
from redistill.workers.store.tables import versions as rows

__all__ = ["ORPHAN_SECONDS", "Pruned", "prune"]

ORPHAN_SECONDS = 24 * 3_600.0
"""A file that no row names may belong to a release that is being packaged."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pruned:
    """What was removed."""

    versions: int
    """Versions whose files are gone."""
    files: int
    bytes: int


def prune(
    database: Database,
    layout: RepositoryLayout,
    model: str,
    *,
    keep: int,
    rejected_before: int,
    now: int,
    lifetimes: Lifetimes,
) -> Pruned:
    """Remove what is not needed of one model.

    Kept are: what serves and what a roll back goes to, the ``keep`` versions published last, the
    releases among which the best so far is (``best_release``), and candidates made since
    ``rejected_before``. The rows are changed and signed first and the files removed when clients
    can see that, so that nobody is told of a file that is gone.

    Parameters
    ----------
    keep
        Versions that served; at least 2 are kept.
    rejected_before
        Candidates and rejected versions made before (microseconds) lose their files.
    now
        Microseconds since 1970.
    """
    with database.begin() as conn:
        gone = _superfluous(conn, model, max(2, keep), rejected_before)
        for version in gone:
            conn.execute(
                sa.update(rows)
                .where(rows.c.model == model, rows.c.version == version)
                .values(files="{}")
            )
        if gone:
            registry.sign_again(conn, model, now=now, lifetimes=lifetimes)
            audit.append(conn, "retention", "release.pruned", model, {"versions": gone}, now)
    with database.read() as conn:
        newest = roles.versions_of(conn, ("snapshot",)).get("snapshot", 0)
        if properties.published_snapshot(conn) < newest:  # the next call removes the files
            return Pruned(versions=len(gone), files=0, bytes=0)
        kept_paths = {
            layout.path(model, name, entry.sha256)
            for version in versions.all_versions(conn, model)
            for name, entry in version.files.items()
        }
        pointer = roles.pointer_text(conn, model)
    if pointer is not None:
        sha256 = sha256_of_bytes(pointer.encode())
        kept_paths.add(layout.targets / model / f"{sha256}.{POINTER_FILE}")
    count = size = 0
    for folder in (layout.targets / model, layout.private / model):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            info = path.stat()
            if path not in kept_paths and to_seconds(now) - info.st_mtime > ORPHAN_SECONDS:
                path.unlink(missing_ok=True)
                count, size = count + 1, size + info.st_size
    return Pruned(versions=len(gone), files=count, bytes=size)


def _superfluous(conn: sa.Connection, model: str, keep: int, rejected_before: int) -> list[str]:
    every = versions.all_versions(conn, model)
    served = [v for v in every if v.published_at is not None]
    latest = sorted(served, key=lambda v: v.published_at or 0, reverse=True)[:keep]
    safe = {v.version for v in latest} | set(
        publication_history.stack(publication_history.moves(conn, model))[-2:]
    )
    safe.add(publication_history.predecessor(conn, model) or "")
    safe |= {v.version for v in best_release.contenders(conn, model)}
    return [
        v.version
        for v in every
        if v.files
        and v.version not in safe
        and (v.published_at is not None or v.created_at < rejected_before)
    ]

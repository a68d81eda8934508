"""Versions in the registry: rows of what was packaged and judged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from redistill.streams.client.release import FileEntry
from redistill.streams.store.database import upsert
from redistill.streams.store.tables import profiles, specs
from redistill.streams.wire.events import Trigger
from redistill.workers.errors import Disagreement, RegistryError, RegistryUsageError
from redistill.workers.releases import trail
from redistill.workers.releases.announce import announce_release
from redistill.workers.releases.package import ReleasePackage
from redistill.workers.store import audit, names
from redistill.workers.store.normal import hashes_of_normal
from redistill.workers.store.tables import versions

__all__ = [
    "Version",
    "add_version",
    "all_versions",
    "files_of",
    "find",
    "get",
    "level_of",
    "raw",
    "revise",
    "want_releases",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """A row of ``versions``."""

    model: str
    version: str
    sha256: str
    manifest_sha256: str
    kind: str
    status: str
    files: dict[str, FileEntry]
    """Empty when retention has removed them."""
    report: dict[str, Any]
    gate_passed: bool
    policy_sha256: str | None
    predecessor: str | None
    job_id: str | None
    created_at: int
    published_at: int | None

    @property
    def made_here(self) -> bool:
        """Whether a repair made it: then its graph has one output, of logits."""
        return self.kind in ("repaired", "scheduled")


def add_version(
    conn: sa.Connection,
    package: ReleasePackage,
    *,
    report: bytes,
    gate_passed: bool,
    trigger: Trigger,
    actor: str,
    now: int,
    profile: bytes | None = None,
    base_error: str | None = None,
    expected_error: str | None = None,
    provisional: bool = False,
) -> Version:
    """Enter a packaged release as a candidate, or as rejected where a gate failed.

    Parameters
    ----------
    report
        The gate report as JSON (``redistill.compress.plan.Report``).
    gate_passed
        Whether every gate passed. A baseline's report counts for the first pointer only.
    trigger
        What made it.
    profile, base_error, expected_error, provisional
        What is normal for this version, for the stream workers (``profiles``).

    Returns
    -------
    Version
        The row; the existing one if the same release was entered before.

    Raises
    ------
    RegistryError
        The version's name is taken by other bytes, or the model is not registered.
    """
    manifest = package.manifest
    level_of(conn, manifest.model)
    old = find(conn, manifest.model, manifest.version)
    if old is not None:
        if old.manifest_sha256 != package.manifest_sha256 and old.sha256 != manifest.sha256:
            raise RegistryError(
                f"{manifest.model} has a version {manifest.version} with other bytes already: "
                "choose another name"
            )
        return old
    status = "candidate" if gate_passed else "rejected"
    conn.execute(
        sa.insert(versions).values(
            model=manifest.model,
            version=manifest.version,
            sha256=manifest.sha256,
            manifest_sha256=package.manifest_sha256,
            kind=manifest.kind,
            status=status,
            files=msgspec.json.encode(package.files, order="sorted").decode(),
            report=report.decode(),
            gate_passed=gate_passed,
            policy_sha256=manifest.policy_sha256,
            predecessor=manifest.predecessor,
            job_id=manifest.job_id,
            created_at=now,
            published_at=None,
        )
    )
    if profile is not None or base_error is not None:
        conn.execute(
            upsert(profiles, ["model", "version"]).values(
                model=manifest.model,
                version=manifest.version,
                profile=profile,
                base_error=base_error,
                expected_error=expected_error,
                provisional=provisional,
            )
        )
        revise(conn, manifest.model, now)
    row = get(conn, manifest.model, manifest.version)
    announce_release(
        conn, row, status="candidate" if gate_passed else "rejected", trigger=trigger, now=now
    )
    audit.append(
        conn,
        actor,
        f"release.{status}",
        manifest.model,
        {
            **trail.facts_of(raw(conn, row.model, row.version) or {}),
            "predecessor": row.predecessor,
            "job_id": row.job_id,
            **hashes_of_normal(profile, base_error, expected_error, provisional=provisional),
        },
        now,
    )
    return row


def find(conn: sa.Connection, model: str, version: str) -> Version | None:
    """A version's row; ``None`` if there is none.

    Raises
    ------
    Disagreement
        What stands there is none: somebody wrote it by SQL.
    """
    row = raw(conn, model, version)
    return None if row is None else _version(row)


def raw(conn: sa.Connection, model: str, version: str) -> dict[str, Any] | None:
    """A version's row as it is stored, for ``trail``; ``None`` if there is none."""
    row = (
        conn.execute(
            sa.select(versions).where(versions.c.model == model, versions.c.version == version)
        )
        .mappings()
        .one_or_none()
    )
    return None if row is None else {str(k): v for k, v in row.items()}


def files_of(row: Mapping[str, Any]) -> dict[str, FileEntry]:
    """Files of a row of ``versions``."""
    return msgspec.json.decode(row["files"], type=dict[str, FileEntry])


def get(conn: sa.Connection, model: str, version: str) -> Version:
    """A version's row.

    Raises
    ------
    RegistryError
        There is none; the message names those that there are.
    """
    row = find(conn, model, version)
    if row is None:
        found = conn.execute(
            sa.select(versions.c.version)
            .where(versions.c.model == model)
            .order_by(versions.c.created_at.desc())
        ).scalars()
        known = list(found)
        near = names.did_you_mean(version, known) if known else " (it has none)"
        raise RegistryUsageError(f"{model} has no version {version!r}{near}")
    return row


def all_versions(conn: sa.Connection, model: str) -> list[Version]:
    """All versions of a model, newest first."""
    query = (
        sa.select(versions)
        .where(versions.c.model == model)
        .order_by(versions.c.created_at.desc(), versions.c.version)
    )
    return [_version({str(k): v for k, v in r.items()}) for r in conn.execute(query).mappings()]


def level_of(conn: sa.Connection, model: str) -> str:
    """The level at which a model was taken in; ``RegistryUsageError``: it is not registered."""
    level = conn.execute(
        sa.select(specs.c.level).where(specs.c.model == model)
    ).scalar_one_or_none()
    if level is None:
        raise RegistryUsageError(names.no_such_model(conn, model))
    return str(level)


def want_releases(conn: sa.Connection, model: str) -> None:
    """Refuse a model that is only watched, before anything else is said of its releases.

    Raises
    ------
    RegistryUsageError
        It is, or it is unknown.
    """
    if level_of(conn, model) == "watch":
        raise RegistryUsageError(
            f'{model} is only watched (level watch), and has no releases: set level = "rollback" or'
            ' "repair" in its model.toml, and register it again'
        )


def revise(conn: sa.Connection, model: str, now: int) -> None:
    """Tell the stream workers to read the model's specification and profiles again."""
    conn.execute(
        sa.update(specs)
        .where(specs.c.model == model)
        .values(revision=specs.c.revision + 1, updated_at=now)
    )


def _version(row: Mapping[str, Any]) -> Version:
    name, values = f"{row['model']} {row['version']}", dict(row)
    try:
        values["files"] = files_of(row)
        values["report"] = json.loads(row["report"])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Disagreement(f"the row of {name} in versions cannot be read: {error}") from error
    if not isinstance(values["report"], dict):
        raise Disagreement(f"the row of {name} in versions cannot be read: its report is no object")
    return Version(**values)

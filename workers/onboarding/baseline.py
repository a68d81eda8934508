"""Baseline, the first release of a model: what serves when redistill takes over, judged on its own
and published once.

Its report has the mode ``baseline`` (contract, self-test, size, latency, accuracy on trusted rows)
and counts for the first pointer only. Registering again never moves a pointer.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass

import sqlalchemy as sa

from redistill.compress.errors import CompressError
from redistill.compress.plan import Accepted, NeedsPerson, Rejected, Report, Undecidable, to_json
from redistill.streams.errors import ReleaseError
from redistill.streams.store import lease
from redistill.streams.store.database import Database
from redistill.streams.wire.events import Trigger
from redistill.workers.errors import KeysError, RegistryError, SpecError
from redistill.workers.jobs.child import Child
from redistill.workers.jobs.child_outcome import ChildFailed
from redistill.workers.models.spec import ModelSpec
from redistill.workers.onboarding import external_package
from redistill.workers.releases import keys, submission, versions
from redistill.workers.releases.package import ReleasePackage
from redistill.workers.releases.repository import LEASE
from redistill.workers.releases.repository_writer import RepositoryWriter
from redistill.workers.settings.settings import Settings
from redistill.workers.store.tables import pointers

__all__ = ["JudgedBaseline", "check_keys", "differs", "judge", "publish", "serves", "start_child"]


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedBaseline:
    """A baseline that may serve."""

    report: Report
    package: ReleasePackage


def serves(conn: sa.Connection, model: str) -> str | None:
    """The version that the model's pointer names; ``None``: it has no pointer yet."""
    return conn.execute(
        sa.select(pointers.c.stable).where(pointers.c.model == model)
    ).scalar_one_or_none()


def differs(conn: sa.Connection, spec: ModelSpec) -> str | None:
    """What to say to somebody who changed ``[model]`` after the take-over; ``None``: nothing."""
    stable, version = serves(conn, spec.name), spec.model.version
    if stable is None or version is None or spec.level == "watch":
        return None
    known = versions.find(conn, spec.name, version)
    if known is not None and known.sha256 == spec.objects.get("model"):
        return None
    return (
        f"[model] is read once, and {stable} serves: to publish another file use `redistill add"
        f" {spec.name} {version} FILE`"
    )


def check_keys(database: Database, settings: Settings, *, now: int) -> None:
    """Whether somebody can sign a first pointer: this process, or the one that holds the
    repository.

    Raises
    ------
    KeysError
        Nobody can; the message says what to do.
    """
    if keys.exist(settings.keys_folder):
        return
    with database.read() as conn:
        holder = lease.holder_of(conn, LEASE, now)
    if holder is None:
        raise KeysError(
            "levels rollback and repair publish signed releases, and there are no signing keys: run"
            " `redistill keys init` once, then register again"
        )


def start_child() -> Child:
    """The process in which baselines are judged: start it early, it loads for some seconds."""
    return Child.start(entry="redistill.compress.once:run")


def judge(spec: ModelSpec, settings: Settings, child: Child, *, now: int) -> JudgedBaseline:
    """Judge the files of ``[model]`` and package them as a release; no row is written.

    Parameters
    ----------
    spec
        With the hashes of its files, which are in the object store.
    now
        Microseconds since 1970.
    child
        Where it is judged.

    Raises
    ------
    SpecError
        It may not serve: the message says which of its limits it breaks, or why it cannot run.
    RegistryError
        Its files cannot be stored.
    """
    folder = settings.jobs_folder / f"baseline-{spec.name}-{spec.config_sha256()[:8]}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        external_package.fill_folder(folder, spec, settings)
        for role, sha256 in spec.objects.items():
            name = "model.onnx" if role == "model" else role
            if role == "model" or role.startswith("training/"):
                external_package.copy_object(folder / "incumbent" / name, sha256, settings)
        report = child.run(folder, deadline_s=settings.child_seconds).report
        match report.decision:
            case Accepted():
                pass
            case Rejected(reasons=reasons):
                raise SpecError(
                    f"{spec.name} {spec.model.version} may not serve: {'; '.join(reasons)}"
                )
            case Undecidable(why=why) | NeedsPerson(why=why):
                raise SpecError(f"{spec.name} {spec.model.version} cannot be judged: {why}")
            case None:
                raise SpecError(f"{spec.name} {spec.model.version}: the report decides nothing")
        version = spec.model.version or ""  # the level needs one: spec_file saw to it
        return JudgedBaseline(
            report=report,
            package=external_package.build(
                folder, spec, settings, report, version=version, kind="baseline", now=now
            ),
        )
    except (ChildFailed, CompressError, ReleaseError) as error:
        raise SpecError(f"{spec.name} {spec.model.version} cannot serve: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(
    database: Database,
    writer: RepositoryWriter,
    judged: JudgedBaseline,
    *,
    actor: str,
    now: int,
    wait_seconds: float,
) -> str:
    """Enter the baseline and move the first pointer to it; returns what was done, for a person.

    Safe to repeat after a crash at any point.

    Raises
    ------
    RegistryError
        It was refused, or nobody did it in time.
    KeysError
        Nobody can sign it.
    """
    manifest = judged.package.manifest
    with database.begin() as conn:
        versions.add_version(
            conn,
            judged.package,
            report=to_json(judged.report),
            gate_passed=True,
            trigger=Trigger(kind="baseline", id=manifest.version),
            actor=actor,
            now=now,
        )
    result = submission.perform(
        database,
        writer,
        "publish",
        manifest.model,
        {"version": manifest.version, "reason": "baseline: what served before"},
        actor=actor,
        wait_seconds=wait_seconds,
    )
    if not result.ok:
        raise RegistryError(result.message)
    return result.message

"""Job spec: what the child is asked (``job.json``), from the job's row, and the folder with all
files that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast
from uuid import UUID

import msgspec
import sqlalchemy as sa

from redistill.compress.plan import JobSpec, Mode, to_json
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.store.tables import findings, profiles
from redistill.streams.wire.events import DriftFound
from redistill.workers.errors import WorkersError
from redistill.workers.incidents import incident_repository
from redistill.workers.incidents.model_context import ModelContext, load
from redistill.workers.jobs.folder import fetch
from redistill.workers.jobs.training_window import WindowQuery
from redistill.workers.models import objects
from redistill.workers.releases import versions
from redistill.workers.releases.release_files import RepositoryLayout, write_whole
from redistill.workers.releases.versions import Version
from redistill.workers.store.job_queue import Job
from redistill.workers.store.tables import incident_findings, pointers

__all__ = [
    "TRAINING",
    "JobInputs",
    "JobObsolete",
    "fill_folder",
    "read_inputs",
    "spec_of",
    "window_query",
]

TRAINING = ("training/architecture.json", "training/weights.safetensors")
"""Files of a release that allow a warm start."""

TRAIN_SPARE = 1.2
"""Training rows that are handed over per row that will be used: some repeat others."""


class JobObsolete(WorkersError):
    """The job makes no sense any more; the message says why. No retry would help."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobInputs:
    """Everything about a job that stands in SQL, read in one transaction."""

    job: Job
    model_context: ModelContext
    incumbent: Version
    incident: Mapping[str, Any] | None
    base_error: float | None
    data_bug_columns: tuple[str, ...]
    raised_by: int | None = None
    """When the label was observed that raised the alarm."""

    @property
    def version(self) -> str:
        """The version whose rows are looked at."""
        return self.incumbent.version

    @property
    def salt(self) -> str:
        """Divides gate rows from training rows."""
        return self.job.job_id if self.incident is None else str(self.incident["split_salt"])

    @property
    def since(self) -> int | None:
        """The change point; ``None``: a scheduled or manual job, which has none."""
        return None if self.incident is None else self.incident["change_low"]

    @property
    def trigger(self) -> Literal["incident", "schedule", "actor"]:
        """As the child is told."""
        return cast(Literal["incident", "schedule", "actor"], self.job.trigger_kind)


def read_inputs(conn: sa.Connection, job: Job) -> JobInputs:
    """Read what a job is about.

    Raises
    ------
    JobObsolete
        The model is gone or at a level without repair, serves nothing, or serves another version
        than the one the incident is about.
    """
    model_context = load(conn, job.model)
    if model_context is None:
        raise JobObsolete(f"{job.model} is not registered any more")
    if model_context.level != "repair":
        raise JobObsolete(
            f"{job.model} is at level {model_context.level}: only level repair is repaired"
        )
    stable = conn.execute(
        sa.select(pointers.c.stable).where(pointers.c.model == job.model)
    ).scalar_one_or_none()
    if stable is None:
        raise JobObsolete(f"{job.model} has no published version that a candidate could beat")
    incident = None if job.incident_id is None else incident_repository.get(conn, job.incident_id)
    if incident is not None and incident["version"] != stable:
        raise JobObsolete(
            f"version {incident['version']} was replaced by {stable} meanwhile: whether that helps"
            " is seen on its own labels"
        )
    beaten = job.outcome.get("incumbent")
    if beaten is not None and beaten != stable:
        raise JobObsolete(f"version {beaten}, which it was to beat, was replaced by {stable}")
    incumbent = versions.get(conn, job.model, stable)
    base = conn.execute(
        sa.select(profiles.c.base_error).where(
            profiles.c.model == job.model, profiles.c.version == stable
        )
    ).scalar_one_or_none()
    return JobInputs(
        job=job,
        model_context=model_context,
        incumbent=incumbent,
        incident=incident,
        base_error=None if base is None else BaseError.from_json(base).rate,
        data_bug_columns=() if incident is None else _broken_columns(conn, incident),
        raised_by=None if incident is None else _raised_by(conn, incident),
    )


def _raised_by(conn: sa.Connection, incident: Mapping[str, Any]) -> int | None:
    """When the newest alarm of an incident was raised: `account` opens a finding at the label that
    did it."""
    opened = (
        sa.select(sa.func.max(findings.c.opened_at))
        .join(incident_findings, incident_findings.c.finding_id == findings.c.finding_id)
        .where(
            incident_findings.c.incident_id == incident["incident_id"],
            findings.c.version == incident["version"],
            findings.c.kind == "accuracy",
        )
    )
    return conn.execute(opened).scalar_one_or_none()


def _broken_columns(conn: sa.Connection, incident: Mapping[str, Any]) -> tuple[str, ...]:
    """Columns with an open contract finding that may explain the incident: those among its ranked
    contributors, or all where nothing was ranked."""
    rows = conn.execute(
        sa.select(findings.c.kind, findings.c.scope, findings.c.severity, findings.c.body).where(
            findings.c.model == incident["model"],
            findings.c.version == incident["version"],
            findings.c.status != "resolved",
        )
    ).all()
    broken = {r.scope for r in rows if r.kind == "quality" and r.severity != "info"}
    if not broken:
        return ()
    ranked: set[str] = set()
    for row in rows:
        if row.kind == "accuracy":
            finding = msgspec.json.decode(row.body, type=DriftFound)
            ranked |= {c.column for c in finding.contributors}
    return tuple(sorted(broken & ranked if ranked else broken))


def window_query(context: JobInputs, *, frozen_at: int | None, since: int | None) -> WindowQuery:
    """Which rows the job wants.

    Parameters
    ----------
    frozen_at
        End of the training rows; ``None``: now.
    since
        Begin of the window as it was found before (scheduled and manual jobs).
    """
    spec = context.model_context.spec
    begin = context.since if context.incident is not None else since
    return WindowQuery(
        model=context.job.model,
        version=context.version,
        features=spec.schema.names,
        salt=context.salt,
        train_rows=round(spec.training.max_fresh_rows * TRAIN_SPARE),
        since=begin,
        last_rows=spec.repair.fresh_rows,
        frozen_at=frozen_at,
        raised_by=context.raised_by,
        source=context.job.options.get("source"),
    )


def spec_of(context: JobInputs, mode: Mode, *, deadline_s: float) -> JobSpec:
    """``job.json``: the same job gives the same bytes, whichever worker writes it."""
    spec = context.model_context.spec
    return JobSpec(
        job_id=context.job.job_id,
        model=context.job.model,
        mode=mode,
        trigger=context.trigger,
        train_on=context.job.options.get("train_on", "teacher"),
        graph=spec.graph(),
        made_here=("incumbent",) if context.incumbent.made_here else (),
        limits=spec.limits(),
        training=spec.training,
        serving_batch=spec.serving.batch,
        tolerance_points=spec.watch.tolerance_points,
        base_error=context.base_error,
        teacher_base_error=spec.measured.get("teacher_error"),
        data_bug_columns=context.data_bug_columns,
        seed=UUID(context.job.job_id).int % 2**31,
        deadline_s=deadline_s,
    )


def fill_folder(folder: Path, context: JobInputs, spec: JobSpec, *, home: Path) -> None:
    """Write everything but ``fresh.parquet`` into the job's folder; what is there stays.

    Raises
    ------
    JobFolderError
        A file is missing or damaged; the message names it.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    stored = context.model_context.spec.objects
    for role, name in (
        ("reference", "reference.parquet"),
        ("trusted", "trusted.parquet"),
        ("teacher", "teacher/model.onnx"),
    ):
        if role not in stored:
            raise JobObsolete(f"{context.job.model} was registered without {role}: add it")
        sha256 = stored[role]
        fetch(objects.path_of(home / "objects", sha256), folder / name, sha256, what=role)
    layout = RepositoryLayout(home)
    files = context.incumbent.files
    for name in ("model.onnx", *TRAINING):
        if name in files:
            source = layout.path(context.job.model, name, files[name].sha256)
            target = folder / "incumbent" / name
            fetch(source, target, files[name].sha256, what=f"{name} of {context.version}")
        elif name == "model.onnx":
            raise JobObsolete(f"the files of {context.version} are not kept any more")
    write_whole(folder / "job.json", to_json(spec))

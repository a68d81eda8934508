"""Job spec: what the child is asked (``job.json``), from the job's row, and the folder with all
files that it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast
from uuid import UUID

import msgspec
import sqlalchemy as sa

from redistill.compress.plan import JobSpec, Measure, Mode, to_json
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.store.tables import findings, profiles
from redistill.streams.wire.events import DriftFound, LossPart
from redistill.workers.errors import WorkersError
from redistill.workers.incidents import incident_repository
from redistill.workers.incidents.model_context import ModelContext, load
from redistill.workers.jobs.folder import fetch
from redistill.workers.jobs.training_window import WindowQuery
from redistill.workers.models import objects
from redistill.workers.releases import best_release, versions, vouched
from redistill.workers.releases.release_files import RepositoryLayout, write_whole
from redistill.workers.releases.versions import Version
from redistill.workers.store.job_queue import Job
from redistill.workers.store.tables import incident_findings, incidents, pointers

__all__ = [
    "TRAINING",
    "JobInputs",
    "JobObsolete",
    "fill_folder",
    "read_inputs",
    "roles_made_here",
    "spec_of",
    "want_vouched",
    "window_query",
]

TRAINING = ("training/architecture.json", "training/weights.safetensors")
"""Files of a release that allow a warm start."""

CONCEPT_CHANGE = "concept_change"

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
    base_error: BaseError | None
    earlier: tuple[Version, ...] = ()
    """Releases among which the best so far is, unless it is the incumbent."""
    broken_columns: tuple[str, ...] = ()
    """Columns with an open contract finding."""
    raised_points: float | None = None
    """Largest loss of the whole model that a finding of the incident measured."""
    mix_moved: Measure | None = None
    got_worse: Measure | None = None
    """The two parts of that loss by its newest finding, in points."""
    harmed_slices: tuple[str, ...] = ()
    """Slices with open findings of harm, where none of the whole model is open."""
    raised_seq: int | None = None
    """Number of the outcome that raised the newest alarm of the incident."""
    cause: str | None = None
    """Of a job that a person asked for beside an open incident: that a concept changed, where a
    diagnosis said so."""

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
    harm = [] if incident is None else _whole_model(conn, incident)
    newest = max(harm, key=lambda f: f.at, default=None)
    return JobInputs(
        job=job,
        model_context=model_context,
        incumbent=incumbent,
        earlier=tuple(best_release.contenders(conn, job.model)),
        incident=incident,
        base_error=None if base is None else BaseError.from_json(base),
        broken_columns=() if incident is None else _broken_columns(conn, incident),
        raised_points=_raised_points(harm),
        mix_moved=None if newest is None else _points(newest.mix_moved),
        got_worse=None if newest is None else _points(newest.got_worse),
        harmed_slices=() if incident is None else _harmed_slices(conn, incident),
        raised_seq=None if incident is None else _raised_seq(conn, incident),
        cause=_cause_beside(conn, job, stable),
    )


def want_vouched(conn: sa.Connection, inputs: JobInputs) -> None:
    """Refuse a specification (gates, objects, believed sources) or versions to be beaten that
    somebody changed in SQL: what is put back before the release is signed nobody would see.

    Raises
    ------
    Disagreement
        Naming the row.
    """
    beaten = [inputs.version, *(v.version for v in inputs.earlier)]
    spec_sha256 = inputs.model_context.spec_sha256
    vouched.want_vouched(conn, inputs.job.model, named=beaten, spec_sha256=spec_sha256)


def _cause_beside(conn: sa.Connection, job: Job, stable: str) -> str | None:
    """A changed concept that an open incident knows of, for a person's job about the same version:
    whoever answers such an incident with labels is told to order one. What the job was judged by
    stays, also when the incident ends."""
    if job.trigger_kind != "actor":
        return None
    i = incidents.c
    found = sa.select(i.cause).where(
        i.model == job.model, i.version == stable, i.open_mark == 1, i.cause == CONCEPT_CHANGE
    )
    return job.outcome.get("cause") or conn.execute(found.limit(1)).scalar_one_or_none()


def _raised(incident: Mapping[str, Any], *columns: Any) -> sa.Select[Any]:
    """Columns of the findings of harm that belong to an incident."""
    return (
        sa.select(*columns)
        .join(incident_findings, incident_findings.c.finding_id == findings.c.finding_id)
        .where(
            incident_findings.c.incident_id == incident["incident_id"],
            findings.c.version == incident["version"],
            findings.c.kind == "accuracy",
        )
    )


def _raised_seq(conn: sa.Connection, incident: Mapping[str, Any]) -> int | None:
    """Number of the outcome that raised the newest alarm of an incident."""
    newest = _raised(incident, sa.func.max(findings.c.raised_seq))
    return conn.execute(newest).scalar_one_or_none()


def _whole_model(conn: sa.Connection, incident: Mapping[str, Any]) -> list[DriftFound]:
    """Those of them that are about the whole model: a slice's loss is none of all rows."""
    c, found = findings.c, []
    whole = _raised(incident, c.finding_id, c.body).where(c.scope == "all")
    for finding_id, body in conn.execute(whole):
        try:
            found.append(msgspec.json.decode(body, type=DriftFound))
        except msgspec.MsgspecError as error:  # what was lost is not known: no job without it
            raise WorkersError(f"finding {finding_id} cannot be read: {error}") from error
    return found


def _harmed_slices(conn: sa.Connection, incident: Mapping[str, Any]) -> tuple[str, ...]:
    """Slices of which a finding of harm is open, while none of the whole model is."""
    still = _raised(incident, findings.c.scope).where(findings.c.status != "resolved")
    scopes = set(conn.execute(still).scalars())
    return () if "all" in scopes else tuple(sorted(s.removeprefix("slice:") for s in scopes))


def _raised_points(harm: Sequence[DriftFound]) -> float | None:
    """The largest loss that they measured, in points."""
    losses = [
        100.0 * (f.impact.reference - f.impact.current)
        for f in harm
        if f.impact.reference is not None and f.impact.current is not None
    ]
    return max(losses, default=None)


def _points(part: LossPart | None) -> Measure | None:
    if part is None:
        return None
    return Measure(value=100 * part.value, low=100 * part.low, high=100 * part.high, n=part.n)


def _broken_columns(conn: sa.Connection, incident: Mapping[str, Any]) -> tuple[str, ...]:
    """Columns with an open contract finding; whether they explain anything, the child says."""
    broken = sa.select(findings.c.scope).where(
        findings.c.model == incident["model"],
        findings.c.version == incident["version"],
        findings.c.status != "resolved",
        findings.c.kind == "quality",
        findings.c.severity != "info",
    )
    return tuple(sorted(set(conn.execute(broken).scalars())))


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
        classes=tuple(spec.schema.classes),
        segments=tuple(k for k in spec.schema.divisions if k not in spec.schema.names),
        salt=context.salt,
        train_rows=round(spec.training.max_fresh_rows * TRAIN_SPARE),
        since=begin,
        last_rows=spec.repair.fresh_rows,
        frozen_at=frozen_at,
        raised_seq=context.raised_seq,
        source=context.job.options.get("source"),
        bound_sources=spec.labels.bound,
    )


def spec_of(context: JobInputs, mode: Mode, *, deadline_s: float) -> JobSpec:
    """``job.json``: the same job gives the same bytes, whichever worker writes it."""
    spec, base = context.model_context.spec, context.base_error
    return JobSpec(
        job_id=context.job.job_id,
        model=context.job.model,
        mode=mode,
        trigger=context.trigger,
        train_on=context.job.options.get("train_on", "teacher"),
        source=context.job.options.get("source"),
        graph=spec.graph(),
        made_here=roles_made_here(context.incumbent, context.earlier),
        releases=tuple(v.version for v in context.earlier),
        policy=spec.policy(),
        waived=context.job.waived,
        training=spec.training,
        serving_batch=spec.serving.batch,
        tolerance_points=spec.watch.tolerance_points,
        base_error=None if base is None else base.rate,
        base_rows=None if base is None else base.n,
        teacher_base_error=spec.measured.get("teacher_error"),
        raised_points=context.raised_points,
        mix_moved=context.mix_moved,
        got_worse=context.got_worse,
        harmed_slices=context.harmed_slices,
        parent=context.version,
        card=spec.card,
        seed=UUID(context.job.job_id).int % 2**31,
        deadline_s=deadline_s,
    )


def roles_made_here(incumbent: Version, earlier: Sequence[Version]) -> tuple[str, ...]:
    """Roles in a job's folder whose graphs a repair made: these have one output, of logits."""
    roles = {"incumbent": incumbent} | {f"best/{n}": v for n, v in enumerate(earlier, start=1)}
    return tuple(role for role, version in roles.items() if version.made_here)


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
    for n, release in enumerate(context.earlier, start=1):
        sha256 = release.files["model.onnx"].sha256
        source = layout.path(context.job.model, "model.onnx", sha256)
        target = folder / "best" / str(n) / "model.onnx"
        fetch(source, target, sha256, what=f"model.onnx of {release.version}")
    write_whole(folder / "job.json", to_json(spec))

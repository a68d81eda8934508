"""Package of an external model, the first or one that a person adds: the folder of the job that
judges it (mode ``baseline``), and its release."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from redistill.compress.plan import JobSpec, Report, to_json
from redistill.times import utc
from redistill.workers.models import objects
from redistill.workers.models.spec import ModelSpec
from redistill.workers.releases.package import ReleasePackage, build_package
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.settings.settings import Settings

__all__ = ["build", "copy_object", "fill_folder"]

FILES = {
    "trusted": "trusted.parquet",
    "reference": "reference.parquet",
    "teacher": "teacher/model.onnx",
}
"""What every such job is given, as far as the model has it: role -> name in the folder."""


def fill_folder(
    folder: Path,
    spec: ModelSpec,
    settings: Settings,
    *,
    made_here: tuple[str, ...] = (),
    releases: tuple[str, ...] = (),
    waived: Mapping[str, str] | None = None,
    parent: str | None = None,
) -> None:
    """Begin the job's folder: everything but the models, and ``fresh.parquet``.

    ``made_here`` are the roles of models that a repair made, ``releases`` the versions of the
    earlier releases, ``waived`` gates that a person takes upon themselves: who and why, by gate,
    ``parent`` the version that serves.

    A level without a reference judges on trusted rows alone.

    Raises
    ------
    WorkersError
        A file is missing from the object store, or damaged.
    """
    folder.mkdir(parents=True, mode=0o700)
    stored = spec.objects
    for role, name in FILES.items():
        sha256 = stored.get(role) or (stored["trusted"] if role == "reference" else None)
        if sha256 is not None:
            copy_object(folder / name, sha256, settings)
    job = JobSpec(
        job_id=folder.name,
        model=spec.name,
        mode="baseline",
        trigger="actor",
        graph=spec.graph(),
        made_here=made_here,
        releases=releases,
        waived=dict(waived or {}),
        policy=spec.policy(),
        training=spec.training,
        serving_batch=spec.serving.batch,
        tolerance_points=spec.watch.tolerance_points,
        parent=parent,
        card=spec.card,
        deadline_s=settings.child_seconds,
    )
    (folder / "job.json").write_bytes(to_json(job))


def copy_object(target: Path, sha256: str, settings: Settings) -> None:
    """Copy a file out of the object store.

    Raises
    ------
    WorkersError
        It is missing there, or damaged.
    """
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    target.write_bytes(objects.read(settings.objects_folder, sha256))


def build(
    folder: Path,
    spec: ModelSpec,
    settings: Settings,
    report: Report,
    *,
    version: str,
    kind: Literal["baseline", "added"],
    now: int,
    predecessor: str | None = None,
) -> ReleasePackage:
    """Package what the job left, as a release of ``spec``.

    Parameters
    ----------
    folder
        Of the finished job.
    report
        What the job found.
    now
        Microseconds since 1970.
    predecessor
        The version that served when it was judged.

    Raises
    ------
    ReleaseError
        It cannot be served.
    RegistryError
        Its files cannot be stored.
    """
    return build_package(
        folder / "candidate",
        layout=RepositoryLayout(settings.root),
        model=spec.name,
        version=version,
        kind=kind,
        schema=spec.schema,
        output=spec.model.output,
        output_kind=spec.model.output_kind,
        created_at=utc(now),
        policy_sha256=report.policy_sha256,
        predecessor=predecessor,
        cpu_flags=tuple(str(f) for f in report.environment.get("cpu_flags", ())),
        load_seconds=settings.load_seconds,
    )

"""External version, one that a person brings: judged against what serves, packaged, and entered as
a candidate.

It is judged as a repair is (in the jobs' child, mode ``baseline``), but for the evidence that it
must be better: not worse than the incumbent on trusted rows, nor on labelled rows that the
incumbent served, is enough. The pointer does not move: that is ``redistill publish``.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import sqlalchemy as sa

from redistill import onnxadopt, onnxfile, onnxtrial
from redistill.compress.errors import CompressError
from redistill.compress.judge.as_good import rows_to_show
from redistill.compress.plan import (
    Accepted,
    NeedsPerson,
    Rejected,
    Report,
    Undecidable,
    column_of,
    to_json,
)
from redistill.files import sha256_of_bytes
from redistill.onnxports import OnnxError
from redistill.streams.errors import ReleaseError
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.reference import build_profile
from redistill.streams.store.database import Database
from redistill.streams.store.tables import specs
from redistill.streams.wire.block import Codes, PredictionBlock, Schema
from redistill.streams.wire.events import Trigger
from redistill.workers.errors import RegistryError, RegistryUsageError, UsageError
from redistill.workers.jobs import job_spec, training_window
from redistill.workers.jobs.child import Child
from redistill.workers.jobs.child_outcome import ChildFailed
from redistill.workers.jobs.error_rows import read_expected_error
from redistill.workers.jobs.question import question
from redistill.workers.models.spec import ModelSpec
from redistill.workers.onboarding import external_package
from redistill.workers.releases import best_release, trail, versions
from redistill.workers.releases.release_files import RepositoryLayout, restore
from redistill.workers.releases.versions import Version
from redistill.workers.releases.vouched import want_vouched
from redistill.workers.settings.settings import Settings
from redistill.workers.store import audit
from redistill.workers.store.tables import pointers

__all__ = ["ExternalVersion", "add", "as_good", "why"]

MAX_VERSION = 80
"""Characters of a version's name, on the wire as well."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExternalVersion:
    """What became of it."""

    report: Report
    version: Version | None
    """The registry's row; ``None``: its gates are undecided, and nothing was entered."""


def add(
    database: Database,
    settings: Settings,
    start: Callable[[], Child],
    *,
    model: str,
    version: str,
    file: Path,
    trusted_only: bool,
    actor: str,
    now: int,
    waived: Mapping[str, str] | None = None,
) -> ExternalVersion:
    """Judge an ONNX file against what serves, and enter it under a version's name.

    Parameters
    ----------
    start
        Starts the process in which it is judged; not called for what is refused at first sight.
    file
        The ONNX file; it takes the same features as the model's schema says.
    trusted_only
        Leave out the labelled rows that the incumbent served: too few of them leave the gates
        undecided.
    now
        Microseconds since 1970.
    waived
        Gates of trusted rows that the person takes upon themselves, with the reason.

    Returns
    -------
    Added
        Rejected ones are entered too, with their report; they cannot be published.

    Raises
    ------
    RegistryError
        The model is unknown, only watched, or serves nothing yet or these very bytes; or the
        version's name is taken or none.
    UsageError
        The file cannot be used; the message says why.
    ReleaseError
        It could not be judged.
    """
    if not 0 < len(version) <= MAX_VERSION or not version.isprintable():
        raise RegistryUsageError(
            f"{version[:MAX_VERSION]!r} is no name of a version: 1 to {MAX_VERSION} printable"
            " characters are"
        )
    with database.view() as conn:  # a registration in between would look like a changed row
        spec, spec_sha256, incumbent = _known(conn, model)
        earlier = best_release.contenders(conn, model)
        beaten = [incumbent.version, *(v.version for v in earlier)]
        want_vouched(conn, model, named=beaten, spec_sha256=spec_sha256)
        taken = versions.find(conn, model, version)
    try:
        data = onnxfile.read(file)
        onnxtrial.try_large(file.name, data)
        onnxfile.check_bytes(file.name, data)
    except OnnxError as error:
        raise UsageError(str(error)) from error
    try:
        adopted = onnxadopt.adopt(
            file.name,
            data,
            features=spec.schema.names,
            classes=spec.schema.classes,
            output=spec.model.output,
            kind=spec.model.output_kind,
        )
    except OnnxError as error:
        raise UsageError(f"{file.name} does not fit [model] of {model}: {error}") from error
    sha256 = sha256_of_bytes(adopted.data)
    if sha256 == incumbent.sha256:
        raise RegistryError(
            f"{file.name} has the very bytes of {model} {incumbent.version}, which serves already:"
            " there is nothing to add"
        )
    if taken is not None and taken.sha256 != sha256:
        raise RegistryUsageError(f"{model} has a version {version} with other bytes already")
    told = {gate: f"{actor}: {reason}" for gate, reason in (waived or {}).items()}
    folder = settings.jobs_folder / f"added-{model}-{sha256[:12]}-{uuid.uuid4().hex[:6]}"
    try:
        external_package.fill_folder(
            folder,
            spec,
            settings,
            made_here=job_spec.roles_made_here(incumbent, earlier),
            releases=tuple(v.version for v in earlier),
            waived=told,
            parent=incumbent.version,
        )
        layout = RepositoryLayout(settings.root)
        restore(layout, model, incumbent.files, folder / "incumbent", names={"model.onnx"})
        for n, release in enumerate(earlier, start=1):
            place = folder / "best" / str(n)
            restore(layout, model, release.files, place, names={"model.onnx"})
        (folder / "added").mkdir()
        (folder / "added" / "model.onnx").write_bytes(adopted.data)
        if not trusted_only:
            _fill_fresh(folder, spec, incumbent, sha256, database)
        with start() as child:
            report = child.run(folder, deadline_s=settings.child_seconds).report
        if isinstance(report.decision, Undecidable | NeedsPerson):
            return ExternalVersion(report=report, version=None)
        passed = isinstance(report.decision, Accepted)
        package = external_package.build(
            folder,
            spec,
            settings,
            report,
            version=version,
            kind="added",
            now=now,
            predecessor=incumbent.version,
        )
        profile = _profile(
            folder / "candidate" / "reference_rows.parquet", model, version, spec.schema
        )
        base = _base_error(report)
        expected = None if base is None else read_expected_error(folder, spec, version)
    except (ChildFailed, CompressError) as error:
        raise ReleaseError(f"{file.name} cannot be judged: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    with database.begin() as conn:
        row = versions.add_version(
            conn,
            package,
            report=to_json(report),
            gate_passed=passed,
            trigger=Trigger(kind="actor", id=actor),
            actor=actor,
            now=now,
            profile=profile,
            base_error=base,
            expected_error=expected,
        )
        if told:
            body = {"version": version, "waived": told}
            audit.append(conn, actor, "release.gates_waived", model, body, now)
    return ExternalVersion(report=report, version=row)


def as_good(report: Report) -> str | None:
    """What it takes to be as good as what serves, where trusted rows did not let a version pass;
    ``None``: they did, or there are none to compare on."""
    gate = next((g for g in report.gates if g.name == "trusted" and g.passed is not True), None)
    paired = report.trusted
    if gate is None or paired is None or gate.limit is None or not gate.limit < 0:
        return None
    n, margin = paired.wins + paired.losses + paired.ties, -gate.limit
    differing = (paired.wins + paired.losses) / n
    told = (
        f"as good as what serves is a version that surely loses less than {margin:g} points on"
        " trusted rows"
    )
    if gate.passed is False and gate.high is not None:
        told += f"; this one has to win back {-margin - gate.high:.1f} points at least"
    need = rows_to_show(differing, margin / 100.0)
    if need is not None:
        told += (
            f"; one that is right as often and differs on {differing:.1%} of the rows shows it with"
            f" about {need:,} of them, and {n:,} are registered (a fifth only ranks)"
        )
    copy = rows_to_show(0.0, margin / 100.0)
    return told if copy is None else f"{told}; no version does with less than {copy:,}"


def why(report: Report, *, again: str = "redistill add MODEL VERSION FILE") -> str:
    """The decision of a report in words.

    ``again`` is the command that judges the file again.
    """
    match report.decision:
        case Accepted():
            return "every gate passed"
        case Rejected(reasons=reasons):
            return "; ".join(reasons)
        case Undecidable(gate=gate, have=have, need=need, why=text):
            more = "" if need is None else f", about {need} would decide"
            return f"{gate} is undecided with {have} rows{more}: {text}"
        case NeedsPerson() as missing:
            return question(
                report,
                missing,
                model=report.model,
                serving="the version",
                again=again,
            )
        case None:
            return "the report decides nothing"


def _known(conn: sa.Connection, model: str) -> tuple[ModelSpec, str, Version]:
    """Specification, its hash as it is stored, and what serves."""
    versions.want_releases(conn, model)
    text = conn.execute(sa.select(specs.c.spec).where(specs.c.model == model)).scalar_one()
    stable = conn.execute(
        sa.select(pointers.c.stable).where(pointers.c.model == model)
    ).scalar_one_or_none()
    if stable is None:
        raise RegistryError(
            f"{model} serves nothing yet that a version could be compared with: register it again"
        )
    serving = versions.get(conn, model, stable)
    return ModelSpec.from_json(text), trail.text_sha256(text), serving


def _fill_fresh(
    folder: Path, spec: ModelSpec, incumbent: Version, sha256: str, database: Database
) -> None:
    """Labelled rows that the incumbent served; half of them, drawn by hash, as for every gate."""
    query = training_window.WindowQuery(
        model=spec.name,
        version=incumbent.version,
        features=spec.schema.names,
        salt=sha256,
        train_rows=0,
        since=None,
        last_rows=spec.repair.fresh_rows,
    )
    with database.read() as conn:
        window = training_window.read(conn, query)
    if window.counts["gate_labelled"]:
        training_window.write(window, folder / "fresh.parquet")


def _base_error(report: Report) -> str | None:
    """The version's error on trusted rows, which it was never trained on as far as we know."""
    accuracy = report.variants[0].trusted_accuracy if report.variants else None
    if accuracy is None or not accuracy.n:
        return None
    wrong = min(accuracy.n, round((1.0 - accuracy.value) * accuracy.n))
    errors = np.repeat(np.array([1, 0], np.uint8), [wrong, accuracy.n - wrong])
    return BaseError.from_errors(errors, ordered=False).to_json()


def _profile(path: Path, model: str, version: str, schema: Schema) -> bytes:
    """What is normal for the version: the reference rows, with what it answers to them."""
    table = pq.read_table(path)
    columns = [table[column_of(name)].to_numpy().astype(np.float32) for name in schema.names]
    scores = np.asarray(table["scores"].combine_chunks().flatten(), np.float32)
    block = PredictionBlock(
        model=model,
        version=version,
        ids=[str(i) for i in range(len(table))],
        served_at=np.zeros(len(table), np.int64),
        feature_names=schema.names,
        features=np.stack(columns, axis=1),
        prediction=Codes.of(table["prediction"].to_pylist()),
        scores=scores.reshape(len(table), len(schema.classes)),
    )
    return build_profile(block, schema).to_bytes()

"""Gates of a pair of files: a candidate against the model that serves, on labelled rows of a file.

No broker, no database, nothing that is kept: the same judgement as of ``redistill add``, in a
folder that goes when it is done. The models are first run in a limited child process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from redistill import onnxadopt, onnxclasses, onnxfile, onnxtrial
from redistill.compress import pipeline
from redistill.compress.errors import CompressError
from redistill.compress.judge.intervals import wilson
from redistill.compress.plan import JobSpec, Report, to_json
from redistill.files import sha256_of_bytes
from redistill.onnxadopt import AdoptedGraph
from redistill.onnxports import OnnxError
from redistill.rowcsv import RowFileError
from redistill.rowfiles import open_rows
from redistill.streams.wire.block import Schema
from redistill.workers.errors import SpecError, UsageError
from redistill.workers.models import dataset, inferred_schema, scoring
from redistill.workers.models.dataset import Dataset
from redistill.workers.models.gate_policy import GatePolicy
from redistill.workers.models.scoring import ScoringCall
from redistill.workers.models.spec import ModelSection, ModelSpec

__all__ = ["REPEATED_LOOKS", "JudgedPair", "judge"]

REPEATED_LOOKS = (
    "Judged again on the same rows, this or another candidate takes a repeated look: the error"
    " rates of the gates hold for the first look at these rows, and the best of several candidates"
    " passes more often than that. Keep rows that no choice has seen for the last look."
)
PROBED_ROWS = 1_024
"""Rows on which the kind of the outputs is found."""
MEMORY_MB, SECONDS = 4_096, 120.0
"""Limits of the child in which the files are first run."""
DEADLINE_SECONDS = 3_600.0
ROLES = {"candidate": "added", "baseline": "incumbent"}
"""Which folder of the job each file goes to."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedPair:
    """What was found."""

    report: Report
    sha256: Mapping[str, str]
    """Of the files as they were given: ``candidate``, ``baseline``; of the rows as they were
    read: ``data``."""
    notes: tuple[str, ...]
    """What was assumed or changed, and warnings, a sentence each."""


def judge(
    candidate: Path, baseline: Path, data: Path, *, policy: GatePolicy, label: str | None = None
) -> JudgedPair:
    """Judge a candidate against what serves.

    Parameters
    ----------
    candidate, baseline
        ONNX files.
    data
        Labelled rows that neither was trained on: a Parquet or CSV file, or a folder of such.
    policy
        What is asked; and how the models are called, where that is declared.
    label
        Column of the labels; ``None``: as the policy says (``label``).

    Raises
    ------
    UsageError
        A file cannot be used, or they do not fit each other; the message says what to do.
    """
    files = {"baseline": baseline, "candidate": candidate}
    given = {role: _read(role, path) for role, path in files.items()}
    spec = policy.spec
    if label is not None:
        spec = replace(spec, data=replace(spec.data, label=label))
    schema = policy.schema
    notes: tuple[str, ...] = ()
    if schema is None:
        schema, notes = _inferred(given, files, data, spec.data.label)
    spec = replace(spec, level="rollback", schema=schema)
    rows = _rows(data, spec)
    adopted, kinds, right = _adopted(files, given, spec, rows, told=policy.kind_is_told)
    if policy.schema is None:
        notes += _unlearned(right, rows, spec.schema)
    notes += tuple(f"{role}: {told}" for role, graph in adopted.items() for told in graph.changes)
    with tempfile.TemporaryDirectory(prefix="redistill-gate-") as scratch:
        folder = Path(scratch)
        parquet = rows.to_parquet(spec)
        for name in ("trusted", "reference"):
            (folder / f"{name}.parquet").write_bytes(parquet)
        for role, graph in adopted.items():
            place = folder / ROLES[role]
            place.mkdir()
            (place / "model.onnx").write_bytes(graph.data)
        (folder / "job.json").write_bytes(to_json(_job(spec, kinds)))
        try:
            report = pipeline.run(folder)
        except CompressError as error:
            raise UsageError(_named(str(error), files, data)) from error
    return JudgedPair(
        report=report,
        sha256={role: sha256_of_bytes(content) for role, content in given.items()}
        | {"data": sha256_of_bytes(parquet)},
        notes=tuple(dict.fromkeys((*notes, *rows.warnings, *report.warnings))),
    )


def _read(role: str, path: Path) -> bytes:
    """A file's bytes, checked without running it."""
    try:
        if path.is_dir():
            raise OnnxError(f"{path} is a folder: name the ONNX file in it")
        data = onnxfile.read(path)
        onnxtrial.try_large(path.name, data)
        onnxfile.check_bytes(path.name, data)
    except OnnxError as error:
        raise UsageError(f"the {role} cannot be used: {error}") from error
    return data


def _inferred(
    given: Mapping[str, bytes], files: Mapping[str, Path], data: Path, label: str
) -> tuple[Schema, tuple[str, ...]]:
    told = {role: onnxclasses.class_names(files[role].name, given[role]) for role in given}
    named = {role: classes for role, classes in told.items() if classes}
    if len(set(named.values())) > 1:
        raise UsageError(
            f"the files name other classes: the baseline {list(told['baseline'])}, the candidate"
            f" {list(told['candidate'])}; export the candidate with the classes of what serves, in"
            " their order"
        )
    inputs = onnxfile.check_bytes(files["baseline"].name, given["baseline"]).inputs
    try:
        file = open_rows(data)
        return inferred_schema.infer(
            inputs, file, label=label, classes=next(iter(named.values()), ())
        )
    except RowFileError as error:
        raise UsageError(f"--data: {error}") from error


def _rows(path: Path, spec: ModelSpec) -> Dataset:
    rows, problems = dataset.read(path, spec, "trusted", need_labels=True)
    if rows is None:
        raise UsageError(
            "the rows cannot be used:" + "".join(f"\n  {_named(p, {}, path)}" for p in problems)
        )
    return replace(rows, warnings=tuple(w.removeprefix("trusted: ") for w in rows.warnings))


def _adopted(
    files: Mapping[str, Path],
    given: Mapping[str, bytes],
    spec: ModelSpec,
    rows: Dataset,
    *,
    told: bool,
) -> tuple[dict[str, AdoptedGraph], dict[str, str], tuple[int, int]]:
    """Both graphs in the form in which they are called; what their outputs are: as declared, else
    as their answers show; and on how many rows the baseline is right, of how many."""
    kinds: dict[str, str] = dict.fromkeys(files, spec.model.output_kind)
    assert rows.labels is not None, "rows without labels are refused"
    labelled = np.flatnonzero(rows.labels >= 0)
    probed = labelled[:: max(1, len(labelled) // PROBED_ROWS)]
    first, labels = rows.features[probed], rows.labels[probed]
    while True:
        adopted = {
            role: _adopt(role, path, given[role], spec, kinds[role]) for role, path in files.items()
        }
        calls = [
            ScoringCall(
                path=files[role],
                place=role,
                layout=graph.layout,
                output=graph.output,
                kind=kinds[role],
                data=graph.data,
            )
            for role, graph in adopted.items()
        ]
        try:
            answers = scoring.answers(
                [(call, first) for call in calls],
                classes=len(spec.schema.classes),
                memory_mb=MEMORY_MB,
                seconds=SECONDS,
            )
        except SpecError as error:
            role = next((r for r in files if str(error).startswith(f"{r} = ")), None)
            other = 'output_kind must be "probabilities"' in str(error)
            if told or role is None or not other or kinds[role] == "probabilities":
                raise UsageError(str(error)) from error
            kinds[role] = "probabilities"
            continue
        break
    best = scoring.most_likely(answers[0])
    try:  # a candidate in another order is a bad one, which the gates say
        scoring.check_order("baseline", best, labels, spec.schema.classes)
    except SpecError as error:
        raise UsageError(str(error)) from error
    return adopted, kinds, (int((best == labels).sum()), len(labels))


def _adopt(role: str, path: Path, data: bytes, spec: ModelSpec, kind: str) -> AdoptedGraph:
    try:
        return onnxadopt.adopt(
            path.name,
            data,
            features=spec.schema.names,
            classes=spec.schema.classes,
            output=spec.model.output,
            kind=kind,
        )
    except OnnxError as error:
        raise UsageError(f"the {role} does not fit the rows: {error}") from error


def _unlearned(right: tuple[int, int], rows: Dataset, schema: Schema) -> tuple[str, ...]:
    """A warning where nobody declared the features and the baseline knows nothing of the labels:
    two models that are called with the wrong columns are equally good."""
    assert rows.labels is not None, "rows without labels are refused"
    counts = np.bincount(rows.labels[rows.labels >= 0], minlength=len(schema.classes))
    always, (hits, of) = counts.max() / counts.sum(), right
    if wilson(hits / of, of)[0] > always:
        return ()
    name = schema.classes[int(counts.argmax())]
    return (
        f"WARNING: the baseline is right on {hits / of:.1%} of the rows, and always saying {name!r}"
        f" on {always:.1%}: look whether the columns stand in the order in which the models were"
        " trained, and whether these are its labels; [schema] of the policy (--policy) fixes it",
    )


def _job(spec: ModelSpec, kinds: Mapping[str, str]) -> JobSpec:
    logits = tuple(ROLES[role] for role, kind in kinds.items() if kind == "logits")
    both = len(set(kinds.values())) == 1
    model = ModelSection(
        output=spec.model.output,
        output_kind="logits" if len(logits) == len(kinds) else "probabilities",
        costs=spec.model.costs,
    )
    return JobSpec(
        job_id="gate",
        model=spec.name,
        mode="baseline",
        trigger="actor",
        graph=replace(spec, model=model).graph(),
        made_here=() if both else logits,  # these are read as logits whatever is declared
        policy=spec.policy(),
        serving_batch=spec.serving.batch,
        tolerance_points=spec.watch.tolerance_points,
        deadline_s=DEADLINE_SECONDS,
    )


def _named(text: str, files: Mapping[str, Path], data: Path) -> str:
    """A message of a job in the words of whoever named the files."""
    text = text.replace(f"[data] trusted = {str(data)!r}", f"--data {data}")
    text = text.replace("([data] label names their column)", "(--labels names their column)")
    for role, path in files.items():
        file = f"the {role} {path}"
        text = text.replace(f"{ROLES[role]}: model.onnx", file)
        text = text.replace(f"{ROLES[role]}/model.onnx", file)
    return text.replace("trusted.parquet", str(data))

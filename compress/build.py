"""Building of candidates: logits, training, export, quantization, each a resumable step."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from redistill.compress import data, rows
from redistill.compress.data import PreparedRows
from redistill.compress.errors import BadData, BadModel
from redistill.compress.folder import JobContext, environment
from redistill.compress.judge import measures
from redistill.compress.judging import TrainingFacts, read_facts
from redistill.compress.shrink import calibrate, distill, export, quantize, students
from redistill.compress.shrink.trained import ARCHITECTURE_FILE, Architecture, default_architecture
from redistill.compress.steps import array_key, key_of
from redistill.files import sha256_of, sha256_of_tree

__all__ = ["Candidates", "build", "one_thread", "warm"]

SCRATCH_EPOCHS, SCRATCH_REPLAY = 2, 4.0
"""Without a warm start: times the epochs, and replay rows per fresh row at least."""
GOLDEN_ROWS = 64
"""Training rows on which the exported graph must answer what torch answers, and one row of missing
values."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Candidates:
    """Candidates and how they came about."""

    variants: dict[str, Path]
    """Name -> ONNX file; ``fp32`` always among them, the others are made from it."""
    training: Path
    """Folder with the student's architecture and weights."""
    facts: TrainingFacts
    trained: NDArray[np.uint64]
    """Digests of every row that was trained on."""


def build(
    context: JobContext, fresh: rows.Rows, reference: rows.Rows, trusted: rows.Rows
) -> tuple[Candidates, PreparedRows]:
    """Make the candidates of a job.

    Raises
    ------
    BadData, BadModel, BadJob, DeadlineExceeded
        It could not be done.
    """
    job, steps = context.job, context.steps
    warm = context.folder / "incumbent" / "training"
    scratch = not (warm / ARCHITECTURE_FILE).is_file()
    training = job.training
    if scratch:
        context.warnings.append(
            "the incumbent brings no training folder: a built-in student of layers"
            f" {list(training.hidden)} is distilled from scratch"
        )
        training = replace(
            training,
            epochs=training.epochs * SCRATCH_EPOCHS,
            replay_ratio=max(training.replay_ratio, SCRATCH_REPLAY),
        )
    prepared = data.prepare(replace(job, training=training), fresh, reference, trusted)
    context.warnings += prepared.warnings

    x = prepared.train_x
    labels, weights = _labels(context, prepared)
    logits = _teacher_logits(context, x) if labels is None or training.kd_weight > 0 else None
    epoch = prepared.schedule(training.replay_ratio, training.max_repeats)
    x = x[epoch]
    labels = None if labels is None else labels[epoch]
    weights = None if weights is None else weights[epoch]
    logits = None if logits is None else logits[epoch]

    student = _start(context, x, scratch=scratch)
    key = key_of(
        "train",
        environment()["torch"],
        array_key(x),
        None if logits is None else array_key(logits),
        None if labels is None else array_key(labels),
        None if weights is None else array_key(weights),
        training,
        job.seed,
        student.architecture,
        None if scratch else sha256_of_tree(warm),
    )

    def train(out: Path) -> None:
        def check(share: float) -> None:
            context.deadline.check("train")
            steps.progress("train", share)

        distill.distill(
            student,
            x,
            logits,
            labels,
            training=training,
            seed=job.seed,
            weights=weights,
            check=check,
        )
        students.arrays(student).save(out)

    folder = steps.make("train", key, train)
    variants = _variants(context, folder, prepared)
    facts, trained = _facts(context, prepared, key)
    return Candidates(variants=variants, training=folder, facts=facts, trained=trained), prepared


def _labels(
    context: JobContext, prepared: PreparedRows
) -> tuple[NDArray[np.int64] | None, NDArray[np.float32] | None]:
    """Labels and weights of the training rows, or nothing where the teacher alone teaches."""
    job = context.job
    if job.train_on == "teacher":
        return None, None
    replay = prepared.replay
    if len(replay) and not replay.labelled.all():
        if not context.path("teacher").is_file():
            raise BadData(
                "reference.parquet has rows without labels, and there is no teacher to label them:"
                " training on labels needs one or the other"
            )
        missing = int((~replay.labelled).sum())
        context.warnings.append(f"{missing} replay rows have no label and got their teacher's")
        replay = data.with_labels(replay, context.graph("teacher").classes(replay.x))
    labels = np.concatenate([prepared.train.y, replay.y])
    weights = np.concatenate([prepared.train.weight, np.ones(len(replay), np.float32)])
    return labels, weights / weights.mean()


def _teacher_logits(context: JobContext, x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The teacher's answers, made once per teacher and rows."""
    teacher = context.graph("teacher")
    key = key_of("logits", sha256_of(context.path("teacher")), teacher.call, array_key(x))

    def make(out: Path) -> None:
        logits = teacher.logits(x)
        if not np.isfinite(logits).all():
            bad = int((~np.isfinite(logits).all(axis=1)).sum())
            raise BadModel(
                f"the teacher answers NaN or infinity on {bad} of {len(x)} training rows; missing"
                " values (NaN) and unseen categories (-1) must be handled inside its graph"
            )
        np.save(out, logits)

    path = context.steps.make("teacher_logits", key, make, suffix=".npy")
    out: NDArray[np.float32] = np.load(path, allow_pickle=False)
    return out


def _start(context: JobContext, x: NDArray[np.float32], *, scratch: bool) -> students.Mlp:
    """The incumbent's student, or a new one that has seen the inputs' scales."""
    job = context.job
    inputs, outputs = len(job.graph.features), len(job.graph.classes)
    if scratch:
        student = students.build(
            default_architecture(
                inputs,
                outputs,
                hidden=job.training.hidden,
                categories=data.categories(job.graph),
            ),
            seed=job.seed,
        )
        student.fit_inputs(x)
        return student
    student = students.load(context.folder / "incumbent" / "training")
    a = student.architecture
    if (a.inputs, a.outputs) != (inputs, outputs):
        raise BadModel(
            f"incumbent/training/{ARCHITECTURE_FILE} has {a.inputs} inputs and"
            f" {a.outputs} outputs, the model has {inputs} features and {outputs} classes"
        )
    return student


def _variants(context: JobContext, training: Path, prepared: PreparedRows) -> dict[str, Path]:
    job, steps, versions = context.job, context.steps, environment()
    key = key_of("export", sha256_of_tree(training), export.OPSET, versions["onnx"])

    def to_onnx(out: Path) -> None:
        student = students.load(training)
        export.to_onnx(students.arrays(student), out)
        some = np.concatenate(
            [prepared.train_x[:GOLDEN_ROWS], _nothing(student.architecture.inputs)]
        )
        export.compare(out, some, distill.predict_logits(student, some))

    fp32 = steps.make("export", key, to_onnx, suffix=".onnx")
    variants = {"fp32": fp32}
    made_from = (sha256_of(fp32), versions["onnxruntime"], quantize.OPERATORS)
    if "static_int8" in job.candidates:
        some = calibrate.calibration_rows(prepared.train.x, prepared.replay.x, seed=job.seed)
        variants["static_int8"] = steps.make(
            "static_int8",
            key_of("static_int8", made_from, array_key(some)),
            lambda out: quantize.static_int8(fp32, out, some),
            suffix=".onnx",
        )
    if "dynamic_int8" in job.candidates:
        variants["dynamic_int8"] = steps.make(
            "dynamic_int8",
            key_of("dynamic_int8", made_from),
            lambda out: quantize.dynamic_int8(fp32, out),
            suffix=".onnx",
        )
    return variants


def _facts(
    context: JobContext, prepared: PreparedRows, train_key: str
) -> tuple[TrainingFacts, NDArray[np.uint64]]:
    """Write what mode ``gate`` has to know later, when these rows are gone."""
    job = context.job
    by_labels = job.train_on == "labels"

    def make(out: Path) -> None:
        auc = None
        if by_labels:
            here = np.concatenate([prepared.train.x, prepared.gate.x])
            fill = _fill(prepared.trusted.x)
            auc = measures.domain_auc(
                data.encode(here, job.graph, fill),
                data.encode(prepared.trusted.x, job.graph, fill),
                seed=job.seed,
            )
        sources = {s for s in prepared.train.source if s is not None} if by_labels else set()
        facts = TrainingFacts(
            counts=prepared.counts,
            labels_in_loss=by_labels,
            training_sources=tuple(sorted(sources)),
            domain_auc=auc,
            warnings=tuple(context.warnings),
        )
        out.mkdir(exist_ok=True)
        (out / "facts.json").write_bytes(msgspec.json.encode(facts, order="sorted"))
        np.save(out / "trained.npy", np.unique(data.digests(prepared.train_x)))

    key = key_of("facts", train_key, array_key(prepared.gate.x), array_key(prepared.trusted.x))
    path = context.steps.make("facts", key, make)
    return read_facts(path)


def _nothing(inputs: int) -> NDArray[np.float32]:
    """A row of missing values, ``(1, inputs)``."""
    return np.full((1, inputs), np.nan, np.float32)


def _fill(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Median of each column, 0 where a column has no value."""
    out = np.zeros(x.shape[1], np.float32)
    has = ~np.isnan(x).all(axis=0)
    out[has] = np.nanmedian(x[:, has], axis=0)
    return out


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch to one thread: repeatable sums, and no fight for two shared cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def warm() -> None:
    """Load what the first repair of a process would otherwise wait for."""
    with one_thread(), tempfile.TemporaryDirectory() as scratch:
        path, out = Path(scratch) / "a.onnx", Path(scratch) / "b.onnx"
        student = students.build(Architecture(inputs=2, hidden=(2,), outputs=2))
        export.to_onnx(students.arrays(student), path)
        quantize.dynamic_int8(path, out)

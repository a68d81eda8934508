"""Building of candidates: weights, export, quantization, each a resumable step."""

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

from redistill.compress import data, recalibrate, recipes, rows, weights
from redistill.compress.data import PreparedRows
from redistill.compress.folder import JobContext, environment
from redistill.compress.judge import measures
from redistill.compress.judging import TrainingFacts, read_facts
from redistill.compress.plan import Measure
from redistill.compress.shrink import calibrate, distill, export, quantize, students
from redistill.compress.shrink.trained import Architecture
from redistill.compress.steps import array_key, key_of
from redistill.files import sha256_of, sha256_of_tree

__all__ = ["Candidates", "build", "one_thread", "warm"]

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
    recipe = context.recipe
    if recipe != recipes.named(context.job):
        context.warnings.append(
            "the incumbent brings no training folder: a built-in student is distilled from scratch"
        )
    training = weights.training_of(recipe, context.job.training)
    prepared = data.prepare(replace(context.job, training=training), fresh, reference, trusted)
    context.warnings += prepared.warnings
    made = weights.MAKERS[recipe](context, prepared, training)
    raw = _variants(context, made.folder, prepared)
    variants, temperatures = recalibrate.recalibrated(context, raw, prepared)
    facts, trained = _facts(context, prepared, temperatures, made.key)
    return (
        Candidates(variants=variants, training=made.folder, facts=facts, trained=trained),
        prepared,
    )


def _variants(context: JobContext, training: Path, prepared: PreparedRows) -> dict[str, Path]:
    """The student's graphs, with its scores as it learned them."""
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
    context: JobContext,
    prepared: PreparedRows,
    temperatures: dict[str, Measure],
    train_key: str,
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
            temperatures=temperatures,
        )
        out.mkdir(exist_ok=True)
        (out / "facts.json").write_bytes(msgspec.json.encode(facts, order="sorted"))
        np.save(out / "trained.npy", np.unique(data.digests(prepared.train_x)))

    key = key_of(
        "facts",
        train_key,
        array_key(prepared.gate.x),
        array_key(prepared.trusted.x),
        temperatures,
    )
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

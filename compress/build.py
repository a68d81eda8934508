"""Building of candidates: weights, export, quantization, each a resumable step."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from redistill.compress import data, recalibrate, recipes, rows, weights
from redistill.compress.data import PreparedRows
from redistill.compress.documents import lineage
from redistill.compress.folder import JobContext, environment
from redistill.compress.judge import measures
from redistill.compress.judging import TrainingFacts, read_facts, save_facts
from redistill.compress.plan import DataSource, Measure
from redistill.compress.shrink import calibrate, export, quantize, quantizers, students
from redistill.compress.shrink.families import FAMILIES
from redistill.compress.shrink.quantizers import FP32, QUANTIZERS
from redistill.compress.shrink.trained import Architecture
from redistill.compress.steps import array_key, key_of
from redistill.compress.weights import Weights
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
    training: Path | None
    """Folder with what the student has learned; ``None``: nobody can go on with it."""
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
    made = weights.made(context, prepared, training)
    family = FAMILIES[made.family]
    asked = quantizers.asked(context.job.candidates, family.quantizers)
    raw = _variants(context, made, asked, prepared)
    variants, temperatures = recalibrate.recalibrated(context, raw, prepared)
    facts, trained = _facts(context, prepared, temperatures, made, asked)
    return (
        Candidates(
            variants=variants,
            training=made.folder if family.warm else None,
            facts=facts,
            trained=trained,
        ),
        prepared,
    )


def _variants(
    context: JobContext, made: Weights, asked: Sequence[str], prepared: PreparedRows
) -> dict[str, Path]:
    """The student's graphs, with its scores as it learned them."""
    steps, versions = context.steps, environment()
    key = key_of("export", made.family, sha256_of_tree(made.folder), export.OPSET, versions["onnx"])

    def to_onnx(out: Path) -> None:
        x = prepared.train_x
        some = np.concatenate([x[:GOLDEN_ROWS], _nothing(x.shape[1])])
        FAMILIES[made.family].maker().to_onnx(made.folder, out, some)

    fp32 = steps.make("export", key, to_onnx, suffix=".onnx")
    variants = {FP32: fp32}
    made_from = (sha256_of(fp32), versions["onnxruntime"], quantize.OPERATORS)
    rows = calibrate.calibration_rows(prepared.train.x, prepared.replay.x, seed=context.job.seed)
    for name in asked:
        quantizer = QUANTIZERS[name]
        if (make := quantizer.make) is not None:
            variants[name] = steps.make(
                name,
                key_of(name, made_from, *([array_key(rows)] if quantizer.needs_rows else [])),
                partial(_quantized, make, fp32, rows),
                suffix=".onnx",
            )
    return variants


def _quantized(
    make: Callable[[Path, Path, NDArray[np.float32]], None],
    fp32: Path,
    rows: NDArray[np.float32],
    out: Path,
) -> None:
    make(fp32, out, rows)


def _facts(
    context: JobContext,
    prepared: PreparedRows,
    temperatures: dict[str, Measure],
    made: Weights,
    asked: tuple[str, ...],
) -> tuple[TrainingFacts, NDArray[np.uint64]]:
    """Write what mode ``gate`` has to know later, when these rows are gone."""
    job = context.job
    by_labels = job.train_on == "labels"
    sources = _sources(context.folder)

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
        teachers = {s for s in prepared.train.source if s is not None} if by_labels else set()
        facts = TrainingFacts(
            counts=prepared.counts,
            labels_in_loss=by_labels,
            training_sources=tuple(sorted(teachers)),
            domain_auc=auc,
            warnings=tuple(context.warnings),
            temperatures=temperatures,
            candidates=asked,
            family=made.family,
            sources=sources,
        )
        save_facts(out, facts, np.unique(data.digests(prepared.train_x)))

    key = key_of(
        "facts",
        made.key,
        asked,
        array_key(prepared.gate.x),
        array_key(prepared.trusted.x),
        temperatures,
        sources,
    )
    path = context.steps.make("facts", key, make)
    return read_facts(path)


def _sources(folder: Path) -> tuple[DataSource, ...]:
    """What the rows of the training were taken from."""
    named = {"fresh": "window, its training rows", "reference": "pool, a draw of it for replay"}
    found = [lineage.source(role, folder / f"{name}.parquet") for name, role in named.items()]
    return tuple(s for s in found if s is not None)


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

"""Weights of a candidate, by recipe: learned from nothing, learned on, or taken as they are. A step
each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from redistill.compress import data
from redistill.compress.data import PreparedRows
from redistill.compress.errors import BadData, BadModel
from redistill.compress.folder import JobContext, environment
from redistill.compress.judge.gates import size
from redistill.compress.plan import Training
from redistill.compress.recipes import RECIPES
from redistill.compress.shrink import trained
from redistill.compress.shrink.families import FAMILIES
from redistill.compress.shrink.lesson import Lesson, Wanted
from redistill.compress.shrink.quantizers import FP16
from redistill.compress.shrink.trained import ARCHITECTURE_FILE, Trained
from redistill.compress.steps import array_key, key_of
from redistill.files import sha256_of, sha256_of_tree

__all__ = ["Weights", "made", "training_of"]

SCRATCH_EPOCHS, SCRATCH_REPLAY = 2, 4.0
"""Without a warm start: times the epochs, and replay rows per fresh row at least."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """A student as files."""

    folder: Path
    """What it has learned, as its family writes it."""
    key: str
    """Hash of all that determines it."""
    family: str
    """Name of its family."""


def training_of(recipe: str, training: Training) -> Training:
    """How a recipe trains: from scratch takes longer, and more of what was known before."""
    if RECIPES[recipe].warm:
        return training
    return replace(
        training,
        epochs=training.epochs * SCRATCH_EPOCHS,
        replay_ratio=max(training.replay_ratio, SCRATCH_REPLAY),
    )


def made(context: JobContext, prepared: PreparedRows, training: Training) -> Weights:
    """The student of the recipe whose turn it is.

    Raises
    ------
    BadData, BadModel, DeadlineExceeded
        It could not be done.
    """
    recipe = RECIPES[context.recipe]
    if recipe.step == "weights":
        return _kept(context, prepared)
    if recipe.warm:
        return _gone_on(context, prepared, training)
    return _from_nothing(context, prepared, training, recipe.family)


def _gone_on(context: JobContext, prepared: PreparedRows, training: Training) -> Weights:
    """The student that serves learns the fresh rows."""
    served, name = _served(context), _serving(context).architecture.kind
    begun = sha256_of_tree(served)
    family = FAMILIES[name]

    def fit(lesson: Lesson, out: Path) -> None:
        family.maker().fit_again(served, lesson, out)

    return _taught(context, prepared, training, name, fit, begun)


def _from_nothing(
    context: JobContext, prepared: PreparedRows, training: Training, name: str
) -> Weights:
    """A new student learns everything."""
    graph = context.job.graph
    most, why = _largest(context)
    maker = FAMILIES[name].maker()
    shape, cut = maker.sized(
        Wanted(
            inputs=len(graph.features),
            outputs=len(graph.classes),
            categories=data.categories(graph),
            most_bytes=most,
            weight_bytes=2 if FP16 in context.job.candidates else 4,
            training=training,
        )
    )
    if cut:
        context.warnings.append(f"the built-in student has {cut}: {why}")

    def fit(lesson: Lesson, out: Path) -> None:
        maker.fit(shape, lesson, out)

    return _taught(context, prepared, training, name, fit, shape)


def _largest(context: JobContext) -> tuple[float, str]:
    """How large a candidate may be, and by what: gate ``size`` refuses more."""
    bytes_of = {
        role: path.stat().st_size if (path := context.path(role)).is_file() else None
        for role in ("incumbent", "teacher")
    }
    limits = size.allowed(
        context.policy["size"], incumbent=bytes_of["incumbent"], teacher=bytes_of["teacher"]
    )
    return min(limits, default=(float("inf"), ""))


def _kept(context: JobContext, prepared: PreparedRows) -> Weights:
    """The weights stay as they are: what is made of them is calibrated with fresh rows."""
    student = _serving(context)
    key = key_of("weights", sha256_of_tree(_served(context)))
    folder = context.steps.make("weights", key, student.save)
    # which rows calibrate belongs to what is known of the candidate, though no weight hangs on it
    key = key_of(key, array_key(prepared.train_x))
    return Weights(folder=folder, key=key, family=student.architecture.kind)


def _served(context: JobContext) -> Path:
    return context.folder / "incumbent" / "training"


def _serving(context: JobContext) -> Trained:
    """The student that serves.

    Raises
    ------
    BadModel
        It is not one of this model.
    """
    graph = context.job.graph
    student = trained.read(_served(context))
    a, inputs, outputs = student.architecture, len(graph.features), len(graph.classes)
    if (a.inputs, a.outputs) != (inputs, outputs):
        raise BadModel(
            f"incumbent/training/{ARCHITECTURE_FILE} has {a.inputs} inputs and"
            f" {a.outputs} outputs, the model has {inputs} features and {outputs} classes"
        )
    return student


def _taught(
    context: JobContext,
    prepared: PreparedRows,
    training: Training,
    family: str,
    fit: Callable[[Lesson, Path], None],
    begun: object,
) -> Weights:
    """Have a student learn; ``begun`` is all that determines it before it does."""
    job, steps = context.job, context.steps
    x = prepared.train_x
    labels = _labels(context, prepared)
    logits = _teacher_logits(context, x) if labels is None or training.kd_weight > 0 else None
    epoch = prepared.schedule(training.replay_ratio, training.max_repeats)

    def check(share: float) -> None:
        context.deadline.check("train")
        steps.progress("train", share)

    lesson = Lesson(
        x=x[epoch],
        labels=None if labels is None else labels[epoch],
        logits=None if logits is None else logits[epoch],
        training=training,
        seed=job.seed,
        check=check,
    )
    key = key_of(
        "train",
        family,
        [environment()[library] for library in FAMILIES[family].libraries],
        array_key(lesson.x),
        None if lesson.logits is None else array_key(lesson.logits),
        None if lesson.labels is None else array_key(lesson.labels),
        training,
        job.seed,
        begun,
    )
    folder = steps.make("train", key, lambda out: fit(lesson, out))
    return Weights(folder=folder, key=key, family=family)


def _labels(context: JobContext, prepared: PreparedRows) -> NDArray[np.int64] | None:
    """Labels of the training rows, or nothing where the teacher alone teaches."""
    job = context.job
    if job.train_on == "teacher":
        return None
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
    return np.concatenate([prepared.train.y, replay.y])


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

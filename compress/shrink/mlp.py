"""Family of perceptrons over tables: sized, trained, trained on, exported; in torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from redistill.compress.shrink import distill, export, students, widths
from redistill.compress.shrink.lesson import Lesson, Wanted
from redistill.compress.shrink.trained import Architecture, default_architecture

__all__ = ["fit", "fit_again", "sized", "to_onnx"]


def sized(wanted: Wanted) -> tuple[Architecture, str]:
    """The built-in student as asked for, or narrower where its file would be too large to serve."""
    asked = default_architecture(
        wanted.inputs,
        wanted.outputs,
        hidden=wanted.training.hidden,
        categories=wanted.categories,
    )
    found = widths.fitting(asked, wanted.most_bytes, weight_bytes=wanted.weight_bytes)
    if found == asked:
        return found, ""
    return found, f"layers {list(found.hidden)}, not {list(asked.hidden)}"


def fit(size: Architecture, lesson: Lesson, out: Path) -> None:
    """Train a student from random weights."""
    student = students.build(size, seed=lesson.seed)
    student.fit_inputs(lesson.x)
    _taught(student, lesson, out)


def fit_again(folder: Path, lesson: Lesson, out: Path) -> None:
    """Train a student from the weights of a training folder."""
    _taught(students.load(folder), lesson, out)


def to_onnx(folder: Path, out: Path, rows: NDArray[np.float32]) -> None:
    """Export a training folder; on ``rows`` the graph must answer what torch answers."""
    student = students.load(folder)
    export.to_onnx(students.arrays(student), out)
    export.compare(out, rows, distill.predict_logits(student, rows))


def _taught(student: students.Mlp, lesson: Lesson, out: Path) -> None:
    distill.distill(
        student,
        lesson.x,
        lesson.logits,
        lesson.labels,
        training=lesson.training,
        seed=lesson.seed,
        check=lesson.check,
    )
    students.arrays(student).save(out)

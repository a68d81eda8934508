"""Teacher of the demo, trained here and now, with a student, data and ``model.toml``.

A process of its own (``python -m redistill.workers.demo.teacher FOLDER SEED``): it is the only one
of the demo, beside the repair worker's child, that loads torch. It prints a JSON line per step.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from redistill.compress.judge.graph import Graph, GraphCall
from redistill.compress.plan import Training
from redistill.compress.shrink import export
from redistill.compress.shrink.trained import Architecture
from redistill.workers.demo import data
from redistill.workers.demo.data import F32

__all__ = ["BASELINE", "MODEL"]

MODEL = "digits"
BASELINE = "1"
"""Version of the student with which the story begins."""

TEACHER_HIDDEN = (1024, 640)  # 728k parameters
TEACHER_JITTERS = 6
"""Jittered copies of each training image, each spoiled in its own way."""
TEACHER = Training(epochs=12, batch=128, learning_rate=2e-3, weight_decay=1e-4)
STUDENT_HIDDEN = (384, 384)  # 177k parameters
STUDENT = Training(epochs=10, batch=128, learning_rate=3e-3, weight_decay=1e-4, temperature=2.0)
REFERENCE_JITTERS = 2
"""Jittered copies of each training image that make the reference: what the student learned from,
the pool for replay, and the profile of its inputs."""

Report = Callable[[str, dict[str, Any]], None]

MODEL_TOML = f"""\
# The demo's model, as a user would describe it. Every key is explained in docs/model.md.
format = 1
name = "{MODEL}"
task = "classification"
level = "repair"

[model]
version = "{BASELINE}"
onnx = "student.onnx"
training = "student/"

[teacher]
onnx = "teacher.onnx"

[schema]
# Declared ranges: a corner pixel is nearly constant in clean scans, and a learned range would call
# a veil a data bug.
features = {{ "p[0-63]" = {{ type = "float", min = 0, max = 1 }} }}
classes = [{", ".join(f'"{c}"' for c in data.CLASSES)}]

[data]
reference = "reference.parquet"
trusted = "trusted.parquet"
# rows were drawn independently, so their order is a time order like any other
order = "time"

[labels]
wait_days = 1
sources = ["clerks"]

[watch]
tolerance_points = 2.0
# keep every row's features: a minute of traffic must be enough to train and to judge on
feature_rows_per_second = 600

[serving]
batch = 1

[repair]
approval = "automatic"
max_bytes = 1_000_000
max_p95_ms = 5.0
max_jobs_per_day = 10
wait_hours = 1
fresh_rows = 6_000

[privacy]
retention_days = 1
"""


def write_rows(path: Path, x: F32, digits: NDArray[np.int64]) -> None:
    """Write a Parquet file of the columns ``p0`` .. ``p63`` and ``label``."""
    columns: dict[str, Any] = {name: x[:, i] for i, name in enumerate(data.FEATURES)}
    columns["label"] = [data.CLASSES[d] for d in digits]
    pq.write_table(pa.table(columns), path)


def build(folder: Path, seed: int, report: Report) -> dict[str, Any]:
    """Train and write everything that ``redistill register`` needs into ``folder``.

    Returns
    -------
    dict
        Accuracies on the trusted rows, sizes in bytes and parameters, seconds: measured now.
    """
    began, cpu = time.perf_counter(), time.process_time()
    import torch  # here, so that its loading is part of what is measured

    from redistill.compress.shrink import distill, quantize, students

    torch.set_num_threads(1)
    report("torch", {"seconds": round(time.perf_counter() - began, 2)})
    folder.mkdir(parents=True, exist_ok=True)
    digits = data.load_digits(seed)
    rng = np.random.default_rng([seed, 1])
    clean = data.jitter(np.tile(digits.train.x, (TEACHER_JITTERS, 1)), rng)
    y = np.tile(digits.train.y, TEACHER_JITTERS)

    teacher = students.build(
        Architecture(
            inputs=data.PIXELS, hidden=TEACHER_HIDDEN, outputs=len(data.CLASSES), dropout=0.1
        ),
        seed=seed,
    )
    distill.distill(
        teacher,
        data.spoil(clean, rng),
        labels=y,
        training=TEACHER,
        seed=seed,
        smoothing=0.05,
        check=lambda share: report("teacher", {"share": round(share, 3)}),
    )
    taught = time.perf_counter()
    report("teacher", {"share": 1.0, "seconds": round(taught - began, 2)})

    rows = len(digits.train.y) * REFERENCE_JITTERS
    reference, reference_y = clean[:rows], y[:rows]
    student = students.build(
        Architecture(inputs=data.PIXELS, hidden=STUDENT_HIDDEN, outputs=len(data.CLASSES)),
        seed=seed,
    )
    distill.distill(
        student,
        reference,
        distill.predict_logits(teacher, reference),
        training=STUDENT,
        seed=seed,
    )
    report("student", {"seconds": round(time.perf_counter() - taught, 2)})

    export.to_onnx(students.arrays(teacher), folder / "teacher.onnx")
    learned = students.arrays(student)
    fp32 = folder / "student-fp32.onnx"
    export.to_onnx(learned, fp32)
    quantize.static_int8(fp32, folder / "student.onnx", reference[:256])
    learned.save(folder / "student")
    trusted = data.jitter(digits.trusted.x, rng)
    write_rows(folder / "reference.parquet", reference, reference_y)
    write_rows(folder / "trusted.parquet", trusted, digits.trusted.y)
    (folder / "model.toml").write_text(MODEL_TOML, encoding="utf-8")

    accuracy = {
        name: accuracy_of(folder / f"{name}.onnx", trusted, digits.trusted.y)
        for name in ("teacher", "student")
    }
    return {
        "teacher_accuracy": accuracy["teacher"],
        "student_accuracy": accuracy["student"],
        "trusted_rows": len(digits.trusted.y),
        "reference_rows": rows,
        "teacher_parameters": sum(p.numel() for p in teacher.parameters()),
        "student_parameters": sum(p.numel() for p in student.parameters()),
        "teacher_bytes": (folder / "teacher.onnx").stat().st_size,
        "student_bytes": (folder / "student.onnx").stat().st_size,
        "seconds": round(time.perf_counter() - began, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
    }


def accuracy_of(onnx: Path, x: F32, digits: NDArray[np.int64]) -> float:
    """Share of rows that a graph gets right."""
    graph = Graph(onnx, GraphCall(features=data.FEATURES, classes=len(data.CLASSES)))
    return float((graph.classes(x) == digits).mean())


def main(argv: list[str]) -> int:
    """Entry point of the process: ``FOLDER SEED``."""

    def report(step: str, facts: dict[str, Any]) -> None:
        print(json.dumps({"step": step, **facts}), flush=True)

    folder, seed = Path(argv[0]), int(argv[1])
    report("done", build(folder, seed, report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

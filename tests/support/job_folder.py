"""Job folders for ``compress``: digits under a veil (the demo's data) and the made-up credit model."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from redistill.compress.plan import GraphSpec, JobSpec, Training, to_json
from redistill.compress.shrink import distill, export, quantize, students
from redistill.compress.shrink.trained import Architecture
from redistill.workers.demo import data as digits

GRAPH = GraphSpec(features=digits.FEATURES, classes=digits.CLASSES)


@dataclass(frozen=True, kw_only=True)
class World:
    """Models on disk and the data that they were made from."""

    folder: Path
    seed: int
    parts: digits.Digits


def make_digits(
    folder: Path,
    *,
    seed: int = 0,
    teacher_hidden: tuple[int, ...] = (256, 128),
    hidden: tuple[int, ...] = (96, 96),
    jitters: int = 4,
) -> World:
    """Train a teacher that knows the veil and a student that does not; smaller than the demo's."""
    torch.set_num_threads(1)
    parts = digits.load_digits(seed)
    rng = np.random.default_rng([seed, 7])
    clean = [digits.jitter(parts.train.x, rng) for _ in range(jitters)]
    x = np.concatenate([digits.spoil(c, rng) for c in clean])
    y = np.concatenate([parts.train.y] * jitters)
    teacher = students.build(
        Architecture(inputs=64, hidden=teacher_hidden, outputs=10, dropout=0.1), seed=seed
    )
    rates = Training(epochs=14, batch=128, learning_rate=2e-3)
    distill.distill(teacher, x, labels=y, training=rates, smoothing=0.05, seed=seed)
    pool = np.concatenate(clean[:2])
    student = students.build(Architecture(inputs=64, hidden=hidden, outputs=10), seed=seed + 1)
    distill.distill(
        student,
        pool,
        distill.predict_logits(teacher, pool),
        training=Training(epochs=10, batch=128, learning_rate=3e-3),
        seed=seed,
    )
    folder.mkdir(parents=True, exist_ok=True)
    for role in ("teacher", "incumbent"):
        (folder / role).mkdir()
    export.to_onnx(students.arrays(teacher), folder / "teacher" / "model.onnx")
    learned = students.arrays(student)
    export.to_onnx(learned, folder / "fp32.onnx")
    quantize.static_int8(folder / "fp32.onnx", folder / "incumbent" / "model.onnx", pool[:512])
    learned.save(folder / "incumbent" / "training")
    write_rows(folder / "reference.parquet", pool, np.concatenate([parts.train.y] * 2))
    trusted = digits.jitter(parts.trusted.x, rng)  # like traffic: the two must be one domain
    write_rows(folder / "trusted.parquet", trusted, parts.trusted.y)
    return World(folder=folder, seed=seed, parts=parts)


def write_rows(
    path: Path, x: NDArray[np.float32], y: NDArray[np.int64] | None, **columns: Any
) -> None:
    """Digits as Parquet; ``y`` -1 = no label."""
    table: dict[str, Any] = {n: x[:, j] for j, n in enumerate(digits.FEATURES)}
    if y is not None:
        table["label"] = pa.array([None if v < 0 else str(v) for v in y], pa.string())
    pq.write_table(pa.table(table | columns), path)


def write_fresh(
    folder: Path,
    x: NDArray[np.float32],
    labels: Sequence[int] | NDArray[np.int64],
    gate: NDArray[np.bool_],
    *,
    source: str | Sequence[str | None] = "clerks",
) -> None:
    """``fresh.parquet``; ``labels`` -1 = none."""
    n = len(x)
    who = [source] * n if isinstance(source, str) else list(source)
    write_rows(
        folder / "fresh.parquet",
        x,
        np.asarray(labels),
        id_hash=pa.array(np.arange(1, n + 1), pa.int64()),
        served_at=pa.array(
            np.arange(n) * 3_000 + 1_700_000_000_000_000, pa.timestamp("us", tz="UTC")
        ),
        split=np.where(gate, "gate", "train").tolist(),
        source=pa.array(
            [w if v >= 0 else None for w, v in zip(who, labels, strict=True)], pa.string()
        ),
    )


def job_of(mode: str = "repair", **fields: Any) -> JobSpec:
    """A job about digits."""
    given: dict[str, Any] = {
        "job_id": "job-1",
        "model": "digits",
        "mode": mode,
        "graph": GRAPH,
        "serving_batch": 32,
    }
    return JobSpec(**given | fields)


def new_job(world: World, folder: Path, job: JobSpec) -> Path:
    """A folder with the world's models and tables, and ``job.json``."""
    shutil.copytree(world.folder, folder, dirs_exist_ok=True)
    (folder / "job.json").write_bytes(to_json(job))
    return folder


def set_job(folder: Path, job: JobSpec, **changes: Any) -> None:
    """Write another ``job.json``."""
    (folder / "job.json").write_bytes(to_json(replace(job, **changes)))


def veiled(
    world: World, n: int, *, seed: int = 0, veil: float = digits.HAZE
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """``n`` rows of traffic under the veil (0: clean), with the truth."""
    rng = np.random.default_rng([world.seed, seed, 11])
    x, y = digits.draw(world.parts.traffic, n, rng)
    return digits.haze(x, veil) if veil else x, y

"""Rows of a job without a job: tables for ``compress`` that a test makes in a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from redistill.compress import recipes
from redistill.compress.folder import JobContext
from redistill.compress.plan import GraphSpec, JobSpec, Training, to_json
from redistill.compress.rows import Rows
from redistill.compress.shrink import export, students
from redistill.compress.shrink.trained import Architecture
from redistill.compress.steps import Deadline, Steps

GRAPH = GraphSpec(
    features=("a", "b", "kind"),
    classes=("no", "yes"),
    categories={"kind": ("x", "y")},
    slices={"kind": ("x", "y"), "region": ()},
)


def rows_of(n: int, *, seed: int = 0, **columns: Any) -> Rows:
    """``n`` different rows of ``GRAPH``, half of them for the gates, all labelled by ``clerks``."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    x[:, 2] = np.arange(n) % 2
    given: dict[str, Any] = {
        "x": x,
        "y": (x[:, 0] > 0).astype(np.int64),
        "gate": np.arange(n) % 2 == 1,
        "id_hash": np.arange(1, n + 1) + 1_000_000 * (seed + 1),
        "served_at": np.arange(n, dtype=np.int64) + 1,
        "source": ["clerks"] * n,
        "prediction": np.full(n, -1, np.int64),
        "segments": {"region": ["EU" if i % 3 else None for i in range(n)]},
    }
    return Rows(**given | columns)


def job_of(**fields: Any) -> JobSpec:
    """A job about ``GRAPH`` with as many replay rows as fresh ones."""
    given: dict[str, Any] = {
        "job_id": "job-1",
        "model": "credit",
        "mode": "repair",
        "graph": GRAPH,
        "training": Training(min_replay_rows=0),
    }
    return JobSpec(**given | fields)


def tiny_job(folder: Path, *, rows: int = 400, **fields: Any) -> JobSpec:
    """A whole job folder about ``GRAPH``, made at once: the student knows another threshold than
    its teacher.

    Parameters
    ----------
    folder
        Where it goes.
    rows
        Fresh rows, half of them for the gates.
    fields
        Of the job.
    """
    for role, threshold in (("teacher", 0.5), ("incumbent", 0.0)):
        (folder / role).mkdir(parents=True, exist_ok=True)
        student = students.build(Architecture(inputs=3, hidden=(), outputs=2), seed=0)
        with torch.no_grad():
            student.layers[0].weight.copy_(torch.tensor([[-8.0, 0.0, 0.0], [8.0, 0.0, 0.0]]))
            student.layers[0].bias.copy_(8.0 * threshold * torch.tensor([1.0, -1.0]))
        arrays = students.arrays(student)
        export.to_onnx(arrays, folder / role / "model.onnx")
        if role == "incumbent":
            arrays.save(folder / role / "training")
    for name, seed, n in (("fresh", 0, rows), ("reference", 1, 400), ("trusted", 2, 200)):
        write_table(folder / f"{name}.parquet", rows_of(n, seed=seed), threshold=0.5)
    training = Training(epochs=4, min_replay_rows=0)
    job = job_of(**{"training": training, "candidates": ("fp32",)} | fields)
    (folder / "job.json").write_bytes(to_json(job))
    return job


def write_table(path: Path, rows: Rows, *, threshold: float | NDArray[np.float64]) -> None:
    """Rows as a table of a job; the label is whether ``a`` is above the threshold, or each row's
    own."""
    label = [GRAPH.classes[int(above)] for above in rows.x[:, 0] > threshold]
    columns: dict[str, Any] = {n: rows.x[:, j] for j, n in enumerate(GRAPH.features)}
    columns |= {
        "label": label,
        "region": rows.segments["region"],
        "id_hash": rows.id_hash,
        "served_at": pa.array(rows.served_at, pa.timestamp("us", tz="UTC")),
        "split": ["gate" if g else "train" for g in rows.gate],
        "source": rows.source,
    }
    pq.write_table(pa.table(columns), path)


def context_of(folder: Path, job: JobSpec) -> JobContext:
    """What the modes get: a minute of time, and nobody who listens to progress."""
    deadline = Deadline(seconds=60.0)
    steps = Steps(folder, deadline=deadline, scope=recipes.scope(job))
    return JobContext(folder=folder, job=job, steps=steps, deadline=deadline)

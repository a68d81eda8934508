"""Candidate folder, which becomes a release: complete, unsigned, there whole or not at all."""

from __future__ import annotations

import io
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from redistill import files
from redistill.compress.errors import BadModel
from redistill.compress.folder import CANDIDATE
from redistill.compress.judge.answers import largest
from redistill.compress.judge.graph import Graph
from redistill.compress.judge.task import Scores
from redistill.compress.plan import ERROR_ROWS, GraphSpec, column_of
from redistill.compress.rows import Rows
from redistill.compress.steps import WORK
from redistill.stats import softmax

__all__ = [
    "EXACT_TOLERANCE",
    "GOLDEN_ROWS",
    "INTEGER_TOLERANCE",
    "error_rows",
    "golden_rows",
    "reference_table",
    "write",
]

GOLDEN_ROWS = 32
EXACT_TOLERANCE, INTEGER_TOLERANCE = 1e-3, 0.1
"""Largest difference of an output on another CPU, as a share of the largest golden output: floats
add up in another order there; int8 saturates or rounds otherwise on CPUs without VNNI."""


def golden_rows(
    graph: Graph, pools: list[NDArray[np.float32]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rows for the self-test of services, and what the graph answers to them in one batch.

    Rows whose two best classes are close could change their class on another CPU, and a healthy
    service would refuse a good model: they are drawn from the clearer half.

    Parameters
    ----------
    graph
        The candidate.
    pools
        Rows to draw from, evenly from each where they have enough; at least one row in all.

    Returns
    -------
    tuple
        ``(32, F)`` and ``(32, classes)``, the same for the same arguments; every answer is finite.

    Raises
    ------
    BadModel
        It answers NaN for all rows of a pool.
    """
    chosen = []
    filled = [p for p in pools if len(p)]
    for k, pool in enumerate(filled):
        some = pool[:: max(1, len(pool) // 2_000)]
        outputs = graph.outputs(some)
        finite = np.isfinite(outputs).all(axis=1)
        if not finite.any():
            raise BadModel(f"{graph.name} answers NaN for every row: it can serve nothing")
        some, top = some[finite], np.sort(outputs[finite], axis=1)
        clear = np.argsort(top[:, -2] - top[:, -1], kind="stable")  # clearest first
        clear = np.sort(clear[: max(1, len(clear) // 2)])
        wanted = GOLDEN_ROWS // len(filled) + (k < GOLDEN_ROWS % len(filled))
        picks = np.linspace(0, len(clear) - 1, wanted).round().astype(np.intp)
        chosen.append(some[clear[picks]])
    rows = np.ascontiguousarray(np.concatenate(chosen))
    return rows, graph.raw(rows)


def reference_table(
    graph: Graph, rows: Rows, spec: GraphSpec, *, labels: NDArray[np.bool_]
) -> pa.Table:
    """Rows with what the candidate answers to them: what its profile is made of.

    Parameters
    ----------
    rows
        The fresh window of a repair; the reference of a first model.
    labels
        ``(n,)`` which rows may show their label: none that was trained on, or it would flatter.

    Returns
    -------
    pyarrow.Table
        Features (float32), ``prediction`` (class name), ``scores`` (probabilities, float32 list),
        ``label`` (class name or null), and ``served_at``, ``id_hash``, ``split`` as they came.
    """
    columns = _answered(graph.logits(rows.x), rows, spec, labels)
    columns["served_at"] = pa.array(rows.served_at, pa.timestamp("us", tz="UTC"))
    columns["id_hash"] = pa.array(rows.id_hash, pa.int64())
    columns["split"] = pa.array(np.where(rows.gate, "gate", "train").tolist(), pa.string())
    return pa.table(columns)


def error_rows(scores: Scores, rows: Rows, spec: GraphSpec) -> pa.Table:
    """The labelled ones of some rows, none of them trained on, with what the candidate answers to
    them and their segments: what its base error counts, and what errors to expect of its slices.

    Parameters
    ----------
    scores
        ``(n, classes)`` logits, those that the report's accuracy is of.

    Returns
    -------
    pyarrow.Table
        As of ``reference_table``, without times and ids, and a column per segment key.
    """
    known = rows.labelled
    rows = rows.take(known)
    columns = _answered(scores[known], rows, spec, rows.labelled)
    columns |= {column_of(k): pa.array(v, pa.string()) for k, v in rows.segments.items()}
    return pa.table(columns)


def _answered(
    logits: Scores, rows: Rows, spec: GraphSpec, labels: NDArray[np.bool_]
) -> dict[str, pa.Array]:
    """Columns of features, answers and labels; NaN where there is no answer: no class, no
    scores."""
    classes = largest(logits)
    names = np.array([*spec.classes, None], object)
    columns: dict[str, pa.Array] = {
        column_of(name): pa.array(rows.x[:, j], pa.float32())
        for j, name in enumerate(spec.features)
    }
    columns["prediction"] = pa.array(names[classes].tolist(), pa.string())
    scores = softmax(logits) if len(rows) else logits
    columns["scores"] = pa.FixedSizeListArray.from_arrays(
        pa.array(scores.ravel(), pa.float32()), len(spec.classes)
    )
    shown = np.where(labels, rows.y, -1)
    columns["label"] = pa.array(names[shown].tolist(), pa.string())
    return columns


def write(
    folder: Path,
    *,
    model: Path,
    training: Path | None,
    golden: tuple[NDArray[np.float32], NDArray[np.float32]],
    exact: bool,
    table: pa.Table,
    errors: pa.Table,
    report: bytes,
    documents: Mapping[str, bytes],
) -> Path:
    """Put a candidate together and move it into place.

    Parameters
    ----------
    folder
        The job's folder.
    model
        The ONNX file.
    training
        Architecture and weights for the next warm start; ``None``: none are known.
    golden
        Inputs and outputs.
    exact
        Whether the graph computes in floats.
    table
        ``reference_rows.parquet``.
    errors
        ``error_rows.parquet``: beside the candidate, for it is no part of a release.
    report
        ``report.json``.
    documents
        What is told of it, by name.

    Returns
    -------
    Path
        ``candidate/``.
    """
    part = folder / WORK / ".candidate"
    if part.exists():
        shutil.rmtree(part)
    part.mkdir(parents=True)
    shutil.copyfile(model, part / "model.onnx")
    if training is not None:
        shutil.copytree(training, part / "training")
    inputs, outputs = golden
    share = EXACT_TOLERANCE if exact else INTEGER_TOLERANCE
    tolerance = np.float32(share * max(1.0, float(np.abs(outputs).max())))
    np.savez(part / "golden.npz", inputs=inputs, outputs=outputs, tolerance=tolerance)
    pq.write_table(table, part / "reference_rows.parquet")
    (part / "report.json").write_bytes(report)
    for name, data in documents.items():
        (part / name).parent.mkdir(exist_ok=True)
        (part / name).write_bytes(data)
    sink = io.BytesIO()
    pq.write_table(errors, sink)
    files.write(folder / ERROR_ROWS, sink.getvalue())
    final = folder / CANDIDATE
    files.put(part, final)
    return final

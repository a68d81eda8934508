"""A tabular model that is not the demo's: a made-up credit decision with categories, missing values
and a shift that its student cannot follow but its teacher can. Everything is generated from a seed.

The world: whether a loan defaults depends smoothly, and not monotonically, on the debt ratio.
Usually ratios are small; in the *boom* they are large, where only the teacher has ever been
trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

REGIONS = ("EU", "US", "APAC")
CLASSES = ("repay", "default")
NUMERIC = ("income", "debt_ratio", "age", "utilisation", "tenure", "inquiries")
FEATURES = (*NUMERIC, "region")

SPEC = """format = 1
name = "{name}"
task = "classification"
level = "{level}"
[model]
version = "{version}"
onnx = "student.onnx"
training = "student/"
output = "probabilities"
output_kind = "probabilities"
[teacher]
onnx = "teacher.onnx"
output = "y"
output_kind = "logits"
[schema]
order = ["income", "debt_ratio", "age", "utilisation", "tenure", "inquiries", "region"]
classes = ["repay", "default"]
slices = ["region"]
[schema.features]
income = "float"
debt_ratio = "float"
age = "float"
utilisation = {{ type = "float", min = 0, max = 1 }}
tenure = "float"
inquiries = "int"
region = ["EU", "US", "APAC"]
[data]
reference = "reference.parquet"
trusted = "trusted.parquet"
order = "time"
[labels]
sources = ["ledger"]
[watch]
tolerance_points = 2.0
[repair]
wait_hours = 1
"""


def rows(rng: np.random.Generator, n: int, *, boom: bool = False) -> dict[str, Any]:
    """``n`` applications as columns: numeric float64 with some NaN, ``region`` strings, ``label``
    the truth."""
    ratio = rng.normal(3.2, 0.6, n) if boom else rng.normal(0.0, 0.8, n)
    out: dict[str, Any] = {
        "income": rng.lognormal(0.0, 0.5, n),
        "debt_ratio": ratio,
        "age": rng.normal(45.0, 12.0, n),
        "utilisation": rng.uniform(0.0, 1.0, n),
        "tenure": rng.exponential(2.0, n),
        "inquiries": rng.poisson(1.5, n).astype(float),
    }
    region = rng.integers(0, 3, n)
    # up to 1 the risk grows with the ratio; beyond 2 (only in the boom) it falls again: lenders got
    # careful
    risk = (
        3.0 * np.sin(1.3 * ratio)
        + 1.2 * (out["utilisation"] - 0.5)
        - 0.6 * np.log(out["income"])
        + 0.3 * (region - 1)
    )
    out["label"] = np.where(risk + rng.normal(0.0, 0.35, n) > 0, "default", "repay")
    out["income"][rng.random(n) < 0.02] = np.nan
    out["region"] = np.asarray(REGIONS, dtype=object)[region]
    return out


def wide_rows(rng: np.random.Generator, n: int) -> dict[str, Any]:
    """What the teacher was trained on: both worlds."""
    usual, boom = rows(rng, n // 2), rows(rng, n - n // 2, boom=True)
    return {k: np.concatenate([usual[k], boom[k]]) for k in usual}


def matrix(columns: dict[str, Any]) -> NDArray[np.float32]:
    """Columns as the model's input, ``(n, 7) float32``; categories as indices, missing as NaN."""
    codes = np.asarray([REGIONS.index(r) for r in columns["region"]], np.float32)
    return np.column_stack([*(columns[c] for c in NUMERIC), codes]).astype(np.float32)


def targets(columns: dict[str, Any]) -> NDArray[np.int64]:
    """Index of each row's label in ``CLASSES``."""
    return np.asarray([CLASSES.index(x) for x in columns["label"]], np.int64)


def table(columns: dict[str, Any]) -> pa.Table:
    """Columns as Arrow, NaN as null."""
    return pa.table(
        {
            k: pa.array(list(v) if v.dtype == object else v, from_pandas=True)
            for k, v in columns.items()
        }
    )


def feature_dicts(columns: dict[str, Any]) -> list[dict[str, Any]]:
    """One dictionary of features per row, missing as ``None``: what a service has at hand."""
    n = len(columns["label"])
    lists = {
        c: [
            None if isinstance(v, float) and v != v else v
            for v in np.asarray(columns[c], object).tolist()
        ]
        for c in FEATURES
    }
    return [{c: lists[c][i] for c in FEATURES} for i in range(n)]


def as_others_write_it(path: Path) -> None:
    """Give a graph the outputs that converters of other libraries give: a label, and probabilities."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(path)
    graph = model.graph
    (logits,) = (o.name for o in graph.output)
    graph.node.extend(
        [
            helper.make_node("Softmax", [logits], ["probabilities"], axis=-1),
            helper.make_node("ArgMax", [logits], ["label"], axis=-1, keepdims=0),
        ]
    )
    del graph.output[:]
    graph.output.extend(
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]),
            helper.make_tensor_value_info(
                "probabilities", TensorProto.FLOAT, ["batch", len(CLASSES)]
            ),
        ]
    )
    onnx.save(model, path)


def build(
    folder: Path,
    *,
    name: str = "credit",
    level: str = "repair",
    version: str = "2026-03",
    seed: int = 0,
) -> Path:
    """Train teacher and student, export them, write data and ``model.toml``; about ten seconds."""
    import torch

    from redistill.compress.plan import Training
    from redistill.compress.shrink import distill, export, students
    from redistill.compress.shrink.trained import default_architecture

    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(rows(rng, 4_000)), folder / "reference.parquet")
    pq.write_table(table(rows(rng, 3_000)), folder / "trusted.parquet")

    def trained(columns: dict[str, Any], hidden: tuple[int, ...], epochs: int) -> students.Mlp:
        x = matrix(columns)
        student = students.build(
            default_architecture(7, 2, hidden=hidden, categories=((6, 3),)), seed=seed
        )
        student.fit_inputs(x)
        labels_only = Training(epochs=epochs, batch=128, kd_weight=0.0)
        return distill.distill(
            student, x, None, labels=targets(columns), training=labels_only, seed=seed
        )

    teacher = trained(wide_rows(rng, 12_000), (128, 128), 12)
    export.to_onnx(students.arrays(teacher), folder / "teacher.onnx")
    student = students.arrays(trained(rows(rng, 4_000), (64, 64), 16))
    student.save(folder / "student")
    export.to_onnx(student, folder / "student.onnx")
    as_others_write_it(folder / "student.onnx")
    spec = folder / "model.toml"
    spec.write_text(SPEC.format(name=name, level=level, version=version))
    return spec

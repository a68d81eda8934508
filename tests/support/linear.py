"""A model small enough to write by hand: two numbers and a region, a linear graph, and data that it
gets wrong at a known rate. For tests that need an ONNX file and its Parquet files but no training.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

FEATURES = ("a", "b", "region")
REGIONS = ("EU", "US")
CLASSES = ("no", "yes")

SPEC = """format = 1
name = "{name}"
level = "{level}"
[model]
version = "v1"
onnx = "model.onnx"
[teacher]
onnx = "teacher.onnx"
[schema]
features = {{ a = "float", b = {{ type = "float", min = -100, max = 100 }}, region = ["EU", "US"] }}
classes = ["no", "yes"]
slices = ["region"]
[data]
reference = "reference.parquet"
trusted = "trusted.parquet"
order = "time"
[watch]
tolerance_points = 2.0
"""


def graph(
    path: Path,
    weights: NDArray[np.float32],
    *,
    features: int = 3,
    classes: int = 2,
    op: str = "Gemm",
    domain: str = "",
    external: bool = False,
    bias: NDArray[np.float32] | None = None,
) -> Path:
    """Write ``y = x @ weights + bias``, ``weights`` of shape ``(features, classes)``."""
    w = numpy_helper.from_array(weights.astype(np.float32), "w")
    offset = np.zeros(classes, np.float32) if bias is None else bias
    b = numpy_helper.from_array(offset, "b")
    node = helper.make_node(op, ["x", "w", "b"], ["y"], domain=domain)
    made = helper.make_graph(
        [node],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", features])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", classes])],
        [w, b],
    )
    opsets = [helper.make_opsetid("", 20)]
    if domain:
        opsets.append(helper.make_opsetid(domain, 1))
    model = helper.make_model(made, opset_imports=opsets, ir_version=10)
    if external:
        onnx.save(
            model, path, save_as_external_data=True, location=path.name + ".data", size_threshold=0
        )
    else:
        onnx.save(model, path)
    return path


def forest(path: Path) -> Path:
    """Write two stumps, on ``a`` and on ``b``, with the outputs of converters: label,
    probabilities."""
    trees = 2
    node = helper.make_node(
        "TreeEnsembleClassifier",
        ["X"],
        ["label", "probabilities"],
        domain="ai.onnx.ml",
        nodes_treeids=[0, 0, 0, 1, 1, 1],
        nodes_nodeids=[0, 1, 2] * trees,
        nodes_featureids=[0, 0, 0, 1, 0, 0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"] * trees,
        nodes_values=[0.0] * 6,
        nodes_truenodeids=[1, 0, 0] * trees,
        nodes_falsenodeids=[2, 0, 0] * trees,
        nodes_missing_value_tracks_true=[1, 0, 0] * trees,
        class_treeids=[0, 0, 0, 0, 1, 1, 1, 1],
        class_nodeids=[1, 1, 2, 2] * trees,
        class_ids=[0, 1] * 4,
        class_weights=[0.4, 0.1, 0.1, 0.4, 0.35, 0.15, 0.15, 0.35],
        classlabels_strings=list(CLASSES),
        post_transform="NONE",
    )
    made = helper.make_graph(
        [node],
        "forest",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 3])],
        [
            helper.make_tensor_value_info("label", TensorProto.STRING, [None]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
        ],
    )
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(made, opset_imports=opsets, ir_version=8), path)
    return path


def rows(rng: np.random.Generator, n: int, *, noise: float = 0.1) -> dict[str, Any]:
    """``n`` rows as columns; the label is ``a + b > 0``, wrong for a share ``noise`` of the rows."""
    a, b = rng.normal(size=n), rng.normal(size=n)
    truth = (a + b > 0) ^ (rng.random(n) < noise)
    return {
        "a": a,
        "b": b,
        "region": np.asarray(REGIONS, object)[rng.integers(0, 2, n)],
        "label": np.asarray(CLASSES, object)[truth.astype(int)],
    }


def write_rows(path: Path, columns: dict[str, Any]) -> Path:
    """Columns as Parquet."""
    table = {k: pa.array(list(v), from_pandas=True) for k, v in columns.items()}
    pq.write_table(pa.table(table), path)
    return path


def build(folder: Path, *, name: str = "linear", level: str = "repair", seed: int = 0) -> Path:
    """``model.toml`` with all files that it names; returns its path. Takes some milliseconds."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    weights = np.array([[-1, 1], [-1, 1], [0, 0]], np.float32)
    graph(folder / "model.onnx", weights)
    graph(folder / "teacher.onnx", 2 * weights)
    write_rows(folder / "reference.parquet", rows(rng, 2_000))
    write_rows(folder / "trusted.parquet", rows(rng, 2_000))
    spec = folder / "model.toml"
    spec.write_text(SPEC.format(name=name, level=level))
    return spec

"""Export of a student as an ONNX graph, node by node, compared with torch before it counts.

Torch's exporter takes any module, for a second per graph and three more for its import; there is
one family of students.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from redistill.compress.errors import BadModel
from redistill.compress.judge.graph import session
from redistill.compress.shrink.trained import Architecture, Trained

__all__ = ["INPUT", "OPSET", "OUTPUT", "GraphNodes", "compare", "encoded", "to_onnx"]

OPSET, IR_VERSION = 20, 10
"""Opsets 23 and 24 with dynamic quantization of all operators gave invalid files."""
INPUT, OUTPUT = "x", "y"
TOLERANCE = 1e-4
"""Largest difference between torch and ONNX Runtime, as a share of the largest output."""


def to_onnx(student: Trained, path: Path) -> None:
    """Write a student of raw rows as one self-contained ONNX file.

    Parameters
    ----------
    student
        The same one gives the same bytes.
    path
        Where the file goes; input ``x`` ``(batch, inputs) float32``, NaN = missing, output ``y``
        ``(batch, outputs) float32``, logits; any batch, opset 20, weights embedded.

    Raises
    ------
    BadModel
        The graph is not a valid one.
    """
    a = student.architecture
    graph = GraphNodes()
    for name, values in student.tensors.items():
        if name != "codes":  # a constant for each of its rows
            graph.constant(name, values)
    missing = graph.node("IsNaN", INPUT)
    for code in student.tensors.get("codes", ()):
        same = graph.node("Equal", INPUT, graph.constant(f"code_{len(graph.nodes)}", code))
        missing = graph.node("Or", missing, same)
    x = graph.node("Where", missing, "medians", INPUT)
    parts = encoded(graph, a, x)
    if a.codes:
        columns = graph.constant("coded", np.array([column for column, _ in a.codes], np.int64))
        flags = graph.node("Gather", missing, columns, axis=1)
        parts.append(graph.node("Cast", flags, to=TensorProto.FLOAT))
    h = graph.node("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    *hidden, last = a.layers
    for layer in hidden:
        h = graph.node("Gemm", h, f"{layer}.weight", f"{layer}.bias", transB=1)
        h = _activated(graph, a.activation, h)
    graph.node("Gemm", h, f"{last}.weight", f"{last}.bias", transB=1, result=OUTPUT)
    graph.save(path, inputs=a.inputs, outputs=a.outputs)


def compare(path: Path, rows: NDArray[np.float32], expected: NDArray[np.float32]) -> None:
    """Run a graph in batches of 1, 2 and all rows: it must answer what torch answers.

    Parameters
    ----------
    rows
        ``(n, inputs) float32``, at least two.
    expected
        ``(n, outputs) float32``: torch's answers to them.

    Raises
    ------
    BadModel
        It does not load, or its answers differ by more than ``TOLERANCE``.
    """
    loaded = session(path)
    scale = max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0)))
    for batch in (1, 2, len(rows)):
        (got,) = loaded.run([OUTPUT], {INPUT: rows[:batch]})
        want = expected[:batch]
        if not np.allclose(got, want, rtol=0.0, atol=TOLERANCE * scale, equal_nan=True):
            worst = float(np.nanmax(np.abs(got - want)))
            raise BadModel(f"the exported graph differs from torch by {worst:.3g}")


class GraphNodes:
    """Nodes and constants, in order; a node's name is that of its result."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, values: Any) -> str:
        """Add a constant and return its name."""
        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, operator: str, *inputs: str, result: str = "", **attributes: Any) -> str:
        """Add a node with one result, and return the result's name."""
        name = result or f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def save(self, path: Path, *, inputs: int, outputs: int, vectors: int | None = None) -> None:
        """Write the file: from ``x`` ``(batch, inputs)`` to ``y`` ``(batch, outputs)``.

        Parameters
        ----------
        vectors
            Version of the operators ``ai.onnx.ml`` that it has nodes of; ``None``: it has none.

        Raises
        ------
        BadModel
            The graph is not a valid one.
        """
        opsets = [helper.make_opsetid("", OPSET)]
        if vectors is not None:
            opsets.append(helper.make_opsetid("ai.onnx.ml", vectors))
        model = helper.make_model(
            helper.make_graph(
                self.nodes,
                "student",
                [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", inputs])],
                [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", outputs])],
                self.constants,
            ),
            opset_imports=opsets,
            ir_version=IR_VERSION,
            producer_name="redistill",
        )
        try:
            onnx.checker.check_model(model)
        except onnx.checker.ValidationError as error:
            raise BadModel(f"the student's graph is not valid: {str(error)[:300]}") from error
        path.write_bytes(model.SerializeToString(deterministic=True))


def _scaled(graph: GraphNodes, a: Architecture, h: str) -> str:
    """Normalise and cut numeric columns, ``(batch, numeric)``."""
    if a.normalisation == "standard":
        h = graph.node("Mul", graph.node("Sub", h, "mean"), "inverse_deviation")
    if a.clip is not None:
        low = graph.constant("lowest", np.float32(-a.clip))
        h = graph.node("Clip", h, low, graph.constant("highest", np.float32(a.clip)))
    return h


def encoded(graph: GraphNodes, a: Architecture, x: str) -> list[str]:
    """Numeric columns scaled, then each category one-hot, ``(batch, size)``: -1 and what is missing
    give all zeros.

    Returns
    -------
    list
        Names of the parts, side by side the columns of an architecture but for its codes.
    """
    if not a.categories:
        return [_scaled(graph, a, x)]
    parts = []
    if a.numeric:
        columns = graph.constant("numeric", np.array(a.numeric, np.int64))
        parts.append(_scaled(graph, a, graph.node("Gather", x, columns, axis=1)))
    for column, size in a.categories:
        place = graph.constant(f"column_{column}", np.array([column], np.int64))
        values = graph.constant(f"values_{column}", np.arange(size, dtype=np.float32))
        same = graph.node("Equal", graph.node("Gather", x, place, axis=1), values)
        parts.append(graph.node("Cast", same, to=TensorProto.FLOAT))
    return parts


def _activated(graph: GraphNodes, activation: str, h: str) -> str:
    match activation:
        case "silu":
            return graph.node("Mul", h, graph.node("Sigmoid", h))
        case "gelu":
            return graph.node("Gelu", h, approximate="none")
        case _:
            return graph.node({"relu": "Relu", "tanh": "Tanh"}[activation], h)

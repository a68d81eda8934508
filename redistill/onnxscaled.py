"""Scaling of an ONNX file's output: one ``Mul`` more, at the end of the graph."""

from __future__ import annotations

from typing import Any

from redistill import onnxwalk
from redistill.onnxports import OnnxError

__all__ = ["scaled"]

SUFFIX, NODE, FACTOR = "_unscaled", "scale_output", "output_scale"


def scaled(name: str, data: bytes, output: str, factor: float) -> bytes:
    """Multiply what a graph gives by a number.

    Parameters
    ----------
    name
        The file's, for messages.
    data
        What it holds; the same arguments give the same bytes.
    output
        Name of a float32 output that a node of the graph makes. It keeps its name and shape.
    factor
        Not 0.

    Raises
    ------
    OnnxError
        The graph makes no such output, or was scaled by this function before.
    """
    from onnx import TensorProto, checker, helper

    model: Any = onnxwalk.parse(name, data)
    graph, raw = model.graph, output + SUFFIX
    made = [n for node in graph.node for n in node.output]
    if made.count(output) != 1:
        raise OnnxError(f"{name}: no node makes the output {output!r}")
    if raw in made:
        raise OnnxError(f"{name}: its output {output!r} is scaled already")
    for node in graph.node:
        node.input[:] = [raw if n == output else n for n in node.input]
        node.output[:] = [raw if n == output else n for n in node.output]
    graph.initializer.append(helper.make_tensor(FACTOR, TensorProto.FLOAT, [], [factor]))
    graph.node.append(helper.make_node("Mul", [raw, FACTOR], [output], NODE))
    try:
        checker.check_model(model)
    except checker.ValidationError as error:
        raise OnnxError(f"{name} is not valid when it is scaled: {str(error)[:300]}") from error
    out: bytes = model.SerializeToString(deterministic=True)
    return out

"""Correction of an ONNX file's scores: a bias and a factor, at the end of the graph."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from redistill import onnxwalk
from redistill.onnxports import OnnxError

__all__ = ["corrected"]

EPSILON = 1e-7
"""Probability below which a logarithm says nothing, as where graphs are evaluated."""


def corrected(
    name: str,
    data: bytes,
    *,
    output: str,
    kind: Literal["logits", "probabilities"],
    made: str,
    bias: NDArray[np.float32],
    factor: float,
) -> bytes:
    """A graph with one output of logits: (the old scores + bias) * factor.

    Parameters
    ----------
    name
        The file's, for messages.
    data
        What it holds, any graph that serves; its other outputs are dropped. The same arguments give
        the same bytes.
    output, kind
        The scores of the old one, ``(n, classes)``.
    made
        Name of the new output, unless something else in the graph has it.
    bias
        ``(classes,)``.
    factor
        Above 0.

    Raises
    ------
    OnnxError
        The graph has no such output, or is not valid with what is added.
    """
    from onnx import TensorProto, checker, helper

    model: Any = onnxwalk.parse(name, data)
    graph = model.graph
    old = next((o for o in graph.output if o.name == output), None)
    if old is None:
        raise OnnxError(f"{name}: it has no output {output!r}")
    taken = {n for node in graph.node for n in (*node.input, *node.output, node.name)}
    taken |= {t.name for t in (*graph.initializer, *graph.input)}

    def fresh(wanted: str) -> str:
        while wanted in taken:
            wanted += "_"
        taken.add(wanted)
        return wanted

    # a graph that is corrected a second time has an output and constants of these names already
    new = made if output == made else fresh(made)
    score = output
    if output == made:
        score = fresh(f"{made}_uncorrected")
        for node in graph.node:
            node.input[:] = [score if n == output else n for n in node.input]
            node.output[:] = [score if n == output else n for n in node.output]

    def add(operator: str, constant: Any = None, **attributes: Any) -> None:
        nonlocal score
        inputs = [score]
        if constant is not None:
            values = np.asarray(constant, np.float32)
            held = fresh(f"correct_{operator.lower()}_by")
            graph.initializer.append(
                helper.make_tensor(held, TensorProto.FLOAT, values.shape, values.ravel())
            )
            inputs.append(held)
        result = fresh(f"corrected_{operator.lower()}")
        graph.node.append(
            helper.make_node(
                operator, inputs, [result], fresh(f"correct_{operator.lower()}"), **attributes
            )
        )
        score = result

    if old.type.tensor_type.elem_type != TensorProto.FLOAT:
        add("Cast", to=TensorProto.FLOAT)
    if kind == "probabilities":
        add("Max", EPSILON)
        add("Log")
    add("Add", bias)
    add("Mul", factor)
    graph.node[-1].output[:] = [new]
    ports = helper.make_tensor_value_info(new, TensorProto.FLOAT, None)
    ports.type.tensor_type.shape.CopyFrom(old.type.tensor_type.shape)
    del graph.output[:]
    graph.output.append(ports)
    try:
        checker.check_model(model)
    except checker.ValidationError as error:
        raise OnnxError(f"{name} is not valid when it is corrected: {error!s:.300}") from error
    out: bytes = model.SerializeToString(deterministic=True)
    return out

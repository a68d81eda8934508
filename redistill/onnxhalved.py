"""Weights of an ONNX file in 16 bits: each behind a ``Cast``, computed with in 32."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from redistill import onnxwalk
from redistill.onnxports import OnnxError

__all__ = ["halved"]

SUFFIX = "_half"
LARGEST = float(np.finfo(np.float16).max)


def halved(name: str, data: bytes, operators: Collection[str]) -> bytes:
    """Store float32 constants that some operators multiply with as float16.

    Parameters
    ----------
    name
        The file's, for messages.
    data
        What it holds; the same arguments give the same bytes.
    operators
        Types of nodes whose constants are stored so: all their inputs but the first. What 16 bits
        cannot hold (above 65,504) stays as it is.

    Raises
    ------
    OnnxError
        The graph is not valid with them.
    """
    from onnx import TensorProto, checker, helper, numpy_helper

    model: Any = onnxwalk.parse(name, data)
    graph = model.graph
    multiplied = {n for node in graph.node if node.op_type in operators for n in node.input[1:]}
    casts = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        fits = values.dtype == np.float32 and np.abs(values).max(initial=0.0) <= LARGEST
        if tensor.name in multiplied and fits:
            whole, half = tensor.name, tensor.name + SUFFIX
            tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), half))
            casts.append(helper.make_node("Cast", [half], [whole], whole, to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    try:
        checker.check_model(model)
    except checker.ValidationError as error:
        raise OnnxError(f"{name} is not valid with 16-bit weights: {str(error)[:300]}") from error
    out: bytes = model.SerializeToString(deterministic=True)
    return out

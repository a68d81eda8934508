"""Class names that an ONNX file tells: of its classifier, its ZipMap, its weights or its
metadata."""

from __future__ import annotations

import ast
import json
from collections import deque
from collections.abc import Iterator
from typing import Any

from redistill import onnxwalk

__all__ = ["class_names"]

ATTRIBUTES = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")
"""Of the classifiers of ``ai.onnx.ml``, and of ZipMap."""
INITIALIZER = "classes"
"""What skl2onnx names a classifier's labels where there is no such operator; in front of it stands
the name of a step that holds others."""
PROPERTIES = ("classes", "class_names", "labels", "names", "id2label")
"""Of the metadata, as exporters write them: JSON or a literal of Python, a list or a mapping from
index to name."""
MOST = 10_000
"""Names; more are no classes."""


def class_names(name: str, data: bytes) -> tuple[str, ...]:
    """Names of the classes in the order of the scores; empty where the file does not tell them.

    Parameters
    ----------
    name
        The file's, for messages.
    data
        What it holds.

    Raises
    ------
    OnnxError
        It is no ONNX file.
    """
    model = onnxwalk.parse(name, data)
    with onnxwalk.guarded(name):
        widths = _widths(model)
        for found in _told(model):
            fits = not widths or len(found) in widths or (len(found) == 2 and 1 in widths)
            if fits and 2 <= len(found) <= MOST and len(set(found)) == len(found) and all(found):
                return found
    return ()


def _widths(model: Any) -> set[int]:
    """How many scores the outputs have for a row, where they declare it."""
    from onnx import TensorProto

    scores = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16}
    kinds = [o.type.tensor_type for o in model.graph.output if o.type.HasField("tensor_type")]
    tables = [k for k in kinds if k.elem_type in scores and len(k.shape.dim) == 2]
    widths = {k.shape.dim[1].dim_value for k in tables}
    return widths if 0 not in widths else set()


def _told(model: Any) -> Iterator[tuple[str, ...]]:
    nodes = list(onnxwalk.nodes(model))
    for node in nodes:
        if node.op_type == "ZipMap":
            yield from _of_node(node)
    yield from _of_outputs(model)
    for node in nodes:
        if node.op_type.endswith("Classifier"):
            yield from _of_node(node)
    yield from _of_weights(model)
    told = {p.key: p.value for p in model.metadata_props}
    for key in PROPERTIES:
        if key in told:
            yield _listed(told[key])


def _of_node(node: Any) -> Iterator[tuple[str, ...]]:
    for attribute in node.attribute:
        if attribute.name in ATTRIBUTES:
            texts = [s.decode(errors="replace") for s in attribute.strings]
            yield tuple(texts or map(str, attribute.ints))


def _of_outputs(model: Any) -> Iterator[tuple[str, ...]]:
    """By what stands nearest to the outputs: one-against-rest, stacking and the like hold
    classifiers of their own inside, of other classes."""
    made_by = {name: node for node in model.graph.node for name in node.output if name}
    weights = {t.name: t for t in model.graph.initializer if INITIALIZER in t.name}
    seen: set[str] = set()
    for output in model.graph.output:
        wave = deque([output.name])
        while wave:
            name = wave.popleft()
            if name in weights:
                yield from _of_tensor(weights[name])
            if name in seen or name not in made_by:
                continue
            seen.add(name)
            yield from _of_node(made_by[name])
            if not made_by[name].op_type.endswith("Classifier"):
                wave += made_by[name].input


def _of_weights(model: Any) -> Iterator[tuple[str, ...]]:
    for tensor in model.graph.initializer:
        if tensor.name.startswith(INITIALIZER):
            yield from _of_tensor(tensor)


def _of_tensor(tensor: Any) -> Iterator[tuple[str, ...]]:
    from onnx import TensorProto, numpy_helper

    if tensor.data_type in {TensorProto.INT32, TensorProto.INT64, TensorProto.STRING}:
        values = numpy_helper.to_array(tensor).reshape(-1)[: MOST + 1].tolist()
        yield tuple(v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in values)


def _listed(text: str) -> tuple[str, ...]:
    """Names of a list, or of a mapping whose keys are 0, 1, ...; empty: of neither.

    Examples
    --------
    >>> _listed('["no", "yes"]'), _listed("{0: 'cat', 1: 'dog'}"), _listed("x")
    (('no', 'yes'), ('cat', 'dog'), ())
    """
    found: Any = None
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
            break
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    if isinstance(found, dict):
        by_index = {str(k): v for k, v in found.items()}
        found = [by_index.get(str(i)) for i in range(len(by_index))]
    if not isinstance(found, list) or not all(isinstance(v, str | int) for v in found):
        return ()
    return tuple(map(str, found))

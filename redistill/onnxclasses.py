"""Class names that an ONNX file tells: of its classifier, its ZipMap, its weights or its
metadata."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from typing import Any

from redistill import onnxwalk

__all__ = ["class_names"]

ATTRIBUTES = ("classlabels_strings", "classlabels_int64s", "classlabels_ints")
"""Of the classifiers of ``ai.onnx.ml``, and of ZipMap."""
INITIALIZER = "classes"
"""How skl2onnx begins the name of a classifier's labels where there is no such operator."""
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
        for found in _told(model):
            if 2 <= len(found) <= MOST and len(set(found)) == len(found) and all(found):
                return found
    return ()


def _told(model: Any) -> Iterator[tuple[str, ...]]:
    nodes = list(onnxwalk.nodes(model))
    for node in sorted(nodes, key=lambda n: n.op_type != "ZipMap"):
        if node.op_type == "ZipMap" or node.op_type.endswith("Classifier"):
            for attribute in node.attribute:
                if attribute.name in ATTRIBUTES:
                    texts = [s.decode(errors="replace") for s in attribute.strings]
                    yield tuple(texts or map(str, attribute.ints))
    yield from _of_weights(model)
    told = {p.key: p.value for p in model.metadata_props}
    for key in PROPERTIES:
        if key in told:
            yield _listed(told[key])


def _of_weights(model: Any) -> Iterator[tuple[str, ...]]:
    from onnx import TensorProto, numpy_helper

    kinds = {TensorProto.INT32, TensorProto.INT64, TensorProto.STRING}
    for tensor in model.graph.initializer:
        if tensor.name.startswith(INITIALIZER) and tensor.data_type in kinds:
            values = numpy_helper.to_array(tensor).reshape(-1)[: MOST + 1].tolist()
            yield tuple(
                v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in values
            )


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

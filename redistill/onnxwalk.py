"""Walk over an ONNX file: every graph, node, attribute and tensor of it, wherever it can hide.

Bodies of functions that the file brings, defaults of their attributes, and graphs inside nodes are
walked like the graph itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redistill.onnxports import OnnxError

__all__ = ["called", "guarded", "nodes", "parse", "tensors"]

LONGEST = 80
"""Characters of a name in a message: a file says what it likes."""


OTHERS = (
    (b"version https://git-lfs", "a pointer of Git LFS: run git lfs pull"),
    (b"PK\x03\x04", "a zip archive (torch.save, .keras): export the model as ONNX"),
    (b"\x80", "a pickle: export the model as ONNX"),
    (b"\x89HDF", "an HDF5 file (Keras): export the model as ONNX"),
    (b"\x1f\x8b", "packed with gzip: unpack it"),
    (b"<", "a web page or XML: download the file itself"),
    (b"{", "JSON: export the model as ONNX"),
)
"""What people name in place of an ONNX file, by its first bytes, and what to do."""


@contextmanager
def guarded(name: str) -> Iterator[None]:
    """Whatever reading a file raises is a fault of the file: names that are no text, attributes of
    another type than their operator's, numbers that no array has."""
    try:
        yield
    except OnnxError:
        raise
    except Exception as error:
        raise OnnxError(
            f"{name} is no valid ONNX file: {type(error).__name__}: {str(error)[:200]}"
        ) from error


def parse(name: str, data: bytes) -> Any:
    """The ``ModelProto`` of a file.

    Raises
    ------
    OnnxError
        It is none, nests deeper than protobuf reads (100 levels), or its graph is empty.
    """
    import onnx

    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf raises classes of its own, by version
        other = next((what for start, what in OTHERS if data.startswith(start)), None)
        why = str(error)[:200] if other is None else f"it is {other}"
        raise OnnxError(f"{name} is no readable ONNX file: {why}") from error
    if not model.graph.node or not model.graph.output:
        raise OnnxError(f"{name} is no ONNX model: its graph is empty")
    return model


def called(node: Any) -> str:
    """A node in a message: what it computes, and its name or first output."""
    name = node.name or next(iter(node.output), "")
    return f"{node.op_type[:LONGEST]} {name[:LONGEST]!r}"


def nodes(model: Any) -> Iterator[Any]:
    """Every node."""
    for graph in _graphs(model):
        yield from graph.node


def tensors(model: Any) -> Iterator[Any]:
    """Every tensor; of sparse ones the values and the indices."""
    for graph in _graphs(model):
        yield from getattr(graph, "initializer", ())  # functions have none
        sparse = [*getattr(graph, "sparse_initializer", ())]
        for attribute in _attributes(graph):
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                sparse.append(attribute.sparse_tensor)
            sparse.extend(attribute.sparse_tensors)
        for tensor in sparse:
            yield tensor.values
            yield tensor.indices


def _graphs(model: Any) -> Iterator[Any]:
    """The graph, bodies of functions, and every graph inside an attribute of those."""
    pending = [model.graph, *model.functions]
    while pending:
        graph = pending.pop()
        yield graph
        for attribute in _attributes(graph):
            if attribute.HasField("g"):
                pending.append(attribute.g)
            pending.extend(attribute.graphs)


def _attributes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield from node.attribute
    yield from getattr(graph, "attribute_proto", ())  # of a function: defaults

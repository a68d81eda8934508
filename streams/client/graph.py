"""What an ONNX file may be before anything runs it: weights inside, known operators, sane size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redistill.streams.errors import ReleaseError

MAX_MODEL_BYTES = 512 * 1024 * 1024
"""Compressed models are small; ONNX itself ends at 2 GiB."""

MIN_OPSET, MAX_OPSET = 7, 25
"""Of the default domain: ONNX Runtime goes down to 7; newer ones are refused until tested."""

STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
MICROSOFT_OPS = frozenset(
    [
        "Attention",
        "BiasGelu",
        "DequantizeLinear",
        "DynamicQuantizeMatMul",
        "FastGelu",
        "FusedGemm",
        "FusedMatMul",
        "Gelu",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QAttention",
        "QGemm",
        "QLinearAdd",
        "QLinearAveragePool",
        "QLinearConcat",
        "QLinearGlobalAveragePool",
        "QLinearLeakyRelu",
        "QLinearMul",
        "QLinearSigmoid",
        "QLinearSoftmax",
        "QLinearWhere",
        "QuantizeLinear",
        "QuickGelu",
        "SkipLayerNormalization",
        "SimplifiedLayerNormalization",
        "SkipSimplifiedLayerNormalization",
    ]
)
"""Operators of ``com.microsoft`` that quantization and graph fusion make."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Port:
    """An input or output of a graph."""

    name: str
    element: str
    """``FLOAT``, ``INT64``, ... as ONNX names it."""
    shape: tuple[int | None, ...]
    """``None``: any size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphFacts:
    """What a checked file holds."""

    bytes: int
    opset: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    operators: tuple[str, ...]
    """Distinct operators as ``domain:name``, sorted; the default domain is empty."""


def check_onnx(path: Path, *, max_bytes: int = MAX_MODEL_BYTES) -> GraphFacts:
    """Read an ONNX file without executing it, and refuse what a release may not hold.

    Parameters
    ----------
    path
        The file.
    max_bytes
        Largest size that is accepted.

    Raises
    ------
    ReleaseError
        It is missing, too large, corrupt, has external data, or operators that are not on the list.
    """
    import onnx

    if not path.is_file():
        raise ReleaseError(f"{path.name} does not exist or is no file")
    size = path.stat().st_size
    if not 0 < size <= max_bytes:
        raise ReleaseError(f"{path.name} has {size} bytes; 1 to {max_bytes} are allowed")
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except Exception as error:  # protobuf raises classes of its own, by version
        raise ReleaseError(f"{path.name} is no readable ONNX file: {error}") from error
    if not model.graph.node or not model.graph.output:
        raise ReleaseError(f"{path.name} is no ONNX model: its graph is empty")
    opset = _check_domains(path.name, model)
    external = sorted({t.name for t in _tensors(model) if t.data_location == t.EXTERNAL})
    if external:
        raise ReleaseError(
            f"{path.name} keeps {len(external)} tensors outside the file ({external[0]!r} is one): "
            "save it with its weights inside"
        )
    weights = {t.name for t in model.graph.initializer}
    return GraphFacts(
        bytes=size,
        opset=opset,
        inputs=tuple(_port(v) for v in model.graph.input if v.name not in weights),
        outputs=tuple(_port(v) for v in model.graph.output),
        operators=tuple(sorted({f"{n.domain}:{n.op_type}" for n in _nodes(model)})),
    )


def _check_domains(name: str, model: Any) -> int:
    import onnx

    own = {(f.domain, f.name) for f in model.functions}
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if not MIN_OPSET <= opset <= MAX_OPSET:
        raise ReleaseError(f"{name} uses opset {opset}; {MIN_OPSET} to {MAX_OPSET} are supported")
    unknown = set()
    for node in _nodes(model):
        if (node.domain, node.op_type) in own:
            continue
        if node.domain == "com.microsoft":
            known = node.op_type in MICROSOFT_OPS
        else:
            domain = "" if node.domain == "ai.onnx" else node.domain
            known = domain in STANDARD_DOMAINS and onnx.defs.has(node.op_type, domain)
        if not known:
            unknown.add(f"{node.domain or 'ai.onnx'}:{node.op_type}")
    if unknown:
        raise ReleaseError(f"{name} uses operators that are not allowed: {sorted(unknown)}")
    if len(model.training_info):
        raise ReleaseError(f"{name} holds training graphs: export it for inference")
    return int(opset)


def _graphs(model: Any) -> Iterator[Any]:
    """The graph, the bodies of functions, and every graph inside a node of those."""
    pending = [model.graph, *model.functions]
    while pending:
        graph = pending.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    pending.append(attribute.g)
                pending.extend(attribute.graphs)


def _nodes(model: Any) -> Iterator[Any]:
    for graph in _graphs(model):
        yield from graph.node


def _tensors(model: Any) -> Iterator[Any]:
    """Every tensor of the file, wherever it can hide."""
    for graph in _graphs(model):
        yield from getattr(graph, "initializer", ())  # functions have none
        for sparse in getattr(graph, "sparse_initializer", ()):
            yield sparse.values
            yield sparse.indices
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
                sparse_values = [*attribute.sparse_tensors]
                if attribute.HasField("sparse_tensor"):
                    sparse_values.append(attribute.sparse_tensor)
                for sparse in sparse_values:
                    yield sparse.values
                    yield sparse.indices


def _port(value: Any) -> Port:
    import onnx

    tensor = value.type.tensor_type
    return Port(
        name=value.name,
        element=onnx.TensorProto.DataType.Name(tensor.elem_type),
        shape=tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim),
    )

"""ONNX files: opened, walked and checked here and nowhere else; no room reads one otherwise.

One check with one answer: a file that was registered is not refused when it is repaired, packed or
served. ``onnx`` and ONNX Runtime are imported when a file is opened: a service that only logs has
neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redistill.onnxports import OnnxError, Port

__all__ = ["MAX_BYTES", "GraphFacts", "check", "check_bytes", "operator_types", "read", "session"]

MAX_BYTES = 512 * 1024 * 1024
"""Compressed models are small, and the limited children in which a file is first loaded have no
memory for more."""

MIN_OPSET, MAX_OPSET = 7, 25
"""Of the standard operators: ONNX Runtime goes down to 7; newer ones are refused until tested."""

DEFAULT_DOMAINS = frozenset({"", "ai.onnx"})
"""Two names of the domain of the standard operators."""

STANDARD_DOMAINS = DEFAULT_DOMAINS | {"ai.onnx.ml"}

MICROSOFT_OPERATORS = frozenset(
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

CPU = ("CPUExecutionProvider",)


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphFacts:
    """What a checked file holds."""

    bytes: int
    opset: int | None
    """Of the standard operators; ``None``: it uses none of them."""
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    operators: tuple[str, ...]
    """Distinct operators as ``domain:name``, sorted; the domain of the standard ones is empty."""


def read(path: Path) -> bytes:
    """The bytes of a file that may be a model, by its size.

    Raises
    ------
    OnnxError
        It is missing, empty or too large, or cannot be read.
    """
    try:
        if not path.is_file():
            raise OnnxError(f"{path.name} does not exist or is no file")
        size = path.stat().st_size
        if not 0 < size <= MAX_BYTES:
            raise OnnxError(f"{path.name} has {size} bytes; 1 to {MAX_BYTES} are allowed")
        return path.read_bytes()
    except OSError as error:
        raise OnnxError(f"{path.name} cannot be read: {error.strerror}") from error


def check(path: Path) -> GraphFacts:
    """Read an ONNX file without executing it, and refuse what must not be loaded.

    Raises
    ------
    OnnxError
        It is missing, too large, corrupt, has external data, or operators that are not on the list.
    """
    return check_bytes(path.name, read(path))


def check_bytes(name: str, data: bytes) -> GraphFacts:
    """:func:`check` for a file that was read already.

    Parameters
    ----------
    name
        The file's, for messages.
    data
        What it holds.
    """
    model = _parse(name, data)
    opset = _opset(name, model)
    operators = _operators(name, model)
    if len(model.training_info):
        raise OnnxError(f"{name} holds training graphs: export it for inference")
    external = sorted({t.name for t in _tensors(model) if t.data_location == t.EXTERNAL})
    if external:
        raise OnnxError(
            f"{name} keeps {len(external)} tensors outside the file ({external[0]!r} is one): "
            "save it with its weights inside (torch: external_data=False)"
        )
    weights = {t.name for t in model.graph.initializer}
    inputs = tuple(_port(v) for v in model.graph.input if v.name not in weights)
    if not inputs:
        raise OnnxError(f"{name} is no ONNX model: its graph takes no input")
    return GraphFacts(
        bytes=len(data),
        opset=opset,
        inputs=inputs,
        outputs=tuple(_port(v) for v in model.graph.output),
        operators=operators,
    )


def operator_types(path: Path) -> tuple[str, ...]:
    """Types of the operators, without domain, sorted, each once, of what :func:`session` wrote as
    ``optimised``.

    Raises
    ------
    OnnxError
        It is no ONNX file.
    """
    model = _parse(path.name, path.read_bytes())
    return tuple(sorted({n.op_type for n in _nodes(model.graph, *model.functions)}))


def session(
    model: Path | bytes,
    *,
    threads: int = 1,
    providers: Sequence[str] = CPU,
    optimised: Path | None = None,
) -> Any:
    """An ``InferenceSession`` of ONNX Runtime for a file that was checked, or for its bytes.

    Parameters
    ----------
    threads
        Threads of one call. They do not spin while they wait: the cores belong to others, too.
    providers
        Execution providers, the preferred one first.
    optimised
        Where ONNX Runtime writes what it made of the graph; ``None``: nowhere.

    Raises
    ------
    OnnxError
        ONNX Runtime refuses it.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is raised; nothing need be printed as well
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
        # the level at which integer operators are fused; beyond it files fit one machine only
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    source = model if isinstance(model, bytes) else str(model)
    try:
        return ort.InferenceSession(source, options, providers=list(providers))
    except Exception as error:  # classes of a C++ module, without a common base
        raise OnnxError(f"ONNX Runtime cannot load it: {error}") from error


def _parse(name: str, data: bytes) -> Any:
    import onnx

    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf raises classes of its own, by version
        raise OnnxError(f"{name} is no readable ONNX file: {error}") from error
    if not model.graph.node or not model.graph.output:
        raise OnnxError(f"{name} is no ONNX model: its graph is empty")
    return model


def _opset(name: str, model: Any) -> int | None:
    versions = {o.version for o in model.opset_import if o.domain in DEFAULT_DOMAINS}
    if wrong := sorted(v for v in versions if not MIN_OPSET <= v <= MAX_OPSET):
        raise OnnxError(f"{name} uses opset {wrong[0]}; {MIN_OPSET} to {MAX_OPSET} are supported")
    if not versions:  # fine where nothing depends on it: trees are of a domain of their own
        if any(n.domain in DEFAULT_DOMAINS for n in _nodes(model.graph)):
            raise OnnxError(f"{name} uses standard operators and does not say of which opset")
        return None
    return int(max(versions))


def _operators(name: str, model: Any) -> tuple[str, ...]:
    import onnx

    own = {(f.domain, f.name) for f in model.functions}
    used = {(n.domain, n.op_type) for n in _nodes(model.graph, *model.functions)}

    def known(domain: str, operator: str) -> bool:
        if domain == "com.microsoft":
            return operator in MICROSOFT_OPERATORS
        standard = "" if domain in DEFAULT_DOMAINS else domain
        return domain in STANDARD_DOMAINS and onnx.defs.has(operator, standard)

    unknown = sorted(f"{d or 'ai.onnx'}:{o}" for d, o in used - own if not known(d, o))
    if unknown:
        raise OnnxError(f"{name} uses operators that are not allowed: {unknown}")
    return tuple(sorted({f"{'' if d in DEFAULT_DOMAINS else d}:{o}" for d, o in used}))


def _graphs(*roots: Any) -> Iterator[Any]:
    """The given graphs and bodies of functions, and every graph inside a node of those."""
    pending = list(roots)
    while pending:
        graph = pending.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    pending.append(attribute.g)
                pending.extend(attribute.graphs)


def _nodes(*roots: Any) -> Iterator[Any]:
    for graph in _graphs(*roots):
        yield from graph.node


def _tensors(model: Any) -> Iterator[Any]:
    """Every tensor of the file, wherever it can hide."""
    for graph in _graphs(model.graph, *model.functions):
        yield from getattr(graph, "initializer", ())  # functions have none
        sparse = [*getattr(graph, "sparse_initializer", ())]
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
                if attribute.HasField("sparse_tensor"):
                    sparse.append(attribute.sparse_tensor)
                sparse.extend(attribute.sparse_tensors)
        for tensor in sparse:
            yield tensor.values
            yield tensor.indices


def _port(value: Any) -> Port:
    import onnx

    tensor = value.type.tensor_type
    return Port(
        name=value.name,
        element=onnx.TensorProto.DataType.Name(tensor.elem_type),
        shape=tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim),
    )

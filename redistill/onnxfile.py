"""ONNX files: opened, walked and checked here and nowhere else; no room reads one otherwise.

One check with one answer: a file that was registered is not refused when it is repaired, packed or
served. ``onnx`` and ONNX Runtime are imported when a file is opened: a service that only logs has
neither.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redistill import onnxwalk
from redistill.onnxports import OnnxError, Port

__all__ = [
    "DEFAULT_DOMAINS",
    "MAX_BYTES",
    "GraphFacts",
    "check",
    "check_bytes",
    "operator_types",
    "ports",
    "read",
    "session",
]

MAX_BYTES = 512 * 1024 * 1024
"""Compressed models are small, and the limited children in which a file is first loaded have no
memory for more."""

MIN_OPSET, MAX_OPSET = 7, 25
"""Of the standard operators: ONNX Runtime goes down to 7; newer ones are refused until tested."""

MAX_IR = 14
"""Version of the file format itself that ONNX Runtime reads."""

BITS = (
    dict.fromkeys((1, 6, 12), 32)  # float, int32, uint32
    | dict.fromkeys((7, 11, 13, 14), 64)  # int64, double, uint64, complex64
    | dict.fromkeys((4, 5, 10, 16), 16)  # uint16, int16, float16, bfloat16
    | dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 8)  # uint8, int8, bool, float8
    | {15: 128, 21: 4, 22: 4, 23: 4, 25: 2, 26: 2, 27: 6, 28: 6}  # complex128, less than a byte
)
"""Of an element, by ``TensorProto.DataType``."""

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
    with onnxwalk.guarded(name):
        return _checked(name, data)


def _checked(name: str, data: bytes) -> GraphFacts:
    model = onnxwalk.parse(name, data)
    if model.ir_version > MAX_IR:
        raise OnnxError(
            f"{name} is written in version {model.ir_version} of the file format; up to {MAX_IR} is"
            " supported: export it with an older onnx, or set model.ir_version = 10 and save it"
        )
    opset = _opset(name, model)
    operators = _operators(name, model)
    if len(model.training_info):
        raise OnnxError(f"{name} holds training graphs: export it for inference")
    external = set()
    for tensor in onnxwalk.tensors(model):
        if tensor.data_location == tensor.EXTERNAL:
            external.add(tensor.name)
        else:
            _check_tensor(name, tensor)
    if external:
        raise OnnxError(
            f"{name} keeps {len(external)} tensors outside the file ({min(external)[:80]!r} is"
            " one): save it with its weights inside (torch: external_data=False; any file:"
            ' onnx.save(onnx.load("model.onnx"), "whole.onnx"))'
        )
    inputs, outputs = ports(model)
    if not inputs:
        raise OnnxError(f"{name} is no ONNX model: its graph takes no input")
    return GraphFacts(
        bytes=len(data), opset=opset, inputs=inputs, outputs=outputs, operators=operators
    )


def ports(model: Any) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Inputs, without weights that are listed among them, and outputs of a ``ModelProto``."""
    weights = {t.name for t in model.graph.initializer}
    return (
        tuple(_port(v) for v in model.graph.input if v.name not in weights),
        tuple(_port(v) for v in model.graph.output),
    )


def operator_types(path: Path) -> tuple[str, ...]:
    """Types of the operators, without domain, sorted, each once, of what :func:`session` wrote as
    ``optimised``.

    Raises
    ------
    OnnxError
        It is no ONNX file.
    """
    model = onnxwalk.parse(path.name, path.read_bytes())
    return tuple(sorted({n.op_type for n in onnxwalk.nodes(model)}))


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


def _opset(name: str, model: Any) -> int | None:
    imports = [*model.opset_import, *(o for f in model.functions for o in f.opset_import)]
    versions = {o.version for o in imports if o.domain in DEFAULT_DOMAINS}
    if wrong := sorted(v for v in versions if not MIN_OPSET <= v <= MAX_OPSET):
        raise OnnxError(
            f"{name} uses opset {wrong[0]}; {MIN_OPSET} to {MAX_OPSET} are supported: export it"
            " with opset_version=17 (skl2onnx: target_opset=17)"
        )
    if not versions:  # fine where nothing depends on it: trees are of a domain of their own
        if any(n.domain in DEFAULT_DOMAINS for n in model.graph.node):
            raise OnnxError(f"{name} uses standard operators and does not say of which opset")
        return None
    return int(max(versions))


def _operators(name: str, model: Any) -> tuple[str, ...]:
    import onnx

    own = {(f.domain, f.name) for f in model.functions}
    used = {(n.domain, n.op_type) for n in onnxwalk.nodes(model)}

    def known(domain: str, operator: str) -> bool:
        if domain == "com.microsoft":
            return operator in MICROSOFT_OPERATORS
        standard = "" if domain in DEFAULT_DOMAINS else domain
        return domain in STANDARD_DOMAINS and onnx.defs.has(operator, standard)

    unknown = sorted(f"{d or 'ai.onnx'}:{o}"[:80] for d, o in used - own if not known(d, o))
    if unknown:
        raise OnnxError(f"{name} uses operators that are not allowed: {unknown[:8]}")
    return tuple(sorted({f"{'' if d in DEFAULT_DOMAINS else d}:{o}" for d, o in used}))


def _check_tensor(name: str, tensor: Any) -> None:
    """Refuse a tensor that says it is larger than what the file holds of it."""
    bits = BITS.get(tensor.data_type)
    if any(d < 0 for d in tensor.dims):
        raise OnnxError(f"{name}: tensor {tensor.name[:80]!r} has a negative size")
    if bits is None:  # text; or a type that ONNX Runtime will not know either
        held, wanted = len(tensor.string_data), math.prod(tensor.dims)
    elif tensor.raw_data:
        held, wanted = len(tensor.raw_data), -(-math.prod(tensor.dims) * bits // 8)
    else:  # numbers in lists: what is smaller than a byte is packed
        fields = (tensor.float_data, tensor.int32_data, tensor.int64_data)
        held = sum(map(len, (*fields, tensor.double_data, tensor.uint64_data)))
        wanted = -(-math.prod(tensor.dims) * bits // 8) if bits < 8 else math.prod(tensor.dims)
    if held < wanted:
        raise OnnxError(
            f"{name}: tensor {tensor.name[:80]!r} should have the sizes {list(tensor.dims)[:8]},"
            " and the file does not hold so much: it was cut off, or made to ask for memory"
        )


def _port(value: Any) -> Port:
    import onnx

    tensor = value.type.tensor_type
    return Port(
        name=value.name,
        element=onnx.TensorProto.DataType.Name(tensor.elem_type),
        shape=tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim),
    )

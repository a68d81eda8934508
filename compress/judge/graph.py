"""ONNX graphs as black boxes: checked before they are loaded, then asked for logits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto

from redistill.compress.errors import BadModel
from redistill.compress.judge.output_kind import misdeclared
from redistill.compress.plan import GraphSpec

OPSETS = range(7, 26)
"""Opsets of the standard domain that are accepted: what ONNX Runtime 1.22 and later implement."""
DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Where operators may come from: the standard, classical models, ONNX Runtime's own (int8)."""
MAX_FILE_BYTES = 1 << 30
"""A tabular student of a gigabyte is a mistake; protobuf ends at two anyway."""
BATCH = 512
"""Rows per call when many are asked for: bounds the memory of activations. Dynamic int8 takes its
ranges from the batch, so that a large one is its hard case."""

INTEGER_OPERATORS = frozenset(
    {
        "ConvInteger",
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QAttention",
        "QGemm",
        "QLinearConv",
        "QLinearMatMul",
    }
)
"""What runs on integers. Quantize and dequantize nodes alone compute nothing in int8."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """How one graph is called, and what its answer means."""

    features: tuple[str, ...]
    classes: int
    output: str | None = None
    """``None``: the only one."""
    output_kind: Literal["logits", "probabilities"] = "logits"

    @classmethod
    def student(cls, graph: GraphSpec) -> Call:
        """How a model that somebody brought is called."""
        return cls(
            features=graph.features,
            classes=len(graph.classes),
            output=graph.output,
            output_kind=graph.output_kind,
        )

    @classmethod
    def made(cls, graph: GraphSpec) -> Call:
        """How a student that was made here is called."""
        return cls(features=graph.features, classes=len(graph.classes))

    @classmethod
    def teacher(cls, graph: GraphSpec) -> Call:
        """How the teacher is called."""
        return cls(
            features=graph.features,
            classes=len(graph.classes),
            output=graph.teacher_output,
            output_kind=graph.teacher_output_kind,
        )


def _graphs(model: Any) -> Iterator[Any]:
    """The graph, the bodies of functions, and the graphs inside their nodes (``If``, ``Loop``)."""
    pending = [model.graph, *model.functions]
    while pending:
        graph = pending.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                pending += attribute.graphs
                if attribute.HasField("g"):
                    pending.append(attribute.g)


def _nodes(model: Any) -> Iterator[Any]:
    for graph in _graphs(model):
        yield from graph.node


def _tensors(model: Any) -> Iterator[Any]:
    """Every tensor of the file, wherever it can hide."""
    for graph in _graphs(model):
        yield from getattr(graph, "initializer", ())  # functions have none
        sparse = [*getattr(graph, "sparse_initializer", ())]
        for node in graph.node:
            for attribute in node.attribute:
                yield from attribute.tensors
                if attribute.HasField("t"):
                    yield attribute.t
                sparse += attribute.sparse_tensors
                if attribute.HasField("sparse_tensor"):
                    sparse.append(attribute.sparse_tensor)
        for tensor in sparse:
            yield tensor.values
            yield tensor.indices


def operators(path: Path) -> tuple[str, ...]:
    """Operator types of a graph, sorted, each once."""
    return tuple(sorted({n.op_type for n in _nodes(_parse(path))}))


def _parse(path: Path) -> Any:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise BadModel(f"{path.name} cannot be read ({error.strerror})") from error
    if size == 0 or size > MAX_FILE_BYTES:
        raise BadModel(f"{path.name} has {size} bytes: 1 to {MAX_FILE_BYTES} are accepted")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's errors, ValueError, OSError: all the same here
        raise BadModel(f"{path.name} is not an ONNX file, or it is damaged ({error})") from error
    if not model.graph.node:
        raise BadModel(f"{path.name} is not an ONNX file, or it is damaged (no node in its graph)")
    return model


def check_file(path: Path) -> None:
    """Refuse what must not be loaded: looks at the file only.

    Raises
    ------
    BadModel
        Not an ONNX file, weights outside the file, operators or an opset that are not on the list.
    """
    model = _parse(path)
    outside = [t.name for t in _tensors(model) if t.data_location == TensorProto.EXTERNAL]
    if outside:
        raise BadModel(
            f"{path.name} keeps {len(outside)} tensors in another file ({outside[0]!r}): export it"
            " with its weights inside (torch: external_data=False)"
        )
    own = {f.domain for f in model.functions}
    used = {n.domain for n in _nodes(model)}
    if unknown := sorted(used - DOMAINS - own):
        names = sorted({n.op_type for n in _nodes(model) if n.domain in unknown})
        raise BadModel(
            f"{path.name} uses operators of unknown origin {', '.join(map(repr, unknown))}:"
            f" {', '.join(names[:5])}. Accepted are {', '.join(sorted(map(repr, DOMAINS)))}"
        )
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version not in OPSETS:
            raise BadModel(
                f"{path.name} uses opset {opset.version}; {OPSETS[0]} to {OPSETS[-1]} are accepted"
            )


def session(path: Path, *, optimised: Path | None = None) -> ort.InferenceSession:
    """Load a graph for one CPU thread.

    Parameters
    ----------
    optimised
        Where ONNX Runtime writes what it made of the graph; ``None``: nowhere.

    Raises
    ------
    BadModel
        ONNX Runtime refuses it.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised, and not printed as well
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
        # the level at which integer operators are fused; beyond it files fit one machine only
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no public base class
        raise BadModel(f"{path.name}: ONNX Runtime cannot load it: {str(error)[:300]}") from error


class Graph:
    """A loaded graph with one float32 input ``(n, F)``, or one float32 input per feature.

    Parameters
    ----------
    path
        The file.
    call
        How it is called.
    name
        In messages; the file's by default.

    Raises
    ------
    BadModel
        It cannot be loaded, or its inputs and outputs are not what ``call`` says.
    """

    def __init__(self, path: Path, call: Call, *, name: str | None = None) -> None:
        self.name = name or path.name
        self.call = call
        self._session = session(path)
        inputs = self._session.get_inputs()
        if wrong := [f"{i.name} is {i.type}" for i in inputs if i.type != "tensor(float)"]:
            raise BadModel(f"{self.name}: inputs must be float32: {', '.join(wrong)}")
        self._names = [i.name for i in inputs]
        width = len(call.features)
        if len(inputs) == 1 and (width > 1 or self._names[0] not in call.features):
            shape = inputs[0].shape
            if len(shape) != 2 or (isinstance(shape[1], int) and shape[1] != width):
                raise BadModel(
                    f"{self.name}: its input {self._names[0]!r} has shape {tuple(shape)}, expected"
                    f" (n, {width}), a column for each feature in the order of the schema"
                )
            if isinstance(shape[0], int):
                raise BadModel(
                    f"{self.name}: its input is fixed to {shape[0]} rows; export it with a dynamic"
                    " batch"
                )
            self._single = True
        elif set(self._names) == set(call.features):
            self._single = False
            self._rank = {i.name: len(i.shape) for i in inputs}
        else:
            raise BadModel(
                f"{self.name} has inputs {_some(self._names)}: expected one float32 input"
                f" (n, {width}), or one for each feature, named like it ({_some(call.features)})"
            )
        outputs = [o.name for o in self._session.get_outputs()]
        if call.output is None and len(outputs) != 1:
            raise BadModel(
                f"{self.name} has {len(outputs)} outputs ({_some(outputs)}): name the one that"
                " holds the classes ([model] output, [teacher] output)"
            )
        if call.output is not None and call.output not in outputs:
            raise BadModel(f"{self.name} has no output {call.output!r}; it has {_some(outputs)}")
        self._output = call.output or outputs[0]

    def _feed(self, x: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        if self._single:
            return {self._names[0]: x}
        return {
            name: x[:, j : j + 1] if self._rank[name] == 2 else np.ascontiguousarray(x[:, j])
            for j, name in enumerate(self.call.features)
        }

    def raw(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """The graph's output for ``(n, F)`` rows, in one call: ``(n, classes)``.

        Raises
        ------
        BadModel
            The graph fails, or answers with another shape.
        """
        try:
            (out,) = self._session.run([self._output], self._feed(x))
        except Exception as error:  # onnxruntime's exceptions share no public base class
            raise BadModel(f"{self.name} fails on {len(x)} rows: {str(error)[:300]}") from error
        if getattr(out, "shape", None) != (len(x), self.call.classes):
            raise BadModel(
                f"{self.name}: output {self._output!r} has shape {getattr(out, 'shape', type(out))}"
                f" for {len(x)} rows, expected ({len(x)}, {self.call.classes}): one score per class"
            )
        return np.asarray(out, np.float32)

    def outputs(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """The graph's output for any number of rows, in batches: ``(n, classes)``."""
        if not len(x):
            return np.empty((0, self.call.classes), np.float32)
        return np.concatenate([self.raw(x[i : i + BATCH]) for i in range(0, len(x), BATCH)])

    def logits(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits; of a graph that answers with probabilities their logarithm: ``(n, classes)``."""
        out = self.outputs(x)
        if self.call.output_kind == "probabilities":
            out = np.log(np.clip(out, 1e-7, 1.0))
        return out

    def classes(self, x: NDArray[np.float32]) -> NDArray[np.int64]:
        """Index of the class with the largest score: ``(n,)``; -1 where the answer is not
        finite."""
        return answers(self.outputs(x))

    def self_test(self, x: NDArray[np.float32]) -> None:
        """Run batches of 1, 2 and 7 rows: each must answer alone what it answers in company.

        Raises
        ------
        BadModel
            An answer is not finite, not of the declared kind, or depends on the other rows of its
            batch.
        """
        rows = np.resize(x, (7, x.shape[1])).astype(np.float32)
        whole = self.raw(rows)
        if not np.isfinite(whole).all():
            raise BadModel(
                f"{self.name} answers NaN or infinity; missing values (NaN) and unseen categories"
                " (-1) must be handled inside the graph"
            )
        if (wrong := misdeclared(whole, self.call.output_kind)) is not None:
            raise BadModel(f"{self.name}: {wrong}")
        for n in (1, 2):
            part = self.raw(rows[:n])
            # dynamic int8 takes its ranges from the batch: the answers differ a little then
            if not np.allclose(part, whole[:n], rtol=0.1, atol=0.1 * float(np.abs(whole).max())):
                raise BadModel(f"{self.name} answers a row differently in a batch of {n} than of 7")


def answers(outputs: NDArray[np.float32]) -> NDArray[np.int64]:
    """Index of the largest score of each row, -1 where scores are not finite."""
    finite = np.isfinite(outputs).all(axis=1)
    return np.where(finite, np.argmax(np.where(np.isfinite(outputs), outputs, 0), axis=1), -1)


def _some(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(repr(n) for n in every[:4]) + (", ..." if len(every) > 4 else "")

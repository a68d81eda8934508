"""ONNX graphs as black boxes: checked before they are loaded, then asked for logits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import onnx  # noqa: F401 - loaded while a child waits for its request, not when it has one
import onnxruntime as ort
from numpy.typing import NDArray

from redistill import onnxfile, onnxports
from redistill.compress.errors import BadModel
from redistill.compress.judge.answers import largest
from redistill.compress.judge.output_kind import misdeclared
from redistill.compress.plan import GraphSpec
from redistill.onnxports import OnnxError

if TYPE_CHECKING:  # pyarrow, which nobody has a use for who only loads a graph
    from redistill.compress.rows import Rows

__all__ = ["INTEGER_OPERATORS", "Graph", "GraphCall", "check_file", "session"]

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
class GraphCall:
    """How one graph is called, and what its answer means."""

    features: tuple[str, ...]
    classes: int
    output: str | None = None
    """``None``: the only one."""
    output_kind: Literal["logits", "probabilities"] = "logits"

    @classmethod
    def student(cls, graph: GraphSpec) -> GraphCall:
        """How a model that somebody brought is called."""
        return cls(
            features=graph.features,
            classes=len(graph.classes),
            output=graph.output,
            output_kind=graph.output_kind,
        )

    @classmethod
    def made(cls, graph: GraphSpec) -> GraphCall:
        """How a student that was made here is called."""
        return cls(features=graph.features, classes=len(graph.classes))

    @classmethod
    def teacher(cls, graph: GraphSpec) -> GraphCall:
        """How the teacher is called."""
        return cls(
            features=graph.features,
            classes=len(graph.classes),
            output=graph.teacher_output,
            output_kind=graph.teacher_output_kind,
        )


def check_file(path: Path) -> None:
    """Refuse what must not be loaded: looks at the file only.

    Raises
    ------
    BadModel
        See ``redistill.onnxfile.check``.
    """
    try:
        onnxfile.check(path)
    except OnnxError as error:
        raise BadModel(str(error)) from error


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
    try:
        return onnxfile.session(path, optimised=optimised)
    except OnnxError as error:
        raise BadModel(f"{path.name}: {str(error)[:330]}") from error


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

    def __init__(self, path: Path, call: GraphCall, *, name: str | None = None) -> None:
        self.name = name or path.name
        self.call = call
        self._session = session(path)
        try:
            layout = onnxports.layout(
                onnxports.of_session(self._session.get_inputs()), call.features
            )
            self._output = onnxports.scores_output(
                onnxports.of_session(self._session.get_outputs()), call.output
            )
        except OnnxError as error:
            raise BadModel(f"{self.name}: {error}") from error
        self._rows = layout.rows
        self._feed = onnxports.feeder(layout.names, layout.rank)

    @property
    def output(self) -> str:
        """Name of the output that is read."""
        return self._output

    def raw(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """The graph's output for ``(n, F)`` rows, in one call: ``(n, classes)``.

        Raises
        ------
        BadModel
            The graph fails, or answers with another shape.
        """
        if self._rows is not None and len(x) > self._rows:
            return np.concatenate([self.raw(x[i : i + 1]) for i in range(len(x))])
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
        return self._each(x[i : i + BATCH] for i in range(0, len(x), BATCH))

    def _each(self, parts: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        outputs = [self.raw(x) for x in parts]
        return np.concatenate([np.empty((0, self.call.classes), np.float32), *outputs])

    def logits(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits; of a graph that answers with probabilities their logarithm: ``(n, classes)``."""
        return self._logits(self.outputs(x))

    def scores(self, rows: Rows) -> NDArray[np.float32]:
        """Logits of a job's rows, a stride of inputs after the other: ``(n, classes)``."""
        return self._logits(self._each(rows.strides(BATCH)))

    def _logits(self, out: NDArray[np.float32]) -> NDArray[np.float32]:
        if self.call.output_kind == "probabilities":
            out = np.where(np.isfinite(out), np.log(np.clip(out, 1e-7, 1.0)), np.float32(np.nan))
        return out

    def classes(self, x: NDArray[np.float32]) -> NDArray[np.int64]:
        """Index of the class with the largest score: ``(n,)``; -1 where the answer is not
        finite."""
        return largest(self.outputs(x))

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
        silent = ~np.isfinite(whole).all(axis=1)
        if silent.any():
            gone = np.flatnonzero(np.isnan(rows[silent]).any(axis=0)).tolist()
            lacks = [self.call.features[j] for j in gone]
            where = f", where {', '.join(lacks[:4])} is missing," if lacks else ""
            raise BadModel(
                f"{self.name} answers NaN or infinity for {int(silent.sum())} of {len(rows)} rows"
                f"{where}: no class can be told; missing values (NaN) and unseen categories (-1)"
                " must be handled inside the graph"
            )
        if (wrong := misdeclared(whole, self.call.output_kind)) is not None:
            raise BadModel(f"{self.name}: {wrong}")
        for n in (1, 2):
            part = self.raw(rows[:n])
            # dynamic int8 takes its ranges from the batch: the answers differ a little then
            if not np.allclose(part, whole[:n], rtol=0.1, atol=0.1 * float(np.abs(whole).max())):
                raise BadModel(f"{self.name} answers a row differently in a batch of {n} than of 7")

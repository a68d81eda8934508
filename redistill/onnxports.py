"""Ports of an ONNX graph: its inputs and outputs described, how rows go in, which output holds the
scores.

Values only: neither onnx nor ONNX Runtime is imported here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "DYNAMIC",
    "GraphLayout",
    "OnnxError",
    "Port",
    "feeder",
    "layout",
    "of_session",
    "scores_output",
    "two_scores",
]

Feeder = Callable[[NDArray[np.float32]], dict[str, NDArray[np.float32]]]

DYNAMIC = "torch.onnx.export(..., dynamic_axes={'x': {0: 'n'}}), or skl2onnx with [None, F]"
"""How somebody gets a graph that takes any number of rows."""

_TENSOR = re.compile(r"tensor\((\w+)\)")


class OnnxError(Exception):
    """An ONNX file cannot be used as a model; the message says why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Port:
    """An input or output of a graph."""

    name: str
    element: str
    """``FLOAT``, ``INT64``, ... as ONNX names it; ``UNDEFINED``: no tensor, but a list or a map."""
    shape: tuple[int | None, ...]
    """``None``: any size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphLayout:
    """How a graph takes rows."""

    matrix: bool
    """One input of shape ``(n, F)``; else one input per feature."""
    names: tuple[str, ...]
    """Of the inputs; one per feature, in the order of the features."""
    rank: Literal[1, 2]
    """Dimensions of each input: ``(n, F)`` and ``(n, 1)`` have 2, ``(n,)`` has 1."""
    rows: int | None
    """Rows of a call, where the graph takes one only; ``None``: any number."""


def of_session(arguments: Iterable[Any]) -> tuple[Port, ...]:
    """Ports of a loaded graph: of what ``get_inputs()`` or ``get_outputs()`` of a session gives."""
    return tuple(
        Port(
            name=a.name,
            element=found[1].upper() if (found := _TENSOR.fullmatch(a.type)) else "UNDEFINED",
            shape=tuple(size if isinstance(size, int) else None for size in a.shape),
        )
        for a in arguments
    )


def layout(inputs: Sequence[Port], features: Sequence[str]) -> GraphLayout:
    """How a graph takes features: one matrix, or one input per feature.

    Raises
    ------
    OnnxError
        Neither; the message says what the graph takes.

    Examples
    --------
    >>> x = Port(name="x", element="FLOAT", shape=(None, 2))
    >>> layout([x], ["income", "age"])
    GraphLayout(matrix=True, names=('x',), rank=2, rows=None)
    """
    if told := {p.name[:80]: p.element for p in inputs if p.element != "FLOAT"}:
        raise OnnxError(
            f"the graph's inputs must be float32; these are not: {dict(islice(told.items(), 8))}"
            " (numbers, and categories as their index, are given to it as float32: export it so,"
            " skl2onnx: FloatTensorType in initial_types, or put a Cast before it)"
        )
    width, rows, shapes = len(features), _fixed_rows(inputs), [p.shape for p in inputs]
    if rows is not None and rows != 1:
        raise OnnxError(
            f"the graph's input is fixed to {rows} rows; export it with a dynamic batch ({DYNAMIC})"
        )
    if len(inputs) == 1 and not shapes[0]:  # a shape that is not said
        return GraphLayout(matrix=True, names=(inputs[0].name,), rank=2, rows=None)
    if len(inputs) == 1 and len(shapes[0]) == 2 and shapes[0][1] in (None, width):
        return GraphLayout(matrix=True, names=(inputs[0].name,), rank=2, rows=rows)
    if {p.name for p in inputs} == set(features):
        if all(len(shape) == 1 for shape in shapes):
            return GraphLayout(matrix=False, names=tuple(features), rank=1, rows=rows)
        if all(len(shape) == 2 and shape[1] in (None, 1) for shape in shapes):
            return GraphLayout(matrix=False, names=tuple(features), rank=2, rows=rows)
    takes = {p.name[:80]: list(p.shape) for p in inputs[:8]}
    given, wanted = {p.name for p in inputs}, set(features)
    apart = ""
    if len(inputs) > 1 and given == wanted:
        apart = "; all of its inputs must be (n, 1), or all (n,)"
    elif given & wanted:
        lacks, extra = ([n[:80] for n in sorted(s)[:8]] for s in (wanted - given, given - wanted))
        apart = f"; it lacks {lacks}" if lacks else ""
        apart += f"; {extra} are no features of the schema" if extra else ""
    more = f" and {len(inputs) - 8} more" if len(inputs) > 8 else ""
    raise OnnxError(
        f"the graph takes {takes}{more}; one float32 input of shape"
        f" (n, {width}) was expected, or one input per feature named as in the schema{apart}"
    )


def _fixed_rows(inputs: Iterable[Port]) -> int | None:
    """Rows of a call of a graph that takes a fixed number of them; ``None``: any number."""
    sizes = (p.shape[0] or 0 for p in inputs if p.shape)
    return next((size for size in sizes if size > 0), None)


def feeder(names: Sequence[str], rank: int) -> Feeder:
    """A function that gives rows ``(n, F) float32`` the form in which a graph takes them.

    What can be decided once is: a service asks for every single row.

    Parameters
    ----------
    names, rank
        Of the inputs, as :class:`Layout` says them.

    Examples
    --------
    >>> feed = feeder(["income", "age"], 1)
    >>> {name: column.shape for name, column in feed(np.zeros((5, 2), np.float32)).items()}
    {'income': (5,), 'age': (5,)}
    """
    if len(names) == 1 and rank == 2:
        (name,) = names
        return lambda x: {name: x}
    picks = [(name, slice(j, j + 1) if rank == 2 else j) for j, name in enumerate(names)]
    return lambda x: {name: np.ascontiguousarray(x[:, pick]) for name, pick in picks}


def two_scores(scores: NDArray[np.float32], *, logits: bool) -> NDArray[np.float32]:
    """One score a row of two classes, that of the second, as a score per class.

    Parameters
    ----------
    scores
        ``(n, 1)``: probabilities of the second class, or (``logits``) their log odds.

    Returns
    -------
    numpy.ndarray
        ``(n, 2)`` of the same kind.

    Examples
    --------
    >>> two_scores(np.array([[0.25]], np.float32), logits=False).tolist()
    [[0.75, 0.25]]
    >>> two_scores(np.array([[2.0]], np.float32), logits=True).tolist()
    [[0.0, 2.0]]
    """
    first = np.zeros_like(scores) if logits else 1 - scores
    return np.concatenate([first, scores], axis=1)


def scores_output(outputs: Sequence[Port], wanted: str | None) -> str:
    """Name of the output that is read.

    Parameters
    ----------
    wanted
        Its name; ``None``: there is one only, or one of float32 beside labels, as converters make
        them.

    Raises
    ------
    OnnxError
        There is no such output, it holds no float32, or none was named and there are several.
    """
    elements = {p.name: p.element for p in outputs}
    names = [n[:80] for n in elements][:12]
    scores = [n for n, element in elements.items() if element == "FLOAT"]
    if wanted is None and len(elements) != 1 and len(scores) != 1:
        raise OnnxError(
            f"the graph has the outputs {names}: name the one with a score per class (key output)"
        )
    name = wanted or next(iter(scores), next(iter(elements)))
    if name not in elements:
        raise OnnxError(f"the graph has no output {name!r}; it has {names}")
    if elements[name] == "UNDEFINED":
        raise OnnxError(
            f"output {name!r} is no tensor but a list or map: export the scores as a float32 matrix"
            ' (skl2onnx: options={"zipmap": False})'
        )
    if elements[name] != "FLOAT":
        raise OnnxError(
            f"output {name!r} holds {elements[name]}: float32 scores, one per class, were expected"
            f" (outputs of float32: {scores[:12] or 'none'})"
        )
    return name

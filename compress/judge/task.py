"""Task: what a model's scores mean, and how wrong one is on a row. Pure.

A gate, a diagnosis and a ranking ask nothing of a model but a *loss* in 0..1 per row; a task says
what that is. Classification has the 0-1 loss or a cost matrix, regression a clipped error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from redistill.compress.judge import calibration_error, measures
from redistill.compress.judge.answers import largest
from redistill.compress.judge.calibration_error import Confidence
from redistill.compress.judge.limits import shown
from redistill.compress.plan import GraphSpec, Measure

__all__ = [
    "Classification",
    "Floats",
    "Regression",
    "Scores",
    "Task",
    "of",
    "wrong_costs",
]

Scores = NDArray[np.float32]
"""``(n, K)``: a score per class, or one column with the predicted value."""
Floats = NDArray[np.float64]


class Task(Protocol):
    """What gates and diagnoses know about a model."""

    @property
    def name(self) -> str:
        """For reports."""

    @property
    def unit(self) -> str:
        """What a hundredth of the loss is called: ``points``."""

    def answers(self, scores: Scores) -> NDArray[Any]:
        """What the model answers, ``(n,)``; -1 or NaN where it has no answer."""

    def loss(self, scores: Scores, truth: NDArray[Any]) -> Floats:
        """How wrong each answer is, ``(n,)`` in 0..1. No answer is as wrong as can be."""

    @property
    def measures(self) -> Mapping[str, Measured]:
        """What is told of a model beside its losses, by name."""


Measured = Callable[[Task, Scores, NDArray[Any]], Measure | None]
"""``(task, scores, truth)`` of labelled rows -> an estimate with its interval; ``None``: it cannot
be told of these rows."""


def _accuracy(task: Task, scores: Scores, truth: NDArray[Any]) -> Measure | None:
    return measures.accuracy(task.answers(scores), truth)


def _calibration(task: Task, scores: Scores, truth: NDArray[Any]) -> Measure | None:
    return calibration_error.error(Confidence.of(scores, truth), seed=0)


def _mean_loss(task: Task, scores: Scores, truth: NDArray[Any]) -> Measure | None:
    return measures.mean_loss(task.loss(scores, truth))


@dataclass(frozen=True, kw_only=True, slots=True)
class Classification:
    """One of ``classes``: the largest score is the answer.

    Raises
    ------
    ValueError
        Costs that are none.

    Parameters
    ----------
    classes
        How many there are.
    costs
        What each mistake costs, ``costs[true class][answer]``: not negative, 0 on the diagonal;
        ``None``: all mistakes cost the same. The loss is the cost over the largest one.

    Examples
    --------
    >>> task = Classification(classes=2, costs=((0.0, 1.0), (4.0, 0.0)))
    >>> scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [np.nan, 0.5]], np.float32)
    >>> task.answers(scores).tolist()
    [0, 0, 1, -1]
    >>> task.loss(scores, np.array([0, 1, 0, 0])).tolist()
    [0.0, 1.0, 0.25, 1.0]
    """

    classes: int
    costs: tuple[tuple[float, ...], ...] | None = None

    name = "classification"

    @property
    def unit(self) -> str:
        """Hundredths of an error, or of the largest cost."""
        return "points" if self.costs is None else "points of the largest cost"

    def __post_init__(self) -> None:
        if self.costs is not None and (told := wrong_costs(self.costs, self.classes)):
            raise ValueError("; ".join(told))

    @property
    def measures(self) -> Mapping[str, Measured]:
        """Accuracy, how honest confidence is, and the mean cost where mistakes cost differently."""
        told = {"accuracy": _accuracy, "calibration_error": _calibration}
        return told | ({} if self.costs is None else {"cost": _mean_loss})

    def answers(self, scores: Scores) -> NDArray[np.int64]:
        """Index of the largest score, ``(n,)``; -1 where scores are not finite."""
        return largest(scores)

    def loss(self, scores: Scores, truth: NDArray[Any]) -> Floats:
        """``(n,)`` in 0..1."""
        given = self.answers(scores)
        if self.costs is None:
            return np.asarray(given != truth, np.float64)
        costs = np.asarray(self.costs, np.float64)
        out = costs[truth, np.maximum(given, 0)] / costs.max()
        return np.asarray(np.where(given < 0, 1.0, out), np.float64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Regression:
    """A number: the first column of the scores.

    Raises
    ------
    ValueError
        A clip that is no error.

    Parameters
    ----------
    clip
        Error that is as bad as any larger one, in the unit of the target; above 0.
    error
        ``absolute`` or ``squared``.

    Examples
    --------
    >>> task = Regression(clip=2.0)
    >>> task.loss(np.array([[1.0], [5.0], [np.nan]], np.float32), np.zeros(3)).tolist()
    [0.5, 1.0, 1.0]
    """

    clip: float
    error: str = "absolute"

    name = "regression"
    unit = "points of the clipped error"

    def __post_init__(self) -> None:
        if not 0 < self.clip < math.inf:
            raise ValueError(f"clip = {self.clip}: a number above 0 was expected")

    @property
    def measures(self) -> Mapping[str, Measured]:
        """The mean clipped error, as a share of the clip."""
        return {"clipped_error": _mean_loss}

    def answers(self, scores: Scores) -> Floats:
        """``(n,)``."""
        return np.asarray(scores[:, 0], np.float64)

    def loss(self, scores: Scores, truth: NDArray[Any]) -> Floats:
        """``(n,)`` in 0..1."""
        off = np.abs(self.answers(scores) - truth) / self.clip
        loss = ERRORS[self.error](np.minimum(off, 1.0))
        return np.asarray(np.where(np.isfinite(off), loss, 1.0), np.float64)


LARGEST_COST = 1_000_000_000
"""Of a mistake. Costs are compared with each other, so that their unit can be chosen."""
ERRORS: Mapping[str, Callable[[Floats], Floats]] = {
    "absolute": lambda off: off,
    "squared": np.square,
}
"""Error as a share of the clip, by name."""


def wrong_costs(costs: Any, k: int | None) -> list[str]:
    """What is wrong with the costs of mistakes, as somebody wrote them.

    Parameters
    ----------
    costs
        Anything; right are ``k`` lists of ``k`` numbers.
    k
        How many classes there are; ``None``: that is not known.

    Examples
    --------
    >>> wrong_costs([[0, "1"], [4, 0]], 2)
    ["costs[0][1] = '1': a number from 0 to 1,000,000,000 was expected"]
    >>> wrong_costs([[0, 1], [4, 0]], 2)
    []
    """
    rows = costs if isinstance(costs, Sequence) and not isinstance(costs, str) else ()
    k = len(rows) if k is None else k
    if not k or len(rows) != k or any(not isinstance(r, list | tuple) or len(r) != k for r in rows):
        told = f"{k} lists of {k} numbers" if k else "lists of numbers"
        return [f"costs = {shown(costs)}: {told} were expected, in the order of classes"]
    out = []
    for i, row in enumerate(rows):
        for j, c in enumerate(row):
            number = isinstance(c, int | float) and not isinstance(c, bool)
            if not number or not 0 <= c <= (0 if i == j else LARGEST_COST):
                what = (
                    "0 (the answer is right)" if i == j else f"a number from 0 to {LARGEST_COST:,}"
                )
                out.append(f"costs[{i}][{j}] = {shown(c)}: {what} was expected")
    if not out and not any(c for row in rows for c in row):
        out.append("costs: no mistake costs anything")
    return out


def of(graph: GraphSpec) -> Task:
    """The task of a job."""
    costs: Sequence[Sequence[float]] | None = graph.costs
    return Classification(
        classes=len(graph.classes),
        costs=None if costs is None else tuple(tuple(row) for row in costs),
    )

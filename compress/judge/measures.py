"""What a model is worth on labelled rows, and whether one is better than another: measures with
their intervals."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from redistill.compress.judge import betting, intervals
from redistill.compress.plan import Comparison, Measure
from redistill.stats import clopper_pearson

__all__ = [
    "Classes",
    "accuracy",
    "agreement",
    "comparison",
    "domain_auc",
    "f1_difference",
    "macro_f1",
    "mean_loss",
]

Classes = NDArray[np.int64]
"""(n,) index of a class per row; -1 where a label is missing, or a model answers NaN."""


def comparison(d: NDArray[np.float64]) -> Comparison:
    """A paired comparison by the differences of two losses.

    Parameters
    ----------
    d
        ``(n,)`` in -1..1, above 0 where the first model is better.
    """
    return Comparison(
        wins=int((d > 0).sum()),
        losses=int((d < 0).sum()),
        ties=int((d == 0).sum()),
        e_better=betting.e_value(d).e,
        e_worse=betting.e_value(-d).e,
    )


def accuracy(answers: Classes, labels: Classes) -> Measure | None:
    """Share of labelled rows that were answered right.

    Parameters
    ----------
    answers, labels
        ``(n,)``; rows with label -1 are left out.

    Returns
    -------
    Measure or None
        ``None`` without labelled rows.
    """
    has = labels >= 0
    n = int(has.sum())
    if n == 0:
        return None
    hits = int((answers == labels)[has].sum())
    low, high = clopper_pearson(hits, n)
    return Measure(value=hits / n, low=low, high=high, n=n)


def mean_loss(loss: NDArray[np.float64]) -> Measure | None:
    """Mean of a loss in 0..1, ``(n,)``, with its interval; ``None`` without rows."""
    if not len(loss):
        return None
    low, high = intervals.paired_mean(loss)
    return Measure(value=float(loss.mean()), low=max(0.0, low), high=high, n=len(loss))


def agreement(first: Classes, second: Classes) -> Measure:
    """Share of rows on which two models answer the same; no answer is like no other."""
    n = len(first)
    same = int(((first == second) & (first >= 0)).sum())
    low, high = clopper_pearson(same, n)
    return Measure(value=same / n if n else 1.0, low=low, high=high, n=n)


def macro_f1(
    answers: Classes, labels: Classes, n_classes: int, weights: NDArray[np.float64] | None = None
) -> float:
    """Mean over the classes that occur of the harmonic mean of precision and recall.

    Examples
    --------
    >>> round(macro_f1(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), 3), 3)
    0.733
    """
    weight = np.ones(len(labels)) if weights is None else weights
    width = n_classes + 1  # the last column is for answers that are no class
    given = np.where(answers < 0, n_classes, answers)
    cells = np.bincount(labels * width + given, weights=weight, minlength=n_classes * width)
    table = cells.reshape(n_classes, width)  # (label, answer)
    hits, actual, claimed = table.diagonal(), table.sum(axis=1), table.sum(axis=0)[:n_classes]
    occurs = actual > 0
    f1 = 2 * hits[occurs] / (actual + claimed)[occurs]
    return float(f1.mean()) if len(f1) else 0.0


def f1_difference(
    first: Classes,
    second: Classes,
    labels: Classes,
    n_classes: int,
    *,
    seed: int,
    rounds: int = 200,
) -> Measure:
    """Macro F1 of the first model minus that of the second, with a paired bootstrap interval.

    Parameters
    ----------
    first, second, labels
        ``(n,)``, every row labelled.
    seed, rounds
        Of the bootstrap (rows are drawn with multinomial counts, the same for both models).
    """
    value = macro_f1(first, labels, n_classes) - macro_f1(second, labels, n_classes)
    n = len(labels)
    # rows with the same label and the same two answers are drawn together: some dozens of kinds
    width = n_classes + 1  # an answer that is none is -1
    coded = (labels * width + first + 1) * width + second + 1
    kinds, counts = np.unique(coded, return_counts=True)
    y, a, b = kinds // width**2, kinds // width % width - 1, kinds % width - 1
    draws = np.random.default_rng(seed).multinomial(n, counts / n, size=rounds)
    each = [
        macro_f1(a, y, n_classes, w) - macro_f1(b, y, n_classes, w)
        for w in draws.astype(np.float64)
    ]
    low, high = np.quantile(each, [0.025, 0.975])
    return Measure(value=value, low=float(low), high=float(high), n=n)


def domain_auc(
    fresh: NDArray[np.float64], trusted: NDArray[np.float64], *, seed: int, max_rows: int = 2_000
) -> Measure:
    """How well a linear classifier tells fresh rows from trusted ones: .5 not at all, 1 always.

    Ridge regression on standardised columns, fitted on one half of the rows and judged on the
    other, both ways round.

    Parameters
    ----------
    fresh, trusted
        ``(n, columns)`` and ``(m, columns)``, encoded (``data.encode``): no NaN.
    seed
        Of the halves.
    max_rows
        Of each kind; more are drawn at random. At least two of each kind are needed.

    Returns
    -------
    Measure
        Area under the ROC curve with the interval of Hanley and McNeil 1982.
    """
    rng = np.random.default_rng(seed)
    sides = [x[rng.permutation(len(x))[:max_rows]] for x in (fresh, trusted)]
    x = np.concatenate(sides)
    y = np.concatenate([np.ones(len(sides[0]), bool), np.zeros(len(sides[1]), bool)])
    half = np.concatenate([rng.permutation(len(side)) % 2 for side in sides])
    areas = []
    for k in (0, 1):
        fit, judge = half != k, half == k
        mean, deviation = x[fit].mean(axis=0), x[fit].std(axis=0)
        scale = np.where(deviation > 1e-9, deviation, 1.0)
        z = (x[fit] - mean) / scale
        gram = z.T @ z + 1e-2 * len(z) * np.eye(z.shape[1])
        direction = np.linalg.solve(gram, z.T @ (y[fit] - y[fit].mean()))
        areas.append(_auc(np.clip((x[judge] - mean) / scale, -8.0, 8.0) @ direction, y[judge]))
    auc, n, m = float(np.mean(areas)), y.sum() / 2, (~y).sum() / 2
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    # of one half: the two halves were fitted on each other and are not independent
    variance = (auc * (1 - auc) + (n - 1) * (q1 - auc**2) + (m - 1) * (q2 - auc**2)) / (n * m)
    width = 1.96 * math.sqrt(max(0.0, float(variance)))
    return Measure(value=auc, low=max(0.0, auc - width), high=min(1.0, auc + width), n=len(x))


def _auc(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Share of pairs (positive, negative) in which the positive scores higher; ties count half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[inverse]  # mean rank of equal scores, from 1
    n, m = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))

"""What a model is worth on labelled rows, and whether one is better than another: measures with
their intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redistill.compress.judge import intervals
from redistill.compress.plan import Comparison, Measure
from redistill.stats import clopper_pearson, paired_e_value

__all__ = [
    "Classes",
    "SliceLoss",
    "accuracy",
    "agreement",
    "compare",
    "domain_auc",
    "f1_difference",
    "macro_f1",
    "rows_to_decide",
    "slice_losses",
]

Classes = NDArray[np.int64]
"""(n,) index of a class per row; -1 where a label is missing, or a model answers NaN."""


def rows_to_decide(wins: int, losses: int, ties: int, *, threshold: float) -> int | None:
    """Labelled rows after which ``paired_e_value`` would reach the threshold if the shares stay.

    Returns
    -------
    int or None
        ``None``: it would not within a million rows.

    Examples
    --------
    >>> rows_to_decide(4, 1, 15, threshold=100.0), rows_to_decide(1, 1, 10, threshold=100.0)
    (117, None)
    """
    n = wins + losses + ties
    if wins <= losses:
        return None

    def enough(rows: int) -> bool:
        return paired_e_value(wins * rows / n, losses * rows / n)[0] >= threshold

    low, high = 1, 2
    while not enough(high):
        low, high = high, high * 2
        if high > 1_000_000:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def compare(first: Classes, second: Classes, labels: Classes) -> Comparison:
    """Two models on the same labelled rows.

    Parameters
    ----------
    first, second
        ``(n,)`` what they answered.
    labels
        ``(n,)``, -1 = no label (such rows are left out).
    """
    has = labels >= 0
    a, b = (first == labels)[has], (second == labels)[has]
    wins, losses = int((a & ~b).sum()), int((b & ~a).sum())
    e_better, e_worse = paired_e_value(wins, losses)
    return Comparison(
        wins=wins,
        losses=losses,
        ties=int(has.sum()) - wins - losses,
        e_better=e_better,
        e_worse=e_worse,
    )


def accuracy(
    answers: Classes, labels: Classes, weights: NDArray[np.float64] | None = None
) -> Measure | None:
    """Share of labelled rows that were answered right.

    Parameters
    ----------
    answers, labels
        ``(n,)``; rows with label -1 are left out.
    weights
        ``(n,)``, 1 / probability of having been labelled; the interval then stands on the
        effective number of rows (Kish).

    Returns
    -------
    Measure or None
        ``None`` without labelled rows.
    """
    has = labels >= 0
    n = int(has.sum())
    if n == 0:
        return None
    right = (answers == labels)[has].astype(np.float64)
    weight = np.ones(n) if weights is None else weights[has]
    share = float((right * weight).sum() / weight.sum())
    effective = float(weight.sum() ** 2 / (weight**2).sum())
    low, high = clopper_pearson(share * effective, effective)
    return Measure(value=share, low=low, high=high, n=n)


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
    kinds, counts = np.unique(np.stack([labels, first, second]), axis=1, return_counts=True)
    y, a, b = kinds
    draws = np.random.default_rng(seed).multinomial(n, counts / n, size=rounds)
    each = [
        macro_f1(a, y, n_classes, w) - macro_f1(b, y, n_classes, w)
        for w in draws.astype(np.float64)
    ]
    low, high = np.quantile(each, [0.025, 0.975])
    return Measure(value=value, low=float(low), high=float(high), n=n)


@dataclass(frozen=True, kw_only=True, slots=True)
class SliceLoss:
    """How much a candidate lost against the incumbent on one slice of the labelled rows."""

    name: str
    """``region=EU``, or ``class=default``."""
    n: int
    wins: int
    losses: int

    @property
    def loss(self) -> float:
        """Share of rows lost net; negative where the candidate gained."""
        return (self.losses - self.wins) / self.n

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Interval of the loss."""
        low, high = intervals.paired_difference(
            self.losses, self.wins, self.n, confidence=confidence
        )
        return low, high


def slice_losses(
    candidate: Classes,
    incumbent: Classes,
    labels: Classes,
    groups: dict[str, NDArray[np.bool_]],
    *,
    min_rows: int,
) -> list[SliceLoss]:
    """Losses on every slice with enough rows, the worst first.

    Parameters
    ----------
    groups
        Slice name -> ``(n,)`` which rows belong to it.
    min_rows
        Smaller slices are left out: on few rows any loss is noise.
    """
    right, was_right = candidate == labels, incumbent == labels
    out = []
    for name, member in groups.items():
        if (n := int(member.sum())) >= max(1, min_rows):
            wins = int((right & ~was_right & member).sum())
            losses = int((was_right & ~right & member).sum())
            out.append(SliceLoss(name=name, n=n, wins=wins, losses=losses))
    return sorted(out, key=lambda s: (-s.loss, s.name))


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

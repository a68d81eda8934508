"""Class mix: whether other classes are frequent now, and how much of a loss that explains. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from redistill.compress.judge.points import POINTS, Right, normal
from redistill.compress.plan import Measure

__all__ = ["ClassMix", "class_mix"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassMix:
    """The mix of classes before and now, and what it explains."""

    chance: float
    """Probability of so different counts, or more so, if the mix is the same."""
    moved: float
    """Share of rows that changed their class, net (total variation distance)."""
    explained: Measure
    """Points lost if each class is answered as well as before and only the mix changed."""
    rest: Measure
    """Points lost within the classes: what the mix does not explain."""


def class_mix(
    before: tuple[NDArray[np.int64], Right], now: tuple[NDArray[np.int64], Right], classes: int
) -> ClassMix | None:
    """Divide a loss into what the mix of classes explains, and the rest.

    Parameters
    ----------
    before, now
        (label of each row, whether it was answered right); every row labelled.
    classes
        How many there are.

    Returns
    -------
    ClassMix or None
        ``None`` without rows on either side.

    Notes
    -----
    Label shift: p(x | y) stays, p(y) changes (Lipton, Wang, Smola 2018, Detecting and correcting
    for label shift with black box predictors). Labels are at hand: the mix is counted, not
    inferred.
    The likelihood-ratio test of homogeneity (G) finds the change; intervals are those of
    post-stratified means by the delta method (Holt, Smith 1979, Post stratification, JRSS A 142).

    Examples
    --------
    >>> y = np.repeat([0, 1], 500)
    >>> right = np.concatenate([np.ones(500, bool), np.arange(500) % 2 == 0])
    >>> now = np.repeat([0, 1], [50, 250])
    >>> right_now = np.concatenate([np.ones(50, bool), np.arange(250) % 2 == 0])
    >>> mix = class_mix((y, right), (now, right_now), 2)
    >>> round(mix.explained.value, 1), round(mix.rest.value, 1), mix.chance < 1e-9
    (16.7, 0.0, True)
    """
    (y0, right0), (y1, right1) = before, now
    n0 = np.bincount(y0, minlength=classes).astype(np.float64)
    n1 = np.bincount(y1, minlength=classes).astype(np.float64)
    if not n0.sum() or not n1.sum():
        return None
    p0, p1 = n0 / n0.sum(), n1 / n1.sum()
    hit0 = np.bincount(y0, weights=right0, minlength=classes).astype(np.float64)
    hit1 = np.bincount(y1, weights=right1, minlength=classes).astype(np.float64)
    whole = float(hit0.sum() / n0.sum())
    # a class that was never seen before is answered as well as all others were
    share0 = np.where(n0 > 0, hit0 / np.maximum(n0, 1), whole)
    share1 = np.where(n1 > 0, hit1 / np.maximum(n1, 1), 0.0)
    explained = float(((p0 - p1) * share0).sum())
    mean1 = float((p1 * share0).sum())
    spread0 = _spread(hit0, n0)
    variance = float((p1 * (share0 - mean1) ** 2).sum()) / n1.sum()
    variance += float(((p0 - p1) ** 2 * spread0).sum())
    variance += float((p0 * (share0 - whole) ** 2).sum()) / n0.sum()
    rest = float((p1 * (share0 - share1)).sum())
    within = float((p1**2 * (spread0 + np.where(n1 > 0, _spread(hit1, n1), 0.0))).sum())
    rows = len(y1)
    return ClassMix(
        chance=_chance(n0, n1),
        moved=float(np.abs(p0 - p1).sum() / 2),
        explained=normal(explained * POINTS, variance * POINTS**2, rows),
        rest=normal(rest * POINTS, within * POINTS**2, rows),
    )


def _spread(hits: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Variance of shares of so many rows, half a hit and half a miss added."""
    p = (hits + 0.5) / (rows + 1.0)
    return np.asarray(p * (1 - p) / (rows + 1.0))


def _chance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    table = np.stack([first, second])
    table = table[:, table.sum(axis=0) > 0]
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(table > 0, table * np.log(table / expected), 0.0)
    freedom = table.shape[1] - 1
    return 1.0 if freedom < 1 else float(chdtrc(freedom, 2 * terms.sum()))

"""Columns that moved within the classes, and matter to a model: what a mere change of the mix of
classes does not do. Pure, but for the model that is asked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from redistill.compress.judge.breakage import Answers

__all__ = ["moved_within", "that_matter"]

CHANCE = 0.01
"""Probability of naming any column where none moved."""
MATTERS = 0.03
"""Share of rows whose answer must change when a column is shuffled."""
REACH = 6.0
"""Standardised values are cut here."""

Floats = NDArray[np.float64]


def that_matter(
    model: Answers, x: NDArray[np.float32], columns: Sequence[int], *, seed: int
) -> tuple[int, ...]:
    """Which columns a model's answers hang on: shuffled, they change (Breiman 2001, Random forests,
    Machine Learning 45, without the labels).

    Parameters
    ----------
    model
        What is asked.
    x
        ``(n, F)`` usual rows.
    columns
        Of these.
    """
    rng = np.random.default_rng([seed, 7])
    usual, out = model(x), []
    for j in columns:
        shuffled = x.copy()
        shuffled[:, j] = rng.permutation(x[:, j])
        if float((model(shuffled) != usual).mean()) >= MATTERS:
            out.append(j)
    return tuple(out)


def moved_within(
    before: tuple[NDArray[np.float32], NDArray[np.int64]],
    now: tuple[NDArray[np.float32], NDArray[np.int64]],
    columns: Sequence[int],
) -> tuple[int, ...]:
    """Which columns have other values now among rows of the same class.

    Parameters
    ----------
    before, now
        (rows ``(n, F)``, label of each); every row labelled.
    columns
        Of these.

    Notes
    -----
    Mean differences of values, of squares and of missing values, stratified by class and
    standardised, against the normal distribution, Bonferroni over all (Landis, Heyman, Koch 1978,
    Average partial association in three-way contingency tables, International Statistical Review
    46).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y, y_now = np.repeat([0, 1], [300, 300]), np.repeat([0, 1], [30, 270])
    >>> x = rng.normal(y[:, None] * 2.0, 1.0, (600, 2)).astype(np.float32)
    >>> x_now = rng.normal(y_now[:, None] * 2.0, 1.0, (300, 2)).astype(np.float32)
    >>> moved_within((x, y), (x_now, y_now), (0, 1))
    ()
    >>> x_now[:, 1] += 0.5
    >>> moved_within((x, y), (x_now, y_now), (0, 1))
    (1,)
    """
    if not len(columns):
        return ()
    limit = float(ndtri(1.0 - CHANCE / 2 / (3 * len(columns))))
    (x0, y0), (x1, y1) = before, now
    out = []
    for j in columns:
        old, new = _terms(x0[:, j], x0[:, j]), _terms(x1[:, j], x0[:, j])
        if any(abs(_stratified(a, y0, b, y1)) > limit for a, b in zip(old, new, strict=True)):
            out.append(j)
    return tuple(out)


def _terms(x: NDArray[np.float32], usual: NDArray[np.float32]) -> tuple[Floats, Floats, Floats]:
    known = usual[~np.isnan(usual)]
    low, middle, high = np.quantile(known, (0.25, 0.5, 0.75)) if len(known) else (0.0, 0.0, 0.0)
    width = (high - low) / 1.349 or (float(known.std()) if len(known) else 0.0) or 1.0
    missing = np.isnan(x)
    z = np.where(missing, 0.0, np.clip((x - middle) / width, -REACH, REACH))
    return z, z**2, missing.astype(np.float64)


def _stratified(
    old: Floats, old_class: NDArray[np.int64], new: Floats, new_class: NDArray[np.int64]
) -> float:
    """Standardised difference of means over the classes that both have twice."""
    total = variance = 0.0
    for c in np.intersect1d(old_class, new_class):
        a, b = new[new_class == c], old[old_class == c]
        n, m = len(a), len(b)
        if n < 2 or m < 2:
            continue
        weight = n * m / (n + m)
        total += weight * float(a.mean() - b.mean())
        # one variance for both: four rows of a kind know little of their own
        spread = (float(((a - a.mean()) ** 2).sum() + ((b - b.mean()) ** 2).sum())) / (n + m - 2)
        variance += weight * spread
    return total / variance**0.5 if variance > 0.0 else 0.0

"""Temperature of a student: its confidence recalibrated after every compression, inside its graph.

Distilled and quantized students are right about as often as before, but not as sure as they should
be. Dividing all scores by one number mends most of it and changes no answer (Guo, Pleiss, Sun,
Weinberger 2017, On calibration of modern neural networks, ICML).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from redistill import onnxscaled
from redistill.compress.errors import BadModel
from redistill.compress.plan import Measure
from redistill.compress.shrink.export import OUTPUT
from redistill.onnxports import OnnxError
from redistill.stats import softmax

__all__ = ["MIN_LABELLED", "confidence", "fit", "matched", "scaled"]

MIN_LABELLED = 100
"""Labelled rows from which on they set the temperature: its standard error is then about a fifth.
"""
LOWEST, HIGHEST = 0.1, 10.0
"""Beyond these the scores, not their scale, are wrong."""
GRID = 31
"""Temperatures looked at first: each a sixth above the one before."""
SETTLED = 0.02
"""A temperature this near to 1 changes no confidence by a point: the graph stays as it is."""

Logits = NDArray[np.float32]


def fit(logits: Logits, labels: NDArray[np.int64]) -> Measure:
    """Temperature under which the confidence on labelled rows has the least Brier score: its mean
    squared distance from 1 for right answers and 0 for wrong ones.

    For one model that score is its squared calibration error, which gate ``calibration`` looks at,
    plus what dividing its scores hardly changes (Murphy 1973). The likelihood, the usual choice,
    has no bound: where a few labels are wrong, or a student's scores run far out on strange rows,
    a handful of rows that it is sure of and wrong on makes it doubt all others.

    Parameters
    ----------
    logits
        ``(n, classes)``; rows that are not finite are left out. None of the rows may be used by a
        gate, and none have been trained on by its label.
    labels
        ``(n,)``; rows with -1 are left out.

    Returns
    -------
    Measure
        With a 95% interval, and how many rows there were; 1 with no interval where there are none.
        One row in all counts as wrong (as in Platt 1999), so that a student that made no mistake
        yet does not become sure of everything.

    References
    ----------
    Brier 1950, Verification of forecasts expressed in terms of probability (Monthly Weather
    Review 78); Murphy 1973, A new vector partition of the probability score (Journal of Applied
    Meteorology 12); White 1980, A heteroskedasticity-consistent covariance matrix estimator
    (Econometrica 48): the interval, of least squares whose errors differ from row to row.

    Examples
    --------
    >>> twice_too_sure = np.tile(np.float32([[0, 2 * np.log(3)]]), (400, 1))
    >>> found = fit(twice_too_sure, (np.arange(400) % 4 > 0).astype(int))  # right in three of four
    >>> round(found.value, 1), found.n
    (2.0, 400)
    """
    use = (labels >= 0) & np.isfinite(logits).all(axis=1)
    z, y = logits[use].astype(np.float64), labels[use]
    n = len(z)
    if not n:
        return Measure(value=1.0, low=None, high=None, n=0)
    doubt = 1.0 / (n + 2)
    right = np.where(z.argmax(axis=1) == y, 1.0 - doubt, doubt)

    def brier(log_t: float) -> float:
        return float(((softmax(z * math.exp(-log_t)).max(axis=1) - right) ** 2).mean())

    log_t = _least(brier)
    scaled = z * math.exp(-log_t)
    p = softmax(scaled)
    sure = p.max(axis=1)
    slope = sure * (scaled.max(axis=1) - (p * scaled).sum(axis=1))  # in -log_t
    error = (sure - right) ** 2
    # Without a mistake the residuals are 0; honest confidence would vary by p (1 - p) all the same.
    spread = max(float((slope**2 * error).sum()), float((slope**2 * sure * (1.0 - sure)).sum()))
    curve = float((slope**2).sum())
    half = 1.96 * math.sqrt(spread) / curve if curve > 0.0 else math.inf
    least, most = math.log(LOWEST), math.log(HIGHEST)
    return Measure(
        value=math.exp(log_t),
        low=math.exp(max(least, log_t - half)),
        high=math.exp(min(most, log_t + half)),
        n=n,
    )


def confidence(logits: Logits) -> float:
    """Mean probability of the answers; NaN without rows."""
    finite = np.isfinite(logits).all(axis=1)
    if not finite.any():
        return math.nan
    return float(softmax(logits[finite].astype(np.float64)).max(axis=1).mean())


def matched(logits: Logits, target: float) -> Measure:
    """Temperature under which a student is as sure, on average, as the model that it was made from:
    for too few labels.

    Parameters
    ----------
    logits
        ``(n, classes)`` of any rows.
    target
        Mean ``confidence`` of the other model on the same rows.

    Returns
    -------
    Measure
        Without an interval: it copies what the other model says, and nobody knows how right that
        is. 1 where there is nothing to match.

    Examples
    --------
    >>> sure = np.tile(np.float32([[0, 4.0]]), (10, 1))
    >>> round(matched(sure, confidence(sure / 2)).value, 3)
    2.0
    """
    z = logits[np.isfinite(logits).all(axis=1)].astype(np.float64)
    if not len(z) or not math.isfinite(target):
        return Measure(value=1.0, low=None, high=None, n=len(z))

    def off(log_t: float) -> float:
        return (float(softmax(z * math.exp(-log_t)).max(axis=1).mean()) - target) ** 2

    return Measure(value=math.exp(_least(off)), low=None, high=None, n=len(z))


def _least(loss: Callable[[float], float]) -> float:
    """Where a function of the temperature's logarithm is least: in the deepest valley of a grid,
    since a bounded loss is flat far out and may have more than one."""
    grid = np.linspace(math.log(LOWEST), math.log(HIGHEST), GRID)
    k = int(np.argmin([loss(float(u)) for u in grid]))
    found = minimize_scalar(
        loss,
        bounds=(grid[max(0, k - 1)], grid[min(GRID - 1, k + 1)]),
        method="bounded",
        options={"xatol": 1e-5},
    )
    return float(found.x)


def scaled(path: Path, out: Path, temperature: float) -> None:
    """Write a graph whose scores are divided by a temperature: one ``Mul`` more, at its end.

    Parameters
    ----------
    path
        A graph as ``export`` or ``quantize`` makes it, with output ``y``, logits.
    out
        Where the new one goes. The same arguments give the same bytes; within 2% of 1 it is a copy.
    temperature
        Above 0.

    Raises
    ------
    BadModel
        The graph has no such output, or was tempered before.
    """
    if not temperature > 0.0:
        raise BadModel(f"a temperature of {temperature:g} cannot divide scores")
    data = path.read_bytes()
    if abs(temperature - 1.0) >= SETTLED:
        try:
            data = onnxscaled.scaled(path.name, data, OUTPUT, 1.0 / temperature)
        except OnnxError as error:
            raise BadModel(str(error)) from error
    out.write_bytes(data)

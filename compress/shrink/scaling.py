"""Scaling of a student's inputs: what stands in for a missing value, middle and deviation of each
column, such that neither sentinels nor a few wild rows set the scale of all others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redistill import sentinels

__all__ = ["scale_of"]

TAIL, REACH = 0.05, 2.0
"""Values count as they are up to ``REACH`` widths beyond the middle 90% of a column (eight standard
deviations of a normal one: nothing of it is cut), and as that bound beyond."""
FLAT = 1e-6
"""A column that varies by less than this share of its mean keeps its deviation at 1: dividing by
almost nothing would turn the first change into an explosion."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Of one column."""

    median: float
    """Stands in for a missing value."""
    mean: float
    deviation: float
    codes: tuple[float, ...] = ()
    """Values that stand for a missing one."""


def scale_of(column: NDArray[np.float32]) -> Scale:
    """How a column is scaled.

    Sentinels count as missing.

    Parameters
    ----------
    column
        ``(n,)``; NaN and infinities are skipped.

    Examples
    --------
    >>> scale_of(np.array([-1.0, 1.0] * 50, np.float32))
    Scale(median=0.0, mean=0.0, deviation=1.0, codes=())
    >>> scale_of(np.array([-1.0, 1.0] * 50 + [-999.0] * 10, np.float32)).codes
    (-999.0,)
    """
    codes = tuple(c.value for c in sentinels.find(column))
    missing = ~np.isfinite(column) | np.isin(column, codes)
    values = column[~missing].astype(np.float64)
    if not len(values):
        return Scale(0.0, 0.0, 1.0)
    median = float(np.median(values))
    low, high = _bounds(values)
    filled = np.concatenate([np.clip(values, low, high), np.full(missing.sum(), median)])
    mean, deviation = float(filled.mean()), float(filled.std())
    flat = deviation <= FLAT * max(1.0, abs(mean))
    return Scale(median, mean, 1.0 if flat else deviation, codes)


def _bounds(values: NDArray[np.float64]) -> tuple[float, float]:
    """Between which values count as they are."""
    low, high = np.quantile(values, (TAIL, 1.0 - TAIL))
    if low == high:  # mostly one value: the others tell how far the column reaches
        others = values[values != low]
        if not len(others):
            return float(low), float(low)
        usual, (low, high) = low, np.quantile(others, (TAIL, 1.0 - TAIL))
        low, high = min(low, usual), max(high, usual)
    reach = REACH * (high - low)
    return float(low - reach), float(high + reach)

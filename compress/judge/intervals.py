"""Score intervals of a share and of differences of shares. Plain numbers in, plain numbers out."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from redistill.compress.judge.bounded_mean import Differences

__all__ = ["difference", "paired_difference", "paired_mean", "paired_score", "wilson"]

INSIDE = 1.0 - 1e-9
"""Nearly the bound of a mean."""


def wilson(share: float, n: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """Score interval of a share (Wilson 1927)."""
    if n <= 0:
        return 0.0, 1.0
    z = float(ndtri(1.0 - (1.0 - confidence) / 2.0))
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def difference(
    first: tuple[float, float], second: tuple[float, float], *, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of ``first - second`` for two shares from different rows.

    Parameters
    ----------
    first, second
        (share, rows); infinitely many rows mean that the share is known.

    Returns
    -------
    tuple
        Bounds in -1..1.

    References
    ----------
    Newcombe 1998, Interval estimation for the difference between independent proportions, method
    10 (Statistics in Medicine 17). The first example is its case (a).

    Examples
    --------
    >>> [round(b, 4) for b in difference((56 / 70, 70), (48 / 80, 80))]
    [0.0524, 0.3339]
    >>> [round(b, 3) for b in difference((0.9, math.inf), (0.6, 50))]
    [0.176, 0.438]
    """
    (p, n), (q, m) = first, second
    low_p, high_p = (p, p) if math.isinf(n) else wilson(p, n, confidence=confidence)
    low_q, high_q = (q, q) if math.isinf(m) else wilson(q, m, confidence=confidence)
    return (
        p - q - math.hypot(p - low_p, high_q - q),
        p - q + math.hypot(high_p - p, q - low_q),
    )


def paired_difference(
    wins: float, losses: float, n: float, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of the difference of two accuracies on the same rows: (wins - losses) / n.

    The score interval: it keeps its coverage where hardly any row is decided differently, where
    the plain normal interval has no width at all.

    Parameters
    ----------
    wins, losses
        Rows that only the first, or only the second, got right. Weighted rows enter with their
        effective number, which need not be whole.
    n
        All rows.

    Returns
    -------
    tuple
        Bounds in -1..1; (-1, 1) without rows.

    References
    ----------
    Tango 1998, Equivalence test and confidence interval for the difference in proportions for the
    paired-sample design (Statistics in Medicine 17).

    Examples
    --------
    >>> [round(b, 4) for b in paired_difference(0, 0, 100)]
    [-0.037, 0.037]
    """
    if n <= 0:
        return -1.0, 1.0
    z = float(ndtri(1.0 - (1.0 - confidence) / 2.0))
    estimate = (wins - losses) / n
    return (
        _root(lambda d: paired_score(wins, losses, n, d) - z, -1.0, estimate),
        _root(lambda d: paired_score(wins, losses, n, d) + z, estimate, 1.0),
    )


def paired_mean(d: NDArray[np.float64], *, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the mean of bounded paired differences.

    Parameters
    ----------
    d
        ``(n,)`` in -1..1. Where it is only ever -1, 0 or 1 the interval is ``paired_difference``'s.

    Returns
    -------
    tuple
        Bounds in -1..1; (-1, 1) without rows.

    References
    ----------
    Tango 1998 for differences of right and wrong; for others its extension in ``bounded_mean``.

    Examples
    --------
    >>> [round(b, 4) for b in paired_mean(np.zeros(100))]
    [-0.037, 0.037]
    >>> [round(b, 3) for b in paired_mean(np.array([0.25, 0.0, 0.0, -0.25] * 50))]
    [-0.024, 0.024]
    """
    if not len(d):
        return -1.0, 1.0
    if np.isin(d, (-1.0, 0.0, 1.0)).all():
        wins, losses = float((d > 0).sum()), float((d < 0).sum())
        return paired_difference(wins, losses, len(d), confidence=confidence)
    rows = Differences.of(d)
    z = float(ndtri(1.0 - (1.0 - confidence) / 2.0))
    return (
        _root(lambda m: rows.score(m) - z, -INSIDE, rows.mean),
        _root(lambda m: rows.score(m) + z, rows.mean, INSIDE),
    )


def paired_score(wins: float, losses: float, n: float, difference: float) -> float:
    """Standardised distance of paired data from a true difference of two accuracies: Tango's score,
    about normal, falling with ``difference``.

    Parameters
    ----------
    wins, losses, n
        As for ``paired_difference``; ``n`` above 0.
    difference
        In -1..1.

    Examples
    --------
    >>> round(paired_score(0, 0, 100, -0.037), 2)
    1.96
    """
    # maximum likelihood of the share of losses under that difference
    a = 2.0 * n
    b = -wins - losses + (2 * n - wins + losses) * difference
    c = -losses * difference * (1.0 - difference)
    share = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = n * (2 * share + difference * (1.0 - difference))
    gap = wins - losses - n * difference
    if variance <= 0.0:
        return 0.0 if gap == 0.0 else math.copysign(math.inf, gap)
    return gap / math.sqrt(variance)


def _root(f: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function crosses zero, to 1e-9; the end of the range if it does not."""
    at_low, at_high = f(low), f(high)
    if at_high > 0.0:
        return high
    if at_low < 0.0:
        return low
    for k in range(120):
        if high - low < 1e-9:
            break
        share = at_low / (at_low - at_high) if math.isfinite(at_low - at_high) else 0.5
        # a secant, but for each third step: it may creep along one side
        middle = low + (high - low) * (0.5 if k % 3 == 2 else min(max(share, 1e-3), 1.0 - 1e-3))
        found = f(middle)
        if found > 0.0:
            low, at_low = middle, found
        else:
            high, at_high = middle, found
    return (low + high) / 2

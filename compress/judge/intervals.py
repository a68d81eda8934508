"""Score intervals of a share and of differences of shares. Plain numbers in, plain numbers out."""

from __future__ import annotations

import math
from collections.abc import Callable

from scipy.special import ndtri

__all__ = ["difference", "paired_difference", "wilson"]


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
    wins: int, losses: int, n: int, *, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of the difference of two accuracies on the same rows: (wins - losses) / n.

    The score interval: it keeps its coverage where hardly any row is decided differently, where
    the plain normal interval has no width at all.

    Parameters
    ----------
    wins, losses
        Rows that only the first, or only the second, got right.
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

    def score(delta: float) -> float:
        """Standardised distance of the data from a true difference of ``delta``; falls with it."""
        # maximum likelihood of the share of losses when the difference is delta
        a = 2.0 * n
        b = -wins - losses + (2 * n - wins + losses) * delta
        c = -losses * delta * (1.0 - delta)
        share = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        variance = n * (2 * share + delta * (1.0 - delta))
        gap = wins - losses - n * delta
        if variance <= 0.0:
            return 0.0 if gap == 0.0 else math.copysign(math.inf, gap)
        return gap / math.sqrt(variance)

    return (
        _root(lambda d: score(d) - z, -1.0, estimate),
        _root(lambda d: score(d) + z, estimate, 1.0),
    )


def _root(f: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function crosses zero, to 1e-9; the end of the range if it does not."""
    if f(high) > 0.0:
        return high
    if f(low) < 0.0:
        return low
    for _ in range(60):
        middle = (low + high) / 2
        if f(middle) > 0.0:
            low = middle
        else:
            high = middle
    return (low + high) / 2

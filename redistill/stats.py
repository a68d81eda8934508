"""Statistics that more than one room needs: softmax and exact bounds of a proportion.

``scipy`` is imported where it is used: a service that only predicts and logs need not have it.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MISS",
    "clopper_pearson",
    "softmax",
    "softmax_of_row",
    "upper_bound",
]

Floats = TypeVar("Floats", np.float32, np.float64)

MISS = 0.05
"""Share of the intervals that may miss the truth: all intervals shown to people are 95%
intervals."""

_FEW = 32
"""Up to this many numbers, plain Python beats numpy."""


def softmax(logits: NDArray[Floats]) -> NDArray[Floats]:
    """Probabilities of the classes, which lie along the last axis.

    Parameters
    ----------
    logits
        ``(..., C)``. A row that holds a NaN gives a row of NaN.

    Examples
    --------
    >>> softmax(np.zeros((1, 2), np.float32)).tolist()
    [[0.5, 0.5]]
    """
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    out: NDArray[Floats] = powers / powers.sum(axis=-1, keepdims=True)
    return out


def softmax_of_row(logits: list[float]) -> list[float]:
    """Softmax of one row of numbers: what a service pays for on each prediction.

    Examples
    --------
    >>> softmax_of_row([0.0, 0.0])
    [0.5, 0.5]
    """
    top = max(logits)
    if len(logits) > _FEW:
        many = np.exp(np.asarray(logits) - top)
        out: list[float] = (many / many.sum()).tolist()
        return out
    powers = [math.exp(v - top) if v == v else math.nan for v in logits]
    total = sum(powers)
    return [p / total for p in powers]


def clopper_pearson(hits: float, rows: float, miss: float = MISS) -> tuple[float, float]:
    """Two-sided exact interval of a proportion of independent rows.

    Parameters
    ----------
    hits, rows
        Counts; weighted rows enter with their effective number, which need not be whole.
    miss
        Largest probability of missing the truth, half of it on each side.

    Returns
    -------
    tuple of float
        ``(low, high)``; ``(0, 1)`` without rows.

    References
    ----------
    Clopper, Pearson: The use of confidence or fiducial limits illustrated in the case of the
    binomial. Biometrika 1934.

    Examples
    --------
    >>> [round(v, 3) for v in clopper_pearson(9, 10)]
    [0.555, 0.997]
    """
    from scipy.special import betaincinv

    low = 0.0 if hits <= 0 else float(betaincinv(hits, rows - hits + 1, miss / 2))
    high = 1.0 if hits >= rows else float(betaincinv(hits + 1, rows - hits, 1 - miss / 2))
    return low, high


def upper_bound(errors: int, rows: int, miss: float = MISS) -> float:
    """One-sided exact (Clopper-Pearson) upper bound of an error rate.

    Parameters
    ----------
    errors, rows
        ``errors`` wrong rows among ``rows``; ``rows`` may be 0, and then nothing is known: 1.
    miss
        Probability that the bound is below the true rate.

    Examples
    --------
    >>> round(upper_bound(0, 450), 4), round(upper_bound(2000, 20_000), 4)
    (0.0066, 0.1036)
    """
    from scipy.special import betaincinv

    if errors >= rows:
        return 1.0
    return float(betaincinv(errors + 1, rows - errors, 1 - miss))

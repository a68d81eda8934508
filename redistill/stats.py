"""Statistics that more than one room needs: softmax, exact bounds of a proportion, e-values.

``scipy`` is imported where it is used: a service that only predicts and logs need not have it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MISS",
    "clopper_pearson",
    "log_mean_exp",
    "margin_e_value",
    "paired_e_value",
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
_BETS: NDArray[np.float64] = np.linspace(0.02, 0.98, 49)
"""Stakes over which ``margin_e_value`` mixes, as shares of the largest that can never go broke."""
_LARGEST_LOG = 700.0
"""Of an e-value: near the end of the floats, and JSON knows no infinity."""


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


def paired_e_value(wins: float, losses: float) -> tuple[float, float]:
    """Evidence that the first of two models is better, and that it is worse, on rows that both
    answered.

    Only rows that exactly one of them got right count. If the first were not better, each of them
    would be a win with probability at most one half. Against that the e-value bets with every
    probability above one half at once, evenly (a Beta(1, 1) mixture cut at one half): under "not
    better" it is a supermartingale that starts at 1, so that it *ever* reaches 1/a with
    probability at most a, however often one looks and whenever one stops.

    Parameters
    ----------
    wins, losses
        Rows that only the first, or only the second, got right.

    Returns
    -------
    tuple of float
        ``(e_better, e_worse)``; 1 without data, at most ``exp(700)``.

    References
    ----------
    Ville 1939, Étude critique de la notion de collectif; Robbins 1970, Statistical methods related
    to the law of the iterated logarithm (mixtures); Ramdas, Grünwald, Vovk, Shafer 2023,
    Game-theoretic statistics and safe anytime-valid inference (Statistical Science 38).

    Examples
    --------
    >>> [round(e, 2) for e in paired_e_value(9, 0)]
    [102.3, 0.1]
    >>> paired_e_value(0, 0)
    (1.0, 1.0)
    """
    from scipy.special import betainc, betaln

    def evidence(right: float, wrong: float) -> float:
        above_half = float(betainc(wrong + 1.0, right + 1.0, 0.5))  # of Beta(right + 1, wrong + 1)
        if above_half <= 0.0:
            return 0.0
        log_mixture = (right + wrong + 1.0) * math.log(2.0) + float(betaln(right + 1, wrong + 1))
        return _capped_exp(log_mixture + math.log(above_half))

    if wins < 0 or losses < 0:
        raise ValueError(f"wins and losses are counts, got {wins}, {losses}")
    if wins + losses == 0:
        return 1.0, 1.0
    return evidence(wins, losses), evidence(losses, wins)


def margin_e_value(
    wins: float, losses: float, ties: float, *, margin: float
) -> tuple[float, float]:
    """Evidence that the first model is not worse by ``margin``, and that it is, anytime valid.

    The difference on one row is 1, 0 or -1. A gambler who stakes a share of what he has on
    "difference + margin > 0" cannot expect to gain if the truth is -margin or less; the e-value is
    the mean over many stakes (Waudby-Smith and Ramdas 2024, Estimating means of bounded random
    variables by betting).

    Parameters
    ----------
    wins, losses, ties
        Rows that only the first, only the second, or both or none got right.
    margin
        Of accuracy, in 0..1.

    Returns
    -------
    tuple of float
        ``(e_not_worse, e_worse)``, at most ``exp(700)``.

    Examples
    --------
    >>> e_not_worse, e_worse = margin_e_value(0, 0, 500, margin=0.01)
    >>> e_not_worse > 20, e_worse < 1
    (True, True)
    """

    def evidence(gains: Sequence[tuple[float, float]]) -> float:
        stake = _BETS / -min(gain for _, gain in gains)
        logs = sum((n * np.log1p(stake * gain) for n, gain in gains), np.zeros_like(stake))
        return _capped_exp(log_mean_exp(logs))

    up = [(wins, 1.0 + margin), (ties, margin), (losses, margin - 1.0)]
    down = [(wins, -1.0 - margin), (ties, -margin), (losses, 1.0 - margin)]
    return evidence(up), evidence(down)


def log_mean_exp(logs: NDArray[np.float64]) -> float:
    """Logarithm of the mean of numbers whose logarithms are given, which may be beyond the floats.

    Examples
    --------
    >>> round(log_mean_exp(np.array([1000.0, 1000.0 + math.log(3)])) - 1000.0 - math.log(2), 12)
    0.0
    """
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).mean()))


def _capped_exp(log_value: float) -> float:
    return math.exp(min(log_value, _LARGEST_LOG))

"""Exact intervals and bounds of proportions, and the paired e-value. Plain functions;
``scipy.special`` only."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import betainc, betaincinv, betaln, gammaln

CONFIDENCE_MISS = 0.05
"""Share of the intervals that may miss the truth: all intervals shown to people are 95%
intervals."""


def upper_bound(errors: int, rows: int, miss: float = CONFIDENCE_MISS) -> float:
    """One-sided Clopper-Pearson upper bound of an error rate.

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

    References
    ----------
    Clopper, Pearson: The use of confidence or fiducial limits illustrated in the case of the
    binomial. Biometrika 1934.
    """
    if errors >= rows:
        return 1.0
    return float(betaincinv(errors + 1, rows - errors, 1 - miss))


def clopper_pearson(hits: int, rows: int, miss: float = CONFIDENCE_MISS) -> tuple[float, float]:
    """Two-sided exact interval of a proportion of independent rows; ``(0, 1)`` without rows.

    Examples
    --------
    >>> [round(v, 3) for v in clopper_pearson(9, 10)]
    [0.555, 0.997]
    """
    low = 0.0 if hits == 0 else float(betaincinv(hits, rows - hits + 1, miss / 2))
    high = 1.0 if hits >= rows else float(betaincinv(hits + 1, rows - hits, 1 - miss / 2))
    return low, high


def window_interval(
    correct: int, labelled: int, rows: int, miss: float = CONFIDENCE_MISS
) -> tuple[float, float]:
    """Exact interval of the share of correct rows in one realised window, from a random part of it
    that has labels.

    The labelled rows are drawn without replacement, so the interval is hypergeometric and shrinks
    to a point when every row has its label.

    Parameters
    ----------
    correct, labelled, rows
        ``correct`` of ``labelled`` rows were right, out of a window of ``rows`` rows.
    miss
        Largest probability of missing the truth, half of it on each side.

    Returns
    -------
    tuple of float
        ``(low, high)``, both a share of ``rows``; ``(0, 1)`` for an empty window.

    Raises
    ------
    ValueError
        If not ``0 <= correct <= labelled <= rows``.

    Examples
    --------
    >>> window_interval(180, 200, 2000)
    (0.8525, 0.936)
    >>> window_interval(3, 4, 4)
    (0.75, 0.75)
    """
    if not 0 <= correct <= labelled <= rows:
        raise ValueError(
            f"need 0 <= correct <= labelled <= rows, got {correct}, {labelled}, {rows}"
        )
    if rows == 0:
        return 0.0, 1.0
    wrong = labelled - correct
    low, high = correct, rows - wrong

    def at_least(total: int) -> float:
        """Probability of ``correct`` or more among the labelled if ``total`` of the window are
        right."""
        return _hypergeometric(np.arange(correct, labelled + 1), rows, total, labelled)

    def at_most(total: int) -> float:
        return _hypergeometric(np.arange(0, correct + 1), rows, total, labelled)

    a, b = low, high
    while a < b:
        middle = (a + b) // 2
        a, b = (a, middle) if at_least(middle) > miss / 2 else (middle + 1, b)
    bottom = a
    a, b = bottom, high
    while a < b:
        middle = (a + b + 1) // 2
        a, b = (middle, b) if at_most(middle) > miss / 2 else (a, middle - 1)
    return bottom / rows, a / rows


def _hypergeometric(k: np.ndarray, rows: int, hits: int, drawn: int) -> float:
    """Probability that the number of hits among ``drawn`` of ``rows`` rows is one of ``k``."""
    k = k[(k <= hits) & (drawn - k <= rows - hits)]
    if not len(k):
        return 0.0

    def choose(n: np.ndarray | int, m: np.ndarray | int) -> np.ndarray:
        n, m = np.asarray(n, float), np.asarray(m, float)
        return np.asarray(gammaln(n + 1) - gammaln(m + 1) - gammaln(n - m + 1))

    logs = choose(hits, k) + choose(rows - hits, drawn - k) - choose(rows, drawn)
    return float(np.exp(logs).sum())


def paired_e_value(wins: int, losses: int) -> tuple[float, float]:
    """Evidence that a challenger beats an incumbent, and that it is worse, from the rows on which
    they differ.

    A uniform mixture over win probabilities above one half (below, for *worse*) of the likelihood
    ratio against one half. Either is an e-process: under the null its chance of ever reaching ``x``
    is at most ``1/x``, however often one looks.

    Returns
    -------
    tuple of float
        ``(e_better, e_worse)``; 1 without data, infinite where it exceeds the range of a float.

    Examples
    --------
    >>> better, worse = paired_e_value(20, 4)
    >>> better > 100, worse < 1
    (True, True)

    References
    ----------
    Ramdas, Grünwald, Vovk, Shafer: Game-theoretic statistics and safe anytime-valid inference.
    Statistical Science 2023.
    """
    if wins < 0 or losses < 0:
        raise ValueError(f"wins and losses are counts, got {wins}, {losses}")
    log_mixture = (wins + losses + 1) * math.log(2) + float(betaln(wins + 1, losses + 1))
    below = float(betainc(wins + 1, losses + 1, 0.5))
    above = float(betainc(losses + 1, wins + 1, 0.5))

    def value(share: float) -> float:
        if share <= 0:
            return 0.0
        log_value = log_mixture + math.log(share)
        return math.exp(log_value) if log_value < 700 else math.inf

    return value(above), value(below)

"""Exact interval of a window's accuracy from the parts of it that have labels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import gammaln

from redistill.stats import MISS

__all__ = ["stratified_interval", "window_interval"]


def window_interval(
    correct: int, labelled: int, rows: int, miss: float = MISS
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


def stratified_interval(
    strata: Sequence[tuple[int, int, int]], miss: float = MISS
) -> tuple[float, float]:
    """Interval of the share of correct rows in one realised window whose parts were labelled with
    different probabilities: after a suspicion more labels are asked for.

    Each part that is not labelled to the last row has its own exact interval, which misses with an
    equal share of ``miss`` (Bonferroni), so together they miss with ``miss`` at most.

    Parameters
    ----------
    strata
        ``(correct, labelled, rows)`` of each part, as in ``window_interval``.

    Returns
    -------
    tuple of float
        ``(low, high)``, both a share of all rows; ``(0, 1)`` without rows.

    Examples
    --------
    >>> stratified_interval([(180, 200, 2000)]) == window_interval(180, 200, 2000)
    True
    >>> stratified_interval([(90, 100, 1000), (900, 1000, 1000)])
    (0.864, 0.924)
    """
    total = sum(rows for _, _, rows in strata)
    if total == 0:
        return 0.0, 1.0
    unsure = sum(labelled < rows for _, labelled, rows in strata)
    low = high = 0.0
    for correct, labelled, rows in strata:
        a, b = window_interval(correct, labelled, rows, miss / max(unsure, 1))
        low, high = low + a * rows, high + b * rows
    return low / total, high / total


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

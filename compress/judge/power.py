"""Power of a comparison on paired rows: how large a margin so many rows can show, and how many rows
a margin needs. Pure.

Shown is "not worse by the margin", by the one-sided 95% score bound of gate ``trusted``, for a
candidate that is as good, with a probability of 80%.
"""

from __future__ import annotations

import math

__all__ = ["POWER", "USUAL_CHURN", "margin_shown", "rows_needed"]

USUAL_CHURN = 0.03
"""Share of rows that one of two models has right and the other wrong, where nobody measured it."""
POWER = 0.8
Z_MISS, Z_POWER = 1.6448536, 0.8416212
"""Quantiles of the normal distribution at 95% and at 80%."""


def rows_needed(margin: float, churn: float) -> int:
    """Rows that show a margin.

    Parameters
    ----------
    margin
        Above 0, at most 1: .01 is one point.
    churn
        Share of rows that only one of the two models has right, 0 to 1.

    References
    ----------
    Nam 1997, Establishing equivalence of two treatments and sample size requirements in
    matched-pairs design (Biometrics 53). At the margin the variance is larger than at equality: to
    take the latter for both promises 80% where 360 rows give 74%.

    Examples
    --------
    >>> rows_needed(0.01, 0.03), rows_needed(0.02, 0.03)
    (1971, 558)
    """
    at_margin = Z_MISS * math.sqrt(_variance(margin, churn))
    return math.ceil(((at_margin + Z_POWER * math.sqrt(churn)) / margin) ** 2)


def margin_shown(rows: int, churn: float) -> float:
    """Smallest margin that so many rows show, at most 1; without rows 1.

    Examples
    --------
    >>> [round(100 * margin_shown(n, 0.03), 1) for n in (360, 1_000, 1_971)]
    [2.6, 1.4, 1.0]
    """
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if rows >= rows_needed(middle, churn):
            high = middle
        else:
            low = middle
    return high


def _variance(margin: float, churn: float) -> float:
    """Of one row's difference, by the rates that are likeliest where the candidate is worse by the
    margin, given that as many rows are seen to be won as lost (``intervals.paired_difference``)."""
    b = -churn - 2 * margin
    share = (math.sqrt(b * b - 4 * churn * margin * (1.0 + margin)) - b) / 4
    return 2 * share - margin * (1.0 + margin)

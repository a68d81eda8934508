"""Rows that it takes to show that a model is as good as another: what "not worse by a margin" asks
of somebody who brings one. Pure."""

from __future__ import annotations

from redistill.compress.judge import intervals
from redistill.compress.judge.gates.trusted import ONE_SIDED

__all__ = ["rows_to_show"]

MOST_ROWS = 100_000_000
"""Beyond, the answer is: none."""


def rows_to_show(differing: float, margin: float, *, lost: float = 0.0) -> int | None:
    """Labelled rows with which gate ``trusted`` passes a model, if it is as these shares say.

    Parameters
    ----------
    differing
        Share of rows on which one of the two is right and the other wrong, in 0..1.
    margin
        Share of rows that may be lost, above 0.
    lost
        Share of rows that it loses, in -``differing``..``differing``.

    Returns
    -------
    int or None
        At the expected counts, by the same interval as the gate (Tango 1998), one-sided 95%; so
        that about half of such samples pass with it. ``None``: it loses the margin or more, and no
        number of rows shows what is not so.

    Raises
    ------
    ValueError
        Shares that are none.

    Examples
    --------
    A copy passes a margin of one point with 268 rows; one that differs on 5% of the rows with more:

    >>> rows_to_show(0.0, 0.01), rows_to_show(0.05, 0.01)
    (268, 1400)
    >>> rows_to_show(0.05, 0.01, lost=0.02)
    """
    if not 0 <= differing <= 1 or not margin > 0 or abs(lost) > differing:
        raise ValueError(f"no shares: differing = {differing}, margin = {margin}, lost = {lost}")
    if lost >= margin:
        return None

    def shows(n: int) -> bool:
        wins, losses = n * (differing - lost) / 2, n * (differing + lost) / 2
        return intervals.paired_difference(wins, losses, n, confidence=ONE_SIDED)[0] > -margin

    high = 1
    while not shows(high):
        high *= 2
        if high > MOST_ROWS:
            return None
    low = high // 2  # it does not show there, or is 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shows(middle) else (middle, high)
    return high

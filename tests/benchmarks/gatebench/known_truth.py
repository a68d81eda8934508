"""A bettor that knows the truth: what the gates are measured against."""

from __future__ import annotations

import math

import numpy as np
from gatebench.streams import LOOK, Floats

_STAKES = np.linspace(0.0, 0.999, 1_000)


def labels_needed(
    d: Floats, *, win: float, loss: float, threshold: float, above: float = 0.0
) -> float:
    """Labels at the first look at which it has won the threshold; infinite if at none.

    It knows how often a row is 1 and -1, and stakes on "the mean is above the limit" what makes
    its capital grow fastest (Kelly 1956). Against "equal" that is the likelihood ratio of the truth
    (Wald 1945). It may be looked at at any time, as the gates.

    Parameters
    ----------
    d
        ``(n,)`` in -1, 0, 1.
    win, loss
        Shares of rows that are 1, and -1.
    threshold
        What it starts with is 1.
    above
        The limit.

    Examples
    --------
    >>> labels_needed(np.ones(100), win=0.175, loss=0.125, threshold=200.0)
    50
    """
    gains = (np.array([1.0, -1.0, 0.0]) - above) / (1.0 + above)  # (3,)
    logs = np.log1p(np.multiply.outer(_STAKES, gains))  # (S, 3)
    win_log, loss_log, tie_log = logs[int(np.argmax(logs @ [win, loss, 1.0 - win - loss]))]
    at = np.arange(LOOK, len(d) + 1, LOOK)
    won, lost = np.cumsum(d > 0)[at - 1], np.cumsum(d < 0)[at - 1]
    total = won * win_log + lost * loss_log + (at - won - lost) * tie_log
    reached = np.flatnonzero(total >= math.log(threshold))
    return int(at[reached[0]]) if len(reached) else math.inf

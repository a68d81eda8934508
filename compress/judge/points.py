"""Points of accuracy: gaps between two models on the same rows, losses between two sets of rows,
and how such a gap changed. Each with its 95% interval. Pure."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from redistill.compress.judge import intervals
from redistill.compress.plan import Measure
from redistill.stats import MISS

__all__ = ["POINTS", "Right", "change", "gap", "loss", "normal", "surely"]

POINTS = 100.0
"""Points of a share."""

Right = NDArray[np.bool_]
"""``(n,)`` which labelled rows a model answered right."""


def gap(first: Right, second: Right, *, miss: float = MISS) -> Measure:
    """Points by which the first model is better than the second on the same rows.

    Parameters
    ----------
    first, second
        ``(n,)`` of the same rows.
    miss
        Probability that the interval misses the truth; smaller where many gaps are looked at.

    Notes
    -----
    Tango's score interval for paired shares (Statistics in Medicine 1998).

    Examples
    --------
    >>> g = gap(np.array([True] * 90 + [False] * 10), np.array([True] * 80 + [False] * 20))
    >>> round(g.value, 1), g.low > 0.0, g.n
    (10.0, True, 100)
    """
    wins, losses, n = int((first & ~second).sum()), int((second & ~first).sum()), len(first)
    low, high = intervals.paired_difference(wins, losses, n, confidence=1.0 - miss)
    value = (wins - losses) / n if n else 0.0
    return Measure(value=value * POINTS, low=low * POINTS, high=high * POINTS, n=n)


def loss(before: Measure, now: Measure, *, miss: float = MISS) -> Measure:
    """Points of accuracy lost between two sets of rows, with Newcombe's interval.

    Parameters
    ----------
    before
        Accuracy as it was, in 0..1; without bounds it counts as known.
    now
        Accuracy on the fresh labelled rows.
    miss
        Probability that the interval misses the truth; twice as much for a bound on one side.

    References
    ----------
    Newcombe 1998, Interval estimation for the difference between independent proportions, method
    10 (Statistics in Medicine 17).
    """
    known = before.low is None or before.n == 0
    low, high = intervals.difference(
        (before.value, math.inf if known else before.n),
        (now.value, now.n),
        confidence=1.0 - miss,
    )
    return Measure(
        value=(before.value - now.value) * POINTS, low=low * POINTS, high=high * POINTS, n=now.n
    )


def change(now: Measure, before: Measure) -> Measure:
    """How a quantity changed, from its intervals on two independent sets of rows.

    The method of variance estimates recovery: the bounds of both go into those of the difference,
    so that skewed intervals stay skewed (Zou and Donner 2008, Construction of confidence limits
    about effect measures, Statistics in Medicine 27).

    Examples
    --------
    >>> now = Measure(value=12.0, low=8.0, high=16.0, n=300)
    >>> before = Measure(value=2.0, low=-1.0, high=5.0, n=1_000)
    >>> c = change(now, before)
    >>> c.value, c.low, c.high
    (10.0, 5.0, 15.0)
    """
    value = now.value - before.value
    down, up = _arms(now)
    before_down, before_up = _arms(before)
    return Measure(
        value=value,
        low=value - math.hypot(down, before_up),
        high=value + math.hypot(up, before_down),
        n=now.n,
    )


def normal(value: float, variance: float, n: int) -> Measure:
    """An estimate in points whose interval is the normal one."""
    half = 1.959964 * math.sqrt(max(0.0, variance))
    return Measure(value=value, low=value - half, high=value + half, n=n)


def surely(m: Measure | None, above: float = 0.0) -> bool:
    """Whether all of an interval lies above a number."""
    return m is not None and m.low is not None and m.low > above


def _arms(m: Measure) -> tuple[float, float]:
    low = m.value if m.low is None else m.low
    high = m.value if m.high is None else m.high
    return m.value - low, high - m.value

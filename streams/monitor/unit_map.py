"""Unit maps: by which factor, offset, or line a window's values are the reference's, with bounds
that hold.

The distribution functions of both are known at bin edges only. What the edges allow is kept, and
nothing is interpolated: the bounds are wider for it, and never wrong because a value lay far
outside the reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Interval", "Kind", "Known", "UnitMap", "unit_map"]

LEVEL = 0.01
"""Share of maps whose bounds are wrong, at most, on rows drawn independently."""
HALVINGS = 8
"""Of the band, to find what fits best."""

Points = NDArray[np.float64]
Kind = Literal["factor", "offset", "line"]
KINDS: tuple[Kind, ...] = ("factor", "offset", "line")
Box = tuple[float, float, float, float]
"""Least and most of the slope and of the intercept."""
Fits = Callable[[Points, Points, Points], Box | None]
"""What fits where each point of the window (the last) comes from between two of the reference."""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What is known of a distribution function: shares below some values."""

    at: NDArray[np.float64]  # (K,) growing
    below: NDArray[np.int64]  # (K,) values below each
    n: int
    """All values."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate between its bounds."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitMap:
    """Values are about ``slope`` x the usual ones + ``intercept``."""

    kind: Kind
    """What is enough: no intercept, no slope, or both are needed."""
    slope: Interval
    intercept: Interval


def unit_map(reference: Known, window: Known, kinds: Sequence[Kind] = KINDS) -> UnitMap | None:
    """The simplest map that leads the reference to the window.

    Parameters
    ----------
    reference, window
        Their distribution functions; the window's smallest and largest value may be among its
        points.
    kinds
        Which are tried, in this order; a line takes some 50 ms, the others less than one.

    Returns
    -------
    UnitMap or None
        ``None``: none leads from one to the other; the shape is another.

    Notes
    -----
    The band around an empirical distribution function that holds everywhere with probability ``1 -
    LEVEL`` is ``sqrt(ln(2 / LEVEL) / 2n)`` wide [1]_. A map fits if it leads the one band into the
    other: all maps that fit are the confidence set (the inversion of the Kolmogorov-Smirnov test),
    their extremes the bounds. The value told is the one that fits in the narrowest band. By default
    a factor is preferred to an offset, an offset to a line.

    References
    ----------
    .. [1] Massart: The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality. Annals of
       Probability 18, 1990.

    Examples
    --------
    >>> x = np.sort(np.random.default_rng(0).lognormal(size=4_000))
    >>> at = 2.0 ** np.arange(-8, 20)
    >>> usual = Known(at, np.searchsorted(x, at), 4_000)
    >>> now = Known(at, np.searchsorted(1_024 * x[::4], at), 1_000)
    >>> found = unit_map(usual, now)
    >>> found.kind, found.slope.low < 1_024 < found.slope.high
    ('factor', True)
    """
    if not reference.n or not window.n:
        return None
    width = _band(reference.n) + _band(window.n)
    for kind in kinds:
        fits = _FITS[kind]
        if (box := fits(*_bounds(reference, window, width), window.at)) is not None:
            return _told(kind, fits, reference, window, width, box)
    return None


def _band(n: int) -> float:
    return math.sqrt(math.log(4 / LEVEL) / (2 * n))  # half of the level for each of the two


def _bounds(
    reference: Known, window: Known, width: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Between which values of the reference each point of the window has to come to lie."""
    usual = reference.below / reference.n
    now = window.below / window.n
    padded = np.concatenate([[-np.inf], reference.at, [np.inf]])
    low = padded[np.searchsorted(usual, now - width)]  # the last one with less below it
    high = padded[np.searchsorted(usual, now + width, "right") + 1]  # the first one with more
    return low, high


def _interpolated(reference: Known, window: Known, width: float) -> tuple[Points, Points]:
    """The same as far as can be guessed, with straight lines from edge to edge."""
    usual = reference.below / reference.n
    now = window.below / window.n
    low, high = (
        np.interp(p, usual, reference.at, left=-np.inf, right=np.inf)
        for p in (now - width, now + width)
    )
    return np.where(low == np.inf, reference.at[-1], low), np.where(
        high == -np.inf, reference.at[0], high
    )


def _factor(low: Points, high: Points, at: Points) -> Box | None:
    """Only a slope."""
    if (at[low == 0] < 0).any() or (at[high == 0] > 0).any():
        return None
    above, under = np.isfinite(low) & (low != 0), np.isfinite(high) & (high != 0)
    a, b = at[above] / low[above], at[under] / high[under]
    most = min(_least(a[low[above] > 0]), _least(b[high[under] < 0]))
    least = max(0.0, _most(a[low[above] < 0]), _most(b[high[under] > 0]))
    return (least, most, 0.0, 0.0) if least <= most and most > 0 else None


def _offset(low: Points, high: Points, at: Points) -> Box | None:
    """Only an intercept."""
    least, most = _most(at - high), _least(at - low)
    return (1.0, 1.0, least, most) if least <= most else None


def _least(x: Points) -> float:
    return float(x.min(initial=np.inf))


def _most(x: Points) -> float:
    return float(x.max(initial=-np.inf))


def _line(low: Points, high: Points, at: Points) -> Box | None:
    """Both: linear programmes with two unknowns, one for each bound."""
    from scipy.optimize import linprog

    above, under = np.isfinite(low), np.isfinite(high)
    usual = np.concatenate([low[above], high[under]])
    now = np.concatenate([at[above], at[under]])
    sign = np.repeat([1.0, -1.0], [int(above.sum()), int(under.sum())])
    if len(usual) < 2:
        return None
    # the solver's tolerances are absolute
    (c, s), (m, t) = (_scaled(usual), _scaled(now))
    rows = sign[:, None] * np.column_stack([(usual - c) / s, np.ones(len(usual))])
    limits = sign * (now - m) / t
    bounds = []
    for objective, fixed in (([t / s, 0.0], 0.0), ([-c * t / s, t], m)):
        size = float(np.abs(objective).max())
        for direction in (1.0, -1.0):
            found = linprog(
                direction * np.array(objective) / size,
                rows,
                limits,
                bounds=[(0, None), (None, None)],
            )
            if found.status == 2:  # nothing fits
                return None
            told = (
                direction * found.fun * size + fixed if found.status == 0 else -direction * np.inf
            )
            bounds.append(float(told))
    least, most, *intercept = bounds
    return (least, most, intercept[0], intercept[1]) if most > 0 else None


def _scaled(x: Points) -> tuple[float, float]:
    return float(np.median(x)), float(np.ptp(x)) or 1.0


def _told(
    kind: Kind, fits: Fits, reference: Known, window: Known, width: float, box: Box
) -> UnitMap:
    """The map that fits best, between its bounds."""
    low, high, best = 0.0, width, box
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found = fits(*_interpolated(reference, window, middle), window.at)
        if found is None:
            low = middle
        else:
            high, best = middle, found
    slope = _between(best[0], best[1], geometric=True)
    intercept = _between(best[2], best[3], geometric=False)
    return UnitMap(
        kind=kind,
        slope=Interval(min(max(slope, box[0]), box[1]), box[0], box[1]),
        intercept=Interval(min(max(intercept, box[2]), box[3]), box[2], box[3]),
    )


def _between(low: float, high: float, *, geometric: bool) -> float:
    if not (math.isfinite(low) and math.isfinite(high)):
        return low if math.isfinite(low) else high
    return math.sqrt(low * high) if geometric and low > 0 else (low + high) / 2


_FITS: dict[Kind, Fits] = {"factor": _factor, "offset": _offset, "line": _line}

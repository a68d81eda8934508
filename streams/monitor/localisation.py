"""Localisation of a loss: which slice explains it, or none. Plain numpy.

The slice with the largest likelihood gain over what was expected of its rows is the cause only if
it explains more than "everywhere" does: a loss of all rows shows in every slice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redistill.streams.monitor.mix import Excess, excess_of
from redistill.streams.monitor.slice_memory import LabelledRows

__all__ = ["Localised", "SliceLoss", "gain", "localise", "sums"]

SHOWN = 5
"""Slices that are ranked for a person."""


@dataclass(frozen=True, slots=True)
class SliceLoss:
    """One slice's part of a loss."""

    index: int
    """Of the slice, in ``ExpectedError.slices``."""
    n: int
    errors: int
    expected: float
    """Errors that were expected of these rows."""
    share: float | None
    """Part of the whole excess that lies in the slice; ``None``: there is no excess."""


@dataclass(frozen=True, slots=True)
class Localised:
    """Where a loss is."""

    slice: SliceLoss | None
    """The one that explains it; ``None``: everywhere, or not localised yet."""
    outside: Excess | None
    """Excess of the rows outside that slice."""
    ranked: tuple[SliceLoss, ...]
    """Slices with an excess, the largest gain first, at most five."""


def gain(observed: NDArray[np.float64], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log likelihood gain of as many errors as observed over as many as expected (Poisson); 0 where
    there are fewer.

    Examples
    --------
    >>> gain(np.array([20.0, 5.0]), np.array([10.0, 10.0])).round(2).tolist()
    [3.86, 0.0]
    """
    o, e = np.asarray(observed, np.float64), np.maximum(np.asarray(expected, np.float64), 1e-9)
    return np.where(o > e, o * np.log(np.maximum(o, 1e-9) / e) - (o - e), 0.0)


def sums(
    rows: LabelledRows, slices: int
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Rows, errors and expected errors per slice: ``(slices,)`` each."""
    n = np.zeros(slices, np.int64)
    observed, expected = np.zeros(slices), np.zeros(slices)
    for j in range(rows.slices.shape[1]):
        there = rows.slices[:, j] >= 0
        own = rows.slices[there, j]
        n += np.bincount(own, minlength=slices)
        observed += np.bincount(own, weights=rows.error[there], minlength=slices)
        expected += np.bincount(own, weights=rows.expected[there], minlength=slices)
    return n, observed, expected


def localise(rows: LabelledRows, slices: int) -> Localised:
    """Find the slice that explains the excess of errors in some rows.

    Slice ``s`` is named iff ``G_s - ln(slices) > G_all``, with ``G = O ln(O/E) - (O - E)``.

    Parameters
    ----------
    rows
        Random labelled rows since the change.
    slices
        Slices that are told apart.
    """
    if not len(rows) or not slices:
        return Localised(None, None, ())
    n, observed, expected = sums(rows, slices)
    gains = gain(observed, expected)
    wrong, asked = float(rows.error.sum()), float(rows.expected.sum(dtype=np.float64))
    total = wrong - asked
    order = [i for i in np.argsort(-gains, kind="stable").tolist() if gains[i] > 0]
    ranked = tuple(
        SliceLoss(
            i,
            int(n[i]),
            int(observed[i]),
            float(expected[i]),
            float((observed[i] - expected[i]) / total) if total > 0 else None,
        )
        for i in order[:SHOWN]
    )
    if not ranked:
        return Localised(None, None, ())
    best = ranked[0]
    everywhere = float(gain(np.array([wrong]), np.array([asked]))[0])
    if gains[best.index] - math.log(slices) <= everywhere:
        return Localised(None, None, ranked)
    out = rows.outside(best.index)
    outside = excess_of(int(out.error.sum()), len(out), float(out.expected.sum(dtype=np.float64)))
    return Localised(best, outside, ranked)

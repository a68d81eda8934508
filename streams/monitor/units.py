"""Unit changes: cents for euros, Fahrenheit for Celsius. A step to another scale, with the shape
kept.

Plain covariate shift moves values too, and slow columns are narrow in every window; so a change of
unit has to be a step between two levels that are both at rest, and its size has to be beyond
anything in the reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from redistill.streams.monitor.counts import Counts
from redistill.streams.monitor.input_profile import Column, Profile
from redistill.streams.monitor.reference import outside, quantiles_of, slope

__all__ = [
    "CONTINUOUS",
    "SAME_SHAPE",
    "SCALE",
    "SMALLEST_ROWS",
    "STEP_SUBWINDOWS",
    "UnitChange",
    "quartiles",
    "shaped_by",
    "steps",
    "suspects",
    "unit_changes",
]

SMALLEST_ROWS = 100
"""Values that a subwindow needs."""
CONTINUOUS = 50
"""Different values that a column needs in the reference."""
STEP_SUBWINDOWS = 5
"""Subwindows in which a step is looked for: two before it, the one that it falls into, two after
it."""
ALIKE = 1.35
"""Interquartile ranges of like subwindows differ by this factor at most; sampling noise of 500 rows
is 1.1."""
ALIKE_SHIFT = 0.35
"""Medians of like subwindows differ by this part of an interquartile range at most."""
SCALE = 1.5
"""A slope outside those of the reference by this factor is another unit where values are outside
the reference, too."""
PURE_SCALE = 4.0
"""A slope outside those of the reference by this factor is another unit wherever the values are."""
OFFSET = 6.0
"""So is a shift of this many interquartile ranges (about 8 standard deviations)."""
OUTSIDE = 0.3
"""Share of a window outside the central 99% of the reference, above the largest of its own."""
MOST = 0.7
"""Part of the deviation that must have come in one step."""
SAME_SHAPE = 0.95
"""Share of the quantiles' spread that a straight line must explain: a change of unit keeps the
shape."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitChange:
    """A column that looks like another unit."""

    column: int
    slope: float
    intercept: float
    outside: float
    """Share of the values outside the central 99% of the reference."""
    rows: int


@dataclass(frozen=True, slots=True, eq=False)
class Shaped:
    """The ``S`` columns of a profile whose unit can be judged, laid out for the counter."""

    columns: NDArray[np.int64]  # (S,)
    low: NDArray[np.int64]  # (S,) edge (flat index) below the central 99%
    high: NDArray[np.int64]  # (S,) edge above it
    inner: NDArray[np.int64]  # (S, 2) edges around the middle half
    usual: NDArray[np.float64]  # (S,) share of the reference between those two
    grid: NDArray[np.float64]  # (S, E) edges, inf where a column has fewer
    cells: NDArray[np.int64]  # (S, E) their flat indices
    real: NDArray[np.bool_]  # (S, E) where there is an edge


@lru_cache(maxsize=256)
def shaped_by(profile: Profile) -> Shaped:
    """The columns of a profile whose unit can be judged: continuous numbers, without two declared
    bounds."""
    offsets = profile.layout.offsets
    chosen = [j for j, column in enumerate(profile.columns[:-2]) if _has_unit(column)]
    low, high, inner, usual = [], [], [], []
    width = max((len(profile.layout.edges[j]) for j in chosen), default=0)
    grid = np.full((len(chosen), width), np.inf)
    cells = np.zeros((len(chosen), width), np.int64)
    for i, j in enumerate(chosen):
        column, edges, at = profile.columns[j], profile.layout.edges[j], int(offsets[j])
        low.append(at + max(0, int(np.searchsorted(edges, column.low, "right")) - 1))
        high.append(at + min(len(edges) - 1, int(np.searchsorted(edges, column.high, "right"))))
        a, b = (int(np.searchsorted(edges, column.quantiles[q])) for q in (1, 3))
        b = min(max(b, a + 1), len(edges) - 1)
        inner.append((at + a, at + b))
        usual.append((column.below[b] - column.below[a]) / column.valid)
        grid[i, : len(edges)] = edges
        cells[i, : len(edges)] = np.arange(at, at + len(edges))
    return Shaped(
        columns=np.array(chosen, np.int64),
        low=np.array(low, np.int64),
        high=np.array(high, np.int64),
        inner=np.array(inner, np.int64).reshape(-1, 2),
        usual=np.array(usual, np.float64),
        grid=grid,
        cells=cells,
        real=np.isfinite(grid),
    )


def _has_unit(column: Column) -> bool:
    return (
        column.role == "number"
        and not column.bounded
        and column.valid >= SMALLEST_ROWS
        and column.distinct >= CONTINUOUS
        and column.top < 0.25
        and column.quantiles[3] > column.quantiles[1]
    )


def quartiles(counts: Counts, profile: Profile) -> NDArray[np.float64]:
    """Quartiles of the columns whose unit can be judged, ``(3, S)``; NaN where there are too few
    values. Of subwindows: ``(P, 3, S)``."""
    shaped = shaped_by(profile)
    s, e = shaped.cells.shape
    valid = counts.valid[..., shaped.columns]
    subwindows = valid.shape[:-1]
    if not s:
        return np.empty((*subwindows, 3, 0))
    below = np.where(shaped.real, counts.below[..., shaped.cells], valid[..., None])  # (P, S, E)
    # one search for all columns of all subwindows: each lies above the one before it
    row = np.arange(valid.size).reshape(valid.shape)
    lift = row * (counts.rows + 1.0)
    targets = np.array([0.25, 0.5, 0.75])[:, None] * valid[..., None, :] + lift[..., None, :]
    upper = np.searchsorted((below + lift[..., None]).ravel(), targets) - row[..., None, :] * e
    last, first = np.minimum(upper, e - 1), np.maximum(upper - 1, 0)
    within, column = below.reshape(-1, e), np.arange(s)
    y0 = np.where(upper > 0, within[row[..., None, :], first], 0)
    y1 = np.where(upper < e, within[row[..., None, :], last], valid[..., None, :])
    low = counts.low[..., None, shaped.columns]
    high = counts.high[..., None, shaped.columns]
    with np.errstate(invalid="ignore"):  # columns without values have no bounds
        inner0 = np.minimum(np.maximum(shaped.grid[column, first], low), high)
        inner1 = np.minimum(np.maximum(shaped.grid[column, last], low), high)
        x0 = np.where(upper > 0, inner0, low)
        x1 = np.where(upper < e, inner1, high)
        out = x0 + (x1 - x0) * (targets - lift[..., None, :] - y0) / np.maximum(y1 - y0, 1e-9)
    few = np.broadcast_to((valid < SMALLEST_ROWS)[..., None, :], out.shape)
    out[few] = np.nan
    return np.asarray(out)


def steps(history: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """How far columns stepped from one level to another: two like subwindows, any, and two like
    subwindows elsewhere.

    Units change from one row to the next. Whatever wanders, breathes or follows a season is not
    alike for two subwindows on both sides of so sudden a change.

    Parameters
    ----------
    history
        ``quartiles`` of the last subwindows, oldest first; the last five are looked at.

    Returns
    -------
    numpy.ndarray
        ``(2, S)``: the step's factor of scale (as a logarithm) and its shift, both 0 where there
        was no step.
    """
    if len(history) < STEP_SUBWINDOWS:
        return np.zeros((2, history[-1].shape[1] if history else 0))
    a, b, _, c, d = history[-STEP_SUBWINDOWS:]
    with np.errstate(invalid="ignore"):  # too few values are NaN, and alike to nothing
        wide = [q[2] - q[0] for q in (a, b, c, d)]
        logs = [np.log(np.maximum(w, 1e-300)) for w in wide]
        alike = np.abs(logs[0] - logs[1]) < math.log(ALIKE)
        alike &= np.abs(logs[2] - logs[3]) < math.log(ALIKE)
        alike &= np.abs(a[1] - b[1]) < ALIKE_SHIFT * np.minimum(wide[0], wide[1])
        alike &= np.abs(c[1] - d[1]) < ALIKE_SHIFT * np.minimum(wide[2], wide[3])
        scale = np.where(alike, np.abs(logs[1] - logs[2]), 0.0)
        shift = np.where(alike, np.abs(b[1] - c[1]), 0.0)
    return np.stack([scale, shift])


def unit_changes(
    counts: Counts, profile: Profile, history: Sequence[NDArray[np.float64]] | None
) -> list[UnitChange]:
    """Columns that look like another unit.

    Parameters
    ----------
    counts
        A subwindow, or a window.
    history
        ``quartiles`` of the last subwindows, this one included: a change has to be a step;
        ``None``: is what was told before still so? Then no step is asked for, and less is enough.
    """
    shaped = shaped_by(profile)
    changes = []
    odd = np.flatnonzero(suspects(counts, profile)).tolist()
    if not odd:
        return []
    ease = 1.0 if history is not None else 0.75
    stepped = np.full((2, len(shaped.columns)), np.inf) if history is None else steps(history)
    for i in odd:
        j = int(shaped.columns[i])
        column, edges = profile.columns[j], profile.layout.edges[j]
        own = slice(int(profile.layout.offsets[j]), int(profile.layout.offsets[j + 1]))
        below, valid = counts.below[own], int(counts.valid[j])
        shape = quantiles_of(below, valid, edges, float(counts.low[j]), float(counts.high[j]))
        out = outside(below, valid, edges, column.low, column.high)
        a, b, explained = slope(np.array(column.quantiles), shape)
        if explained < SAME_SHAPE and not _collapsed(shape, column):
            continue
        step = (float(stepped[0, i]), float(stepped[1, i]))
        if _another_unit(column, a, float(shape[2]), out, step, ease):
            changes.append(UnitChange(column=j, slope=a, intercept=b, outside=out, rows=valid))
    return changes


def suspects(counts: Counts, profile: Profile) -> NDArray[np.bool_]:
    """Columns of which much is outside, or whose middle half is no longer about half: few, so the
    rest may be slow. ``(S,)``, of subwindows ``(P, S)``."""
    shaped = shaped_by(profile)
    below, valid = counts.below, counts.valid[..., shaped.columns]
    n = np.maximum(valid, 1)
    out = (below[..., shaped.low] + valid - below[..., shaped.high]) / n
    inner = (below[..., shaped.inner[:, 1]] - below[..., shaped.inner[:, 0]]) / n
    odd = (out >= 0.2) | (inner < 0.6 * shaped.usual) | (inner > 1.5 * shaped.usual)
    # constants have a rule of their own
    odd &= counts.low[..., shaped.columns] < counts.high[..., shaped.columns]
    odd &= valid >= SMALLEST_ROWS
    return np.asarray(odd)


def _another_unit(
    column: Column, a: float, median: float, out: float, step: tuple[float, float], ease: float
) -> bool:
    """Whether a slope, a median and a share outside the reference, come in a step, cannot be a mere
    shift of inputs."""
    usual = column.variability
    scaled = max(a / usual.scale_high, usual.scale_low / max(a, 1e-12))
    if scaled >= PURE_SCALE * ease and step[0] >= MOST * math.log(scaled):
        return True
    far = out >= min(0.9, OUTSIDE + usual.outside) * ease
    if scaled >= 1 + (SCALE - 1) * ease and far and step[0] >= MOST * math.log(scaled):
        return True
    width = column.quantiles[3] - column.quantiles[1]
    shift = abs(median - column.quantiles[2])
    return shift >= (OFFSET + 2 * usual.shift) * width * ease and step[1] >= MOST * shift


def _collapsed(shape: NDArray[np.float64], column: Column) -> bool:
    """The bulk fell between two edges, so that its shape cannot be seen: as when a unit became much
    larger."""
    return bool(shape[3] - shape[1] < 0.05 * (column.quantiles[3] - column.quantiles[1]))

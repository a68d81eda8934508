"""Unit changes: cents for euros, Fahrenheit for Celsius. A step to another scale, with the shape
kept.

Plain covariate shift moves values too, and slow columns are narrow in every window; so a change of
unit has to be a step between two levels that are both at rest, and its size has to be beyond
anything in the reference. Zeros are zeros in every unit: where a column has a bin of them, only its
other values are looked at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from redistill.streams.monitor.counts import Counts
from redistill.streams.monitor.input_profile import QUANTILES, Column, Profile
from redistill.streams.monitor.reference import quantiles_of, slope
from redistill.streams.monitor.unit_map import Kind, Known, UnitMap, unit_map

__all__ = [
    "CONTINUOUS",
    "OUTSIDE",
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
"""Rows that a subwindow needs."""
SMALLEST_VALUES = 50
"""Values, other than zeros where they have a bin, that a subwindow needs."""
CONTINUOUS = 50
"""Different values from which on a column is one of measurements, which are not often the same."""
STEP_SUBWINDOWS = 5
"""Subwindows in which a step is looked for: two before it, the one that it falls into, two after
it."""
ALIKE = 1.35
"""Interquartile ranges of like subwindows differ by this factor at most; sampling noise of 500 rows
is 1.1 ..."""
ALIKE_SHIFT = 0.35
"""... and medians by this part of an interquartile range at most ..."""
ALIKE_PART = 0.15
"""... or either by this part of the step: beside a large one the noise of long tails is small."""
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
GRADED = 20
"""Different values that a column needs to have a unit."""
SEEN_EDGES = 4
"""Edges among the central 90% of a window from which on its quantiles show its shape."""
SIMPLE: tuple[Kind, ...] = ("factor", "offset")
TOLD = 4.0
"""A factor is told if its upper bound is so many times the lower one at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UnitChange:
    """A column that looks like another unit."""

    column: int
    slope: float
    intercept: float
    maps: tuple[UnitMap, ...]
    """Those that fit, with bounds: of a narrow column a factor and an offset may; none: not asked
    for, or no map fits."""
    outside: float
    """Share of the values outside the central 99% of the reference."""
    rows: int

    @property
    def told(self) -> tuple[UnitMap, ...]:
        """The maps whose bounds are close enough to tell them."""
        return tuple(m for m in self.maps if _close(m))


def _close(found: UnitMap) -> bool:
    if not 0 < found.slope.high <= TOLD * found.slope.low:
        return False
    return math.isfinite(found.intercept.low) and math.isfinite(found.intercept.high)


@dataclass(frozen=True, slots=True, eq=False)
class Shaped:
    """The ``S`` columns of a profile whose unit can be judged, laid out for the counter."""

    columns: NDArray[np.int64]  # (S,)
    zeros: NDArray[np.int64]  # (S, 2) edges (flat indices) around zero; twice the same: no bin
    marks: NDArray[np.int64]  # (S, 4) edges around the central 99%, and around the middle half
    after: NDArray[np.bool_]  # (S, 4) which of them lie behind zero
    usual: NDArray[np.float64]  # (S,) share of the reference between the last two
    quantiles: NDArray[np.float64]  # (S, Q) of the reference, at ``QUANTILES``
    grid: NDArray[np.float64]  # (S, E) edges, inf where a column has fewer
    cells: NDArray[np.int64]  # (S, E) their flat indices
    real: NDArray[np.bool_]  # (S, E) where there is an edge


@lru_cache(maxsize=256)
def shaped_by(profile: Profile) -> Shaped:
    """The columns of a profile whose unit can be judged: continuous numbers, without two declared
    bounds."""
    offsets = profile.layout.offsets
    chosen = [
        (j, reference)
        for j, column in enumerate(profile.columns[:-2])
        if (reference := _with_unit(column, profile.layout.edges[j])) is not None
    ]
    width = max((len(profile.layout.edges[j]) for j, _ in chosen), default=0)
    grid = np.full((len(chosen), width), np.inf)
    cells = np.zeros((len(chosen), width), np.int64)
    zeros, marks, after, usual, quantiles = [], [], [], [], []
    for i, (j, values) in enumerate(chosen):
        column, edges, at = profile.columns[j], profile.layout.edges[j], int(offsets[j])
        first, last = _zero_bin(edges)
        q = quantiles_of(values.below, values.n, edges, values.low, values.high)
        low = max(0, int(np.searchsorted(edges, column.low, "right")) - 1)
        high = min(len(edges) - 1, int(np.searchsorted(edges, column.high, "right")))
        a, b = (int(np.searchsorted(edges, np.float32(q[k]))) for k in (1, 3))
        a = min(a, len(edges) - 2)
        b = min(max(b, a + 1), len(edges) - 1)
        zeros.append((at + first, at + last))
        marks.append([at + low, at + high, at + a, at + b])
        after.append([first < last <= k for k in (low, high, a, b)])
        usual.append((values.below[b] - values.below[a]) / values.n)
        quantiles.append(q)
        grid[i, : len(edges)] = edges
        cells[i, : len(edges)] = np.arange(at, at + len(edges))
    return Shaped(
        columns=np.array([j for j, _ in chosen], np.int64),
        zeros=np.array(zeros, np.int64).reshape(-1, 2),
        marks=np.array(marks, np.int64).reshape(-1, 4),
        after=np.array(after, np.bool_).reshape(-1, 4),
        usual=np.array(usual, np.float64),
        quantiles=np.array(quantiles, np.float64).reshape(-1, len(QUANTILES)),
        grid=grid,
        cells=cells,
        real=np.isfinite(grid),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Values:
    """A column's values without the bin of zeros, if it has one."""

    below: NDArray[np.int64]  # (E,) values below each edge
    n: int
    low: float
    high: float

    @classmethod
    def of(
        cls, below: NDArray[np.int64], n: int, edges: NDArray[np.float32], low: float, high: float
    ) -> _Values:
        first, last = _zero_bin(edges)
        zeros = int(below[last] - below[first])
        return cls(below - np.where(np.arange(len(edges)) >= last, zeros, 0), n - zeros, low, high)

    def known(self, edges: NDArray[np.float32], *, ends: bool) -> Known:
        """As far as edges, and the smallest and largest value, tell."""
        at, below = edges.astype(np.float64), self.below
        if ends:
            inside = (at > self.low) & (at <= self.high)
            at = np.concatenate(
                [[self.low], at[inside], [np.nextafter(np.float32(self.high), np.float32(np.inf))]]
            )
            below = np.concatenate([[0], below[inside], [self.n]])
        return Known(at, below, self.n)


def _zero_bin(edges: NDArray[np.float32]) -> tuple[int, int]:
    """Edges of the bin that has only zeros; the same one twice where there is none."""
    at = int(np.searchsorted(edges, np.float32(0.0)))
    following = np.nextafter(np.float32(0.0), np.float32(1.0))
    if at + 1 < len(edges) and edges[at] == 0 and edges[at + 1] == following:
        return at, at + 1
    return (0, 0)


def _with_unit(column: Column, edges: NDArray[np.float32]) -> _Values | None:
    """The reference's values of a column; ``None``: its unit cannot be judged."""
    if column.role != "number" or column.bounded or column.distinct < GRADED:
        return None
    below = np.array(column.below, np.int64)
    values = _Values.of(below, column.valid, edges, column.low, column.high)
    repeated = column.top >= 0.25 and values.n == column.valid  # and it is not zero
    if repeated or len(edges) < 2 or values.n < max(SMALLEST_ROWS, column.valid // 10):
        return None
    quantiles = quantiles_of(values.below, values.n, edges, values.low, values.high)
    return values if quantiles[3] > quantiles[1] else None


def _values(counts: Counts, shaped: Shaped) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Zeros that have a bin, and all other values: ``(S,)`` each, of subwindows ``(P, S)``."""
    ends = counts.below[..., shaped.zeros]
    zeros = ends[..., 1] - ends[..., 0]
    return zeros, counts.valid[..., shaped.columns] - zeros


def quartiles(counts: Counts, profile: Profile) -> NDArray[np.float64]:
    """Quartiles of the columns whose unit can be judged, ``(3, S)``; NaN where there are too few
    values. Of subwindows: ``(P, 3, S)``."""
    shaped = shaped_by(profile)
    s, e = shaped.cells.shape
    zeros, valid = _values(counts, shaped)
    subwindows = valid.shape[:-1]
    if not s:
        return np.empty((*subwindows, 3, 0))
    below = np.where(shaped.real, counts.below[..., shaped.cells], valid[..., None])  # (P, S, E)
    below -= np.where(shaped.real & (shaped.grid > 0), zeros[..., None], 0)
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
    few = np.broadcast_to((valid < SMALLEST_VALUES)[..., None, :], out.shape)
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
        scale, shift = np.abs(logs[1] - logs[2]), np.abs(b[1] - c[1])
        noise = np.maximum(math.log(ALIKE), ALIKE_PART * scale)
        alike = (np.abs(logs[0] - logs[1]) < noise) & (np.abs(logs[2] - logs[3]) < noise)
        for (p, q), (v, w) in (((a, b), wide[:2]), ((c, d), wide[2:])):
            moved = np.maximum(ALIKE_SHIFT * np.minimum(v, w), ALIKE_PART * shift)
            alike &= np.abs(p[1] - q[1]) < moved
    return np.stack([np.where(alike, scale, 0.0), np.where(alike, shift, 0.0)])


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
    share = _outside(counts, shaped)
    for i in odd:
        if not stepped[:, i].any():
            continue
        j = int(shaped.columns[i])
        column, edges = profile.columns[j], profile.layout.edges[j]
        own = slice(int(profile.layout.offsets[j]), int(profile.layout.offsets[j + 1]))
        ends = float(counts.low[j]), float(counts.high[j])
        values = _Values.of(counts.below[own], int(counts.valid[j]), edges, *ends)
        usual = _Values.of(np.array(column.below), column.valid, edges, column.low, column.high)
        pair = usual.known(edges, ends=False), values.known(edges, ends=True)
        shape = quantiles_of(values.below, values.n, edges, *ends)
        maps = [m for kind in SIMPLE if (m := unit_map(*pair, (kind,))) is not None]
        a, b, explained = slope(shaped.quantiles[i], shape)
        among = (values.below > values.n // 20) & (values.below < values.n - values.n // 20)
        if explained >= SAME_SHAPE and among.sum() >= SEEN_EDGES:
            maps = [m for m in maps if 1 / SCALE < m.slope.value / max(a, 1e-300) < SCALE]
        elif not maps and explained < SAME_SHAPE:
            continue
        else:  # quantiles were drawn over too wide a gap
            maps = _plausible(maps, (ends[1] - ends[0]) / max(column.high - column.low, 1e-300))
        if maps:
            a, b = maps[0].slope.value, maps[0].intercept.value
        step = (float(stepped[0, i]), float(stepped[1, i]))
        out = float(share[i])
        if _another_unit(column, shaped.quantiles[i], a, float(shape[2]), out, step, ease):
            if not maps and history is not None:
                maps = [m for m in [unit_map(*pair, ("line",))] if m is not None]
            changes.append(
                UnitChange(
                    column=j, slope=a, intercept=b, maps=tuple(maps), outside=out, rows=values.n
                )
            )
    return changes


def _plausible(maps: list[UnitMap], width: float) -> list[UnitMap]:
    """Where a factor and an offset fit, the one that leaves values as wide as they are, if either
    does; ``width``: of all values in that of the reference's central 99%."""
    if len(maps) < 2 or width <= 0:
        return maps
    ratios = [abs(math.log(max(width / max(m.slope.value, 1e-300), 1e-300))) for m in maps]
    good = [m for m, ratio in zip(maps, ratios, strict=True) if ratio < math.log(TOLD)]
    return good or maps


def suspects(counts: Counts, profile: Profile) -> NDArray[np.bool_]:
    """Columns of which much is outside, or whose middle half is no longer about half: few, so the
    rest may be slow. ``(S,)``, of subwindows ``(P, S)``."""
    shaped = shaped_by(profile)
    inner = _between(counts, shaped)[..., 1]
    odd = _outside(counts, shaped) >= 0.2
    odd |= (inner < 0.6 * shaped.usual) | (inner > 1.5 * shaped.usual)
    # constants have a rule of their own
    odd &= counts.low[..., shaped.columns] < counts.high[..., shaped.columns]
    odd &= _values(counts, shaped)[1] >= SMALLEST_VALUES
    return np.asarray(odd)


def _between(counts: Counts, shaped: Shaped) -> NDArray[np.float64]:
    """Shares within the central 99% of the reference, and within its middle half: ``(..., S,
    2)``."""
    zeros, valid = _values(counts, shaped)
    below = counts.below[..., shaped.marks] - np.where(shaped.after, zeros[..., None], 0)
    return np.asarray((below[..., 1::2] - below[..., ::2]) / np.maximum(valid, 1)[..., None])


def _outside(counts: Counts, shaped: Shaped) -> NDArray[np.float64]:
    return 1.0 - _between(counts, shaped)[..., 0]


def _another_unit(
    column: Column,
    quantiles: NDArray[np.float64],
    a: float,
    median: float,
    out: float,
    step: tuple[float, float],
    ease: float,
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
    width = float(quantiles[3] - quantiles[1])
    shift = abs(median - float(quantiles[2]))
    return shift >= (OFFSET + 2 * usual.shift) * width * ease and step[1] >= MOST * shift

"""Contract checks: what breaks in pipelines, told apart from what merely moves.

A rule compares a share of rows with what the reference allows: its upper bound, the worst stretch
of the reference, and a margin that is both worth a person's time and six standard errors wide, so
that a thousand columns watched for a year stay silent. *Panes* of 500 rows show what is blatant at
once, whole windows what is smaller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streams.monitor.counts import Counts
from streams.monitor.intervals import upper_bound
from streams.monitor.normal import Column, Profile
from streams.monitor.reference import outside, quantiles_of, slope

Rule = Literal[
    "missing", "wrong_type", "out_of_range", "unseen_category", "unit_change", "constant"
]

SIGMAS = 6.0
"""Standard errors that a share must be above what is allowed."""
SMALLEST_ROWS = 100
"""Rows below which nothing is checked."""
MARGINS: dict[str, tuple[float, float]] = {
    "missing": (0.15, 0.05),
    "wrong_type": (0.10, 0.01),
    "out_of_range": (0.10, 0.01),
    "unseen_category": (0.10, 0.02),
}
"""Share above what is allowed that is worth a person's time: in a pane, in a window."""
PANES_NEEDED: dict[str, int] = {"unit_change": 2, "constant": 2}
"""Bad panes in a row that open a finding; 1 for the other rules."""

SCALE = 1.5
"""A slope outside the habitual ones by this factor, together with values outside the reference, is
another unit."""
PURE_SCALE = 4.0
"""A slope outside the habitual ones by this factor is another unit wherever the values are."""
OFFSET = 6.0
"""So is a shift of this many interquartile ranges (about 8 standard deviations) at an unchanged
slope."""
OUTSIDE = 0.3
"""Share of a window outside the central 99% of the reference, above the habitual one."""
SAME_SHAPE = 0.95
"""Share of the quantiles' spread that a straight line must explain: a change of unit keeps the
shape."""
CONTINUOUS = 50
"""Different values that a column needs for the rules of unit and constancy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Breach:
    """One column breaks one rule in some rows."""

    rule: Rule
    column: int
    value: float
    """Share of rows; for ``unit_change`` the slope, for ``constant`` the value."""
    reference: float
    """Share in the reference; for ``unit_change`` 1, for ``constant`` its distinct values."""
    hits: int
    """Rows that break it."""
    rows: int
    threshold: float
    """What ``value`` had to exceed, in its unit."""
    detail: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Allowed:
    """What a profile allows per column, all ``(C,)``."""

    missing: NDArray[np.float64]  # share; inf = not checked
    unseen: NDArray[np.float64]
    ranged: NDArray[np.float64]
    under: NDArray[np.int64]  # edge (flat index) of the declared minimum, -1 = none
    over: NDArray[np.int64]
    first: NDArray[np.int64]  # first edge of each column
    varied: NDArray[np.bool_]  # columns that may not become constant
    shaped: NDArray[np.int64]  # (S,) columns whose unit is checked; the next four belong to them
    low: NDArray[np.int64]  # (S,) edge (flat index) below the central 99%
    high: NDArray[np.int64]  # (S,) edge above it
    inner: NDArray[np.int64]  # (S, 2) edges around the middle half
    usual: NDArray[np.float64]  # (S,) share of the reference between those two

    @classmethod
    def of(cls, profile: Profile) -> Allowed:
        """Work out a profile's allowances."""
        features = profile.columns
        c = len(features)
        offsets = profile.layout.offsets
        missing, unseen, ranged = (np.full(c, np.inf) for _ in range(3))
        under, over = np.full(c, -1, np.int64), np.full(c, -1, np.int64)
        for j, col in enumerate(features):
            if col.valid:
                bound = upper_bound(col.missing, col.valid + col.missing, 1e-4)
                missing[j] = max(col.habits.missing, bound)
            if col.role == "category" and col.valid:
                new = col.below[0] + col.once + 3 * math.sqrt(col.once)
                unseen[j] = max(col.habits.unseen, upper_bound(round(new), col.valid, 1e-4))
            edges = profile.layout.edges[j]
            if col.role != "category" and j < c - 2:
                bad = 0
                if col.minimum is not None:
                    under[j] = offsets[j] + np.searchsorted(edges, np.float32(col.minimum))
                    bad += col.below[under[j] - offsets[j]]
                if col.maximum is not None:
                    above = np.nextafter(np.float32(col.maximum), np.float32(np.inf))
                    over[j] = offsets[j] + np.searchsorted(edges, above)
                    bad += col.valid - col.below[over[j] - offsets[j]]
                if col.minimum is not None or col.maximum is not None:
                    ranged[j] = upper_bound(bad, col.valid, 1e-4) if col.valid >= 1_000 else 0.0
        shaped = [j for j, col in enumerate(features[:-2]) if _has_unit(col)]
        low, high, inner, usual = [], [], [], []
        for j in shaped:
            col, edges = features[j], profile.layout.edges[j]
            low.append(max(0, int(np.searchsorted(edges, col.low, "right")) - 1))
            high.append(min(len(edges) - 1, int(np.searchsorted(edges, col.high, "right"))))
            a, b = (int(np.searchsorted(edges, col.quantiles[i])) for i in (1, 3))
            b = min(max(b, a + 1), len(edges) - 1)
            inner.append((a + offsets[j], b + offsets[j]))
            usual.append((col.below[b] - col.below[a]) / col.valid)
        at = offsets[:-1][shaped]
        return cls(
            missing=missing,
            unseen=unseen,
            ranged=ranged,
            under=under,
            over=over,
            first=offsets[:-1],
            varied=np.array([*map(_varies, features[:-2]), False, False]),
            shaped=np.array(shaped, np.int64),
            low=at + np.array(low, np.int64),
            high=at + np.array(high, np.int64),
            inner=np.array(inner, np.int64).reshape(-1, 2),
            usual=np.array(usual),
        )


@lru_cache(maxsize=256)
def allowed_by(profile: Profile) -> Allowed:
    """``Allowed.of``, remembered per profile."""
    return Allowed.of(profile)


def _decided(column: Column) -> bool:
    return column.minimum is not None and column.maximum is not None


def _has_unit(column: Column) -> bool:
    return (
        column.role == "number"
        and not _decided(column)
        and column.valid >= SMALLEST_ROWS
        and column.distinct >= CONTINUOUS
        and column.top < 0.25
        and column.quantiles[3] > column.quantiles[1]
    )


def _varies(column: Column) -> bool:
    return (
        column.role == "number"
        and not _decided(column)
        and column.distinct >= CONTINUOUS
        and column.top < 0.05
        and not column.habits.constant
    )


def breaches(
    counts: Counts,
    profile: Profile,
    *,
    whole_window: bool,
    before: Counts | None = None,
    lenient: bool = False,
) -> list[Breach]:
    """What is broken in some rows.

    Parameters
    ----------
    counts
        Counts of a pane or of a window.
    whole_window
        Use the margins of a window, not those of a pane.
    before
        Counts of the window before: a unit changes from one row to the next, a wandering column
        does not.
    lenient
        Halve the margins: a finding is only over when not even that is exceeded.
    """
    n = counts.rows
    if n < SMALLEST_ROWS:
        return []
    allowed = allowed_by(profile)
    found: list[Breach] = []
    missing = n - counts.valid - np.minimum(counts.wrong, n - counts.valid)
    checks: list[tuple[Rule, NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = [
        ("missing", missing, np.full(len(missing), n), allowed.missing),
        ("wrong_type", counts.wrong, np.full(len(missing), n), np.zeros(len(missing))),
        ("unseen_category", counts.below[allowed.first], counts.valid, allowed.unseen),
        ("out_of_range", _out_of_range(counts, allowed), counts.valid, allowed.ranged),
    ]
    for rule, hits, rows, limit in checks:
        margin = MARGINS[rule][1 if whole_window else 0] * (0.5 if lenient else 1.0)
        for j, threshold in _exceeding(hits, rows, limit, margin):
            column = profile.columns[j]
            found.append(
                Breach(
                    rule=rule,
                    column=j,
                    value=float(hits[j] / rows[j]),
                    reference=_reference_share(rule, column),
                    hits=int(hits[j]),
                    rows=int(rows[j]),
                    threshold=threshold,
                )
            )
    found += _constant(counts, profile)
    found += _units(counts, profile, before, ease=0.75 if lenient else 1.0)
    return found


def _exceeding(
    hits: NDArray[np.int64], rows: NDArray[np.int64], limit: NDArray[np.float64], margin: float
) -> list[tuple[int, float]]:
    """Columns with a share of hits above the limit by the margin and by six standard errors, and
    that threshold."""
    if not hits.any():
        return []
    found = []
    usable = (hits > 0) & (rows >= SMALLEST_ROWS // 2) & np.isfinite(limit)
    for j in np.flatnonzero(usable).tolist():
        p, n = float(limit[j]), int(rows[j])
        threshold = p + max(margin, SIGMAS * math.sqrt(max(p * (1 - p), 1 / n) / n))
        if threshold >= 1 and p < 0.9:
            threshold = 1 - 0.5 / n  # no room above the allowance: nothing but hits
        if hits[j] / n > threshold:
            found.append((j, threshold))
    return found


def _reference_share(rule: Rule, column: Column) -> float:
    if rule == "missing":
        return column.missing / max(1, column.valid + column.missing)
    if rule == "unseen_category":
        return column.below[0] / max(1, column.valid)
    return 0.0


def _out_of_range(counts: Counts, allowed: Allowed) -> NDArray[np.int64]:
    under = np.where(allowed.under >= 0, counts.below[allowed.under], 0)
    over = np.where(allowed.over >= 0, counts.valid - counts.below[allowed.over], 0)
    return np.asarray(under + over)


def _constant(counts: Counts, profile: Profile) -> list[Breach]:
    stuck = (
        allowed_by(profile).varied & (counts.low == counts.high) & (counts.valid >= SMALLEST_ROWS)
    )
    return [
        Breach(
            rule="constant",
            column=j,
            value=float(counts.low[j]),
            reference=float(profile.columns[j].distinct),
            hits=int(counts.valid[j]),
            rows=int(counts.valid[j]),
            threshold=1.0,
        )
        for j in np.flatnonzero(stuck).tolist()
    ]


def _units(counts: Counts, profile: Profile, before: Counts | None, *, ease: float) -> list[Breach]:
    found = []
    for j in _suspects(counts, allowed_by(profile)):
        column, edges = profile.columns[j], profile.layout.edges[j]
        valid = int(counts.valid[j])
        shape, below = _shape(counts, profile, j)
        a, b, explained = slope(np.array(column.quantiles), shape)
        if explained < SAME_SHAPE and not _collapsed(shape, column):
            continue
        out = outside(below, valid, edges, column.low, column.high)
        if not _another_unit(column, a, float(shape[2]), out, ease):
            continue
        if before is not None and before.valid[j] >= SMALLEST_ROWS:
            earlier, _ = _shape(before, profile, j)
            if not _abrupt(column, earlier, shape):
                continue
        found.append(
            Breach(
                rule="unit_change",
                column=j,
                value=a,
                reference=1.0,
                hits=round(out * valid),
                rows=valid,
                threshold=SCALE,
                detail=f"about {a:.3g} x the usual value {'+' if b >= 0 else '-'} {abs(b):.3g}",
            )
        )
    return found


def _shape(
    counts: Counts, profile: Profile, j: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    own = slice(int(profile.layout.offsets[j]), int(profile.layout.offsets[j + 1]))
    below = counts.below[own]
    edges, low, high = profile.layout.edges[j], float(counts.low[j]), float(counts.high[j])
    return quantiles_of(below, int(counts.valid[j]), edges, low, high), below


def _abrupt(column: Column, earlier: NDArray[np.float64], now: NDArray[np.float64]) -> bool:
    """Whether the column jumped further since the last window than the reference ever drifts in
    that time."""
    reference = np.array(column.quantiles)
    width = reference[3] - reference[1]
    if abs(now[2] - earlier[2]) / width >= 0.5 + 8 * column.habits.jump:
        return True
    a, b = slope(reference, now)[0], slope(reference, earlier)[0]
    return abs(math.log(max(a, 1e-12) / max(b, 1e-12))) >= math.log(SCALE) * 0.8


def _another_unit(column: Column, a: float, median: float, out: float, ease: float) -> bool:
    """Whether a slope, a median and a share outside the reference cannot be a mere shift of the
    inputs."""
    habits = column.habits
    up, down = a / habits.scale_high, habits.scale_low / max(a, 1e-12)
    if max(up, down) >= PURE_SCALE * ease:
        return True
    far = out >= min(0.9, OUTSIDE + habits.outside) * ease
    if max(up, down) >= SCALE * (1 + (ease - 1) / 2) and far:
        return True
    width = column.quantiles[3] - column.quantiles[1]
    return abs(median - column.quantiles[2]) / width >= (OFFSET + 2 * habits.shift) * ease


def _collapsed(shape: NDArray[np.float64], column: Column) -> bool:
    """The bulk fell between two edges, so that its shape cannot be seen: as when a unit became much
    larger."""
    return bool(shape[3] - shape[1] < 0.05 * (column.quantiles[3] - column.quantiles[1]))


def _suspects(counts: Counts, allowed: Allowed) -> list[int]:
    """Columns of which much is outside, or whose middle half is no longer about half: few, so the
    rest may be slow."""
    if not len(allowed.shaped):
        return []
    valid = counts.valid[allowed.shaped]
    n = np.maximum(valid, 1)
    out = (counts.below[allowed.low] + valid - counts.below[allowed.high]) / n
    inner = (counts.below[allowed.inner[:, 1]] - counts.below[allowed.inner[:, 0]]) / n
    odd = (out >= 0.2) | (inner < 0.6 * allowed.usual) | (inner > 1.5 * allowed.usual)
    odd &= (
        counts.low[allowed.shaped] < counts.high[allowed.shaped]
    )  # a constant has a rule of its own
    return [int(j) for j in allowed.shaped[odd & (valid >= SMALLEST_ROWS)]]

"""Contract checks: what breaks in pipelines, told apart from what merely drifts.

A rule compares a share of rows with what the reference allows: its upper bound, the worst stretch
of the reference, and a margin that is both worth a person's time and six standard errors wide, so
that a thousand columns watched for a year stay silent. *Subwindows* of 500 rows show what is
blatant at once, whole windows what is smaller.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from redistill.stats import upper_bound
from redistill.streams.monitor.counts import Counts
from redistill.streams.monitor.input_profile import Column, Profile
from redistill.streams.monitor.unit_map import Interval, UnitMap
from redistill.streams.monitor.units import (
    CONTINUOUS,
    OUTSIDE,
    SCALE,
    SMALLEST_ROWS,
    UnitChange,
    suspects,
    unit_changes,
)
from redistill.streams.wire.sentences import figure

__all__ = ["SUBWINDOWS_NEEDED", "Breach", "breaches", "quiet"]

Rule = Literal[
    "missing", "wrong_type", "out_of_range", "unseen_category", "unit_change", "constant"
]

SIGMAS = 6.0
"""Standard errors that a share must be above what is allowed."""
MARGINS: dict[str, tuple[float, float]] = {
    "missing": (0.15, 0.05),
    "wrong_type": (0.10, 0.01),
    "out_of_range": (0.10, 0.01),
    "unseen_category": (0.10, 0.02),
}
"""Share above what is allowed that is worth a person's time: in a subwindow, in a window."""
SUBWINDOWS_NEEDED: dict[str, int] = {"constant": 2}
"""Bad subwindows in a row that open a finding; 1 for the other rules."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Breach:
    """One column breaks one rule in some rows."""

    rule: Rule
    column: int
    name: str
    """Of the column."""
    value: float
    """Share of rows; for ``unit_change`` the slope if it is known, for ``constant`` the value."""
    reference: float
    """Share in the reference; for ``unit_change`` 1, for ``constant`` its distinct values."""
    hits: int
    """Rows that break it."""
    rows: int
    threshold: float
    """What ``value`` had to exceed, in its unit."""
    interval: tuple[float, float] | None = None
    """Bounds of the slope of a ``unit_change``; ``None``: these rows cannot tell it."""
    detail: str = ""

    @property
    def key(self) -> str:
        """Names the rule and the column."""
        return f"{self.rule}|{self.column}"


@dataclass(frozen=True, slots=True, eq=False)
class Allowed:
    """What a profile allows per column; ``(C,)`` where nothing else is said."""

    missing: NDArray[np.float64]  # share; inf = not checked
    unseen: NDArray[np.float64]
    ranged: NDArray[np.float64]
    minimum: tuple[
        NDArray[np.int64], NDArray[np.int64]
    ]  # columns with a declared minimum, its edge
    maximum: tuple[NDArray[np.int64], NDArray[np.int64]]  # edges are flat indices
    first: NDArray[np.int64]  # first edge of each column
    varied: NDArray[np.bool_]  # columns that may not become constant

    @classmethod
    def of(cls, profile: Profile) -> Allowed:
        """Work out a profile's allowances."""
        features = profile.columns
        c = len(features)
        offsets = profile.layout.offsets
        missing, unseen, ranged = (np.full(c, np.inf) for _ in range(3))
        under: dict[int, int] = {}
        over: dict[int, int] = {}
        for j, col in enumerate(features):
            if col.valid:
                bound = upper_bound(col.missing, col.valid + col.missing, 1e-4)
                missing[j] = max(col.variability.missing, bound)
            if col.role == "category" and col.valid:
                new = col.below[0] + col.once + 3 * math.sqrt(col.once)
                unseen[j] = max(col.variability.unseen, upper_bound(round(new), col.valid, 1e-4))
            edges = profile.layout.edges[j]
            if col.role != "category" and j < c - 2:
                bad = 0
                if col.minimum is not None:
                    edge = int(np.searchsorted(edges, np.float32(col.minimum)))
                    under[j] = int(offsets[j]) + edge
                    bad += col.below[edge]
                if col.maximum is not None:
                    above = np.nextafter(np.float32(col.maximum), np.float32(np.inf))
                    edge = int(np.searchsorted(edges, above))
                    over[j] = int(offsets[j]) + edge
                    bad += col.valid - col.below[edge]
                if col.minimum is not None or col.maximum is not None:
                    ranged[j] = upper_bound(bad, col.valid, 1e-4) if col.valid >= 1_000 else 0.0
        return cls(
            missing=missing,
            unseen=unseen,
            ranged=ranged,
            minimum=_indices(under),
            maximum=_indices(over),
            first=offsets[:-1],
            varied=np.array([*map(_varies, features[:-2]), False, False]),
        )


def _indices(edges: dict[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.array([*edges], np.int64), np.array([*edges.values()], np.int64)


@lru_cache(maxsize=256)
def allowed_by(profile: Profile) -> Allowed:
    """``Allowed.of``, remembered per profile."""
    return Allowed.of(profile)


def _varies(column: Column) -> bool:
    return (
        column.role == "number"
        and not column.bounded
        and column.distinct >= CONTINUOUS
        and column.top < 0.05
        and not column.variability.constant
    )


def breaches(
    counts: Counts,
    profile: Profile,
    *,
    whole_window: bool,
    history: Sequence[NDArray[np.float64]] | None = None,
    relaxed: bool = False,
) -> list[Breach]:
    """What is broken in some rows.

    Parameters
    ----------
    counts
        Counts of a subwindow or of a window.
    whole_window
        Use the margins of a window, not those of a subwindow.
    history
        ``units.quartiles`` of the last subwindows, this one included, to see changes of unit;
        ``None``: they are not looked for, unless ``relaxed``.
    relaxed
        Halve the margins: a finding is only over when not even that is exceeded.
    """
    n = counts.rows
    if n < SMALLEST_ROWS:
        return []
    broken: list[Breach] = []
    for rule, hits, rows, limit in _checks(counts, allowed_by(profile)):
        if not hits.any():
            continue
        margin = MARGINS[rule][1 if whole_window else 0] * (0.5 if relaxed else 1.0)
        exceeds, threshold = _exceeds(hits, rows, limit, margin)
        for j in np.flatnonzero(exceeds).tolist():
            column = profile.columns[j]
            broken.append(
                Breach(
                    rule=rule,
                    column=j,
                    name=column.name,
                    value=float(hits[j] / rows[j]),
                    reference=_reference_share(rule, column),
                    hits=int(hits[j]),
                    rows=int(rows[j]),
                    threshold=float(threshold[j]),
                )
            )
    broken += _constant(counts, profile)
    if relaxed or history is not None:
        changes = unit_changes(counts, profile, None if relaxed else history)
        broken += [_unit(change, profile) for change in changes]
    return broken


def quiet(subwindows: Counts, profile: Profile) -> NDArray[np.bool_]:
    """Which of ``P`` subwindows have no breach at all, ``(P,)``: ``breaches`` need not look at
    them."""
    if subwindows.rows < SMALLEST_ROWS:
        return np.ones(len(subwindows.valid), np.bool_)
    allowed = allowed_by(profile)
    bad = suspects(subwindows, profile).any(axis=1) | _stuck(subwindows, allowed).any(axis=1)
    for rule, hits, rows, limit in _checks(subwindows, allowed):
        if hits.any():
            bad |= _exceeds(hits, rows, limit, MARGINS[rule][0])[0].any(axis=1)
    return np.asarray(~bad)


def _checks(
    counts: Counts, allowed: Allowed
) -> list[tuple[Rule, NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
    """Per rule the rows that break it, the rows that could, and the share that is allowed:
    ``(C,)``, of subwindows ``(P, C)``."""
    n = counts.rows
    missing = n - counts.valid - np.minimum(counts.wrong, n - counts.valid)
    every = np.full(missing.shape, n)
    return [
        ("missing", missing, every, allowed.missing),
        ("wrong_type", counts.wrong, every, np.zeros(missing.shape[-1])),
        ("unseen_category", counts.below[..., allowed.first], counts.valid, allowed.unseen),
        ("out_of_range", _out_of_range(counts, allowed), counts.valid, allowed.ranged),
    ]


def _exceeds(
    hits: NDArray[np.int64], rows: NDArray[np.int64], limit: NDArray[np.float64], margin: float
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Whether a share of hits is above the limit by the margin and by six standard errors, and that
    threshold."""
    checked = np.isfinite(limit)
    p, n = np.where(checked, limit, 0.0), np.maximum(rows, 1)
    threshold = p + np.maximum(margin, SIGMAS * np.sqrt(np.maximum(p * (1 - p), 1 / n) / n))
    # no room above the allowance: nothing but hits
    threshold = np.where((threshold >= 1) & (p < 0.9), 1 - 0.5 / n, threshold)
    usable = checked & (hits > 0) & (rows >= SMALLEST_ROWS // 2)
    return usable & (hits / n > threshold), threshold


def _reference_share(rule: Rule, column: Column) -> float:
    if rule == "missing":
        return column.missing / max(1, column.valid + column.missing)
    if rule == "unseen_category":
        return column.below[0] / max(1, column.valid)
    return 0.0


def _out_of_range(counts: Counts, allowed: Allowed) -> NDArray[np.int64]:
    hits = np.zeros(counts.valid.shape, np.int64)
    columns, edges = allowed.minimum
    if len(columns):
        hits[..., columns] += counts.below[..., edges]
    columns, edges = allowed.maximum
    if len(columns):
        hits[..., columns] += counts.valid[..., columns] - counts.below[..., edges]
    return hits


def _constant(counts: Counts, profile: Profile) -> list[Breach]:
    return [
        Breach(
            rule="constant",
            column=j,
            name=profile.columns[j].name,
            value=float(counts.low[j]),
            reference=float(profile.columns[j].distinct),
            hits=int(counts.valid[j]),
            rows=int(counts.valid[j]),
            threshold=1.0,
        )
        for j in np.flatnonzero(_stuck(counts, allowed_by(profile))).tolist()
    ]


def _stuck(counts: Counts, allowed: Allowed) -> NDArray[np.bool_]:
    """Columns that vary in the reference and have one value here."""
    stuck: NDArray[np.bool_] = allowed.varied & (counts.low == counts.high)
    return stuck & (counts.valid >= SMALLEST_ROWS)


def _unit(change: UnitChange, profile: Profile) -> Breach:
    told = change.told
    slope = told[0].slope if len(told) == 1 else None
    return Breach(
        rule="unit_change",
        column=change.column,
        name=profile.columns[change.column].name,
        value=change.outside if slope is None else slope.value,
        reference=1.0,
        hits=round(change.outside * change.rows),
        rows=change.rows,
        threshold=OUTSIDE if slope is None else SCALE,
        interval=None if slope is None else (slope.low, slope.high),
        detail=" or ".join(map(_mapped, told)) or "by which factor these rows cannot tell",
    )


def _mapped(found: UnitMap) -> str:
    """A map, in words."""
    by, plus = found.slope, found.intercept
    if found.kind == "factor":
        return f"about {_with_bounds(by)} x the usual value"
    sign = "+" if plus.value >= 0 else "-"
    if sign == "-":
        plus = Interval(-plus.value, -plus.high, -plus.low)
    if found.kind == "offset":
        return f"about the usual value {sign} {_with_bounds(plus)}"
    return f"about {_with_bounds(by)} x the usual value {sign} {_with_bounds(plus)}"


def _with_bounds(x: Interval) -> str:
    return f"{figure(x.value)} [{figure(x.low)}, {figure(x.high)}]"

"""Checks of given rows against a profile: broken rules of the contract, columns that look rescaled,
columns that drifted.

The stream worker judges what it counts; whoever diagnoses a loss has other rows, those with labels
since a change, and asks about just these. Pure, without a history: no step is asked for.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from redistill.streams.monitor.contract import breaches
from redistill.streams.monitor.counts import Counts, count
from redistill.streams.monitor.distance import DISTANCES, Histograms
from redistill.streams.monitor.drifted_features import histogram_of
from redistill.streams.monitor.input_profile import Column, Profile
from redistill.streams.monitor.units import (
    CONTINUOUS,
    SAME_SHAPE,
    SMALLEST_ROWS,
    shaped_by,
    unit_changes,
)

__all__ = ["RowCheck", "check_rows"]

FALSE_SHARE = 0.05
"""Share of unchanged sets of rows in which any column at all may count as a contributor
(Bonferroni over the columns)."""

REPEATS, SIGMAS = 0.05, 6.0
"""Share of rows with one value, above that of the reference and above so many standard errors, that
is worth a person's time (as ``contract.MARGINS`` of missing values)."""
PART = 0.1
"""Share of values outside the central 99% of the reference that is no tail."""
LED = 0.9
"""Share of the reference that another unit must lead out of its central 99%, or the rows that have
it cannot be told from the others."""
MARKS = 5
"""Quantiles that a line needs."""

Rule = Literal[
    "missing",
    "wrong_type",
    "out_of_range",
    "unseen_category",
    "constant",
    "repeated",
    "unit_change",
    "rescaled",
    "drifted",
]


class RowCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be said of one column of some rows."""

    column: str
    rule: Rule
    """Of the contract; ``repeated``: one value stands in many rows of a column that hardly repeats
    any, as where missing values are filled in; ``rescaled``: another scale or offset, shape kept,
    too small a change for ``unit_change``; ``drifted``: another distribution, no rule is broken."""
    value: float
    """Share of rows that break the rule; the PSI for ``unit_change``, ``rescaled``, ``drifted``."""
    slope: float | None = None
    """Values are about ``slope`` x the usual ones + ``intercept``."""
    intercept: float | None = None
    share: float = 1.0
    """Share of rows that this is about."""
    beyond: tuple[float, float] | None = None
    """Only values outside these bounds are meant: some writers use another unit, others do not."""
    contributes: bool = False
    """Whether it is above the noise of all columns together."""


def check_rows(values: NDArray[np.float32], profile: Profile) -> list[RowCheck]:
    """What is wrong, or different, with some rows.

    Parameters
    ----------
    values
        ``(F, n)``: the profile's features in its order, NaN = missing.
    profile
        Of the version that served the rows.

    Returns
    -------
    list of RowCheck
        Several for a column that breaks several rules; none for one that is as usual. In the order
        of the profile's columns. Empty for fewer than 100 rows.

    Notes
    -----
    A column contributes when its PSI is above what unchanged rows exceed with probability .05 over
    all columns together (chi-squared, see ``distance``; Bonferroni), and above the distances of the
    reference's own windows. A broken rule about shares is six standard errors above what is allowed
    and contributes always.
    """
    f, n = values.shape
    if n < SMALLEST_ROWS:
        return []
    padded = np.full((f + 2, n), np.nan, np.float32)  # no prediction, no score
    padded[:f] = np.where(np.isfinite(values), values, np.float32(np.nan))
    counts = count(padded, profile.layout)
    psi, noise = _distances(counts, profile)
    out: dict[int, list[RowCheck]] = {}
    for breach in breaches(counts, profile, whole_window=True):
        if breach.column < f:
            share = breach.hits / max(1, breach.rows)
            told = RowCheck(
                column=breach.name, rule=_rule(breach.rule), value=share, contributes=True
            )
            out.setdefault(breach.column, []).append(told)
    for j in range(f):
        if j not in out and (stuck := _repeated(padded[j], profile.columns[j])) is not None:
            out[j] = [stuck]
    blatant = {c.column for c in unit_changes(counts, profile, None)}
    for j in shaped_by(profile).columns.tolist():
        if j in out or not (j in blatant or psi[j] > noise[j]):
            continue
        column = profile.columns[j]
        line = _line(padded[j], column)
        part = None if line else _part(padded[j], column)
        if line or part or j in blatant:
            a, b = line or (part.line if part else (None, None))
            told = RowCheck(
                column=column.name,
                rule="unit_change" if j in blatant or part else "rescaled",
                value=float(psi[j]),
                slope=a,
                intercept=b,
                share=part.share if part else 1.0,
                beyond=(column.low, column.high) if part else None,
                contributes=bool(psi[j] > noise[j]),
            )
            out.setdefault(j, []).append(told)
    for j in np.flatnonzero(psi[:f] > noise[:f]).tolist():
        if j not in out:
            name = profile.columns[j].name
            out[j] = [RowCheck(column=name, rule="drifted", value=float(psi[j]), contributes=True)]
    return [check for j in sorted(out) for check in out[j]]


def _rule(rule: str) -> Rule:
    match rule:
        case "missing" | "wrong_type" | "out_of_range" | "unseen_category" | "constant":
            return rule
    raise ValueError(rule)  # unit_change is told apart below


def _distances(counts: Counts, profile: Profile) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """PSI of each column, and what it has to exceed: ``(C,)`` each."""
    bins = profile.bins
    now = histogram_of(counts, profile)
    h, psi = Histograms(bins.reference, now, bins.starts, bins.sizes), DISTANCES["psi"]
    usable = bins.compared & h.known
    chance = psi.floor(h, FALSE_SHARE / max(1, int(usable.sum())))
    return psi.of(h), np.where(usable, np.maximum(chance, profile.usual_distances), np.inf)


def _repeated(x: NDArray[np.float32], column: Column) -> RowCheck | None:
    """One value in many rows of a column whose reference repeats hardly any."""
    valid = x[~np.isnan(x)]
    if column.role != "number" or column.distinct < CONTINUOUS or column.top >= REPEATS:
        return None
    if len(valid) < SMALLEST_ROWS:
        return None
    values, counts = np.unique(valid, return_counts=True)
    n, k = len(valid), int(counts.max())
    error = math.sqrt(max(column.top * (1 - column.top), 1 / n) / n)
    if k / n <= column.top + max(REPEATS, SIGMAS * error):
        return None
    return RowCheck(
        column=column.name,
        rule="repeated",
        value=k / len(x),
        slope=0.0,
        intercept=float(values[counts.argmax()]),
        contributes=True,
    )


class _Part(msgspec.Struct, frozen=True):
    """Rows of which a column is in another unit."""

    share: float
    line: tuple[float, float]


def _part(x: NDArray[np.float32], column: Column) -> _Part | None:
    """The line of those values that are outside the central 99% of the reference, where they are
    so many that they are no tail, and where such a line leads from most of the reference to there.
    """
    valid = x[~np.isnan(x)]
    odd = valid[(valid < column.low) | (valid > column.high)]
    share = len(odd) / max(1, len(valid))
    if share < PART or (line := _line(odd, column)) is None:
        return None
    led = line[0] * np.array(column.edges)[np.array(column.coarse, np.int64)] + line[1]
    outside = (led < column.low) | (led > column.high)
    return _Part(share, line) if float(outside.mean()) >= LED else None


def _line(x: NDArray[np.float32], column: Column) -> tuple[float, float] | None:
    """Slope and intercept that make the reference's quantiles those of ``x``; ``None``: the shape
    is another.

    Quantiles weigh by the square of the density there: about the inverse of their variance, so that
    a long tail, which is known worst, does not draw the line.
    """
    valid = x[~np.isnan(x)].astype(np.float64)
    marks = np.array(column.coarse, np.int64)
    if len(valid) < SMALLEST_ROWS or len(marks) < MARKS:
        return None
    usual = np.array(column.edges)[marks]
    now = np.quantile(valid, np.array(column.below)[marks] / column.valid)
    weights = 1.0 / np.gradient(usual) ** 2
    middle = np.average(usual, weights=weights), np.average(now, weights=weights)
    dx, dy = usual - middle[0], now - middle[1]
    spread = float((weights * dy**2).sum())
    if spread <= 0.0:
        return None
    a = float((weights * dx * dy).sum() / (weights * dx**2).sum())
    explained = a**2 * float((weights * dx**2).sum()) / spread
    return (a, float(middle[1] - a * middle[0])) if explained >= SAME_SHAPE and a > 0 else None

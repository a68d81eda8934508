"""Breakage of columns: what a break costs, tried on clean rows, and what undoing it gives back.

A check says that a column is odd; whether that is why a model fails is asked of the models. Rows
whose labels are trusted are broken in the same way: what the student loses on them, the break can
explain. And fresh rows are mended, where a break can be undone: what comes back was the break's.
Pure, but for the models that are asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redistill.compress.judge.points import gap, surely
from redistill.compress.plan import ColumnCheck, Measure
from redistill.stats import MISS

__all__ = ["Answers", "Broken", "BrokenRows", "Tried", "mended", "try_breaks"]

Answers = Callable[[NDArray[np.float32]], NDArray[np.int64]]
"""``(n, F)`` rows -> ``(n,)`` classes."""

MAX_TRIED = 12
"""Odd columns that are tried, the oddest: each costs two runs of both models over the rows."""

LINES = frozenset({"unit_change", "rescaled"})
"""Rules whose break is a line, which can be undone."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BrokenRows:
    """Rows and models that breaks are tried on."""

    student: Answers
    teacher: Answers | None
    fresh: NDArray[np.float32]  # (n, F) labelled fresh rows
    truth: NDArray[np.int64]  # (n,)
    trusted: NDArray[np.float32]  # (m, F)
    trusted_truth: NDArray[np.int64]  # (m,)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tried:
    """What came of one model."""

    costs: Measure | None
    """Points that it loses on trusted rows broken in the same way; ``None``: cannot be tried."""
    regained: Measure | None
    """Points that it regains on fresh rows once they are mended; ``None``: cannot be mended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Broken:
    """Odd columns, tried one by one or together."""

    checks: tuple[ColumnCheck, ...]
    student: Tried
    teacher: Tried | None

    @property
    def columns(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(dict.fromkeys(c.column for c in self.checks))


def mended(
    x: NDArray[np.float32], features: Sequence[str], checks: Sequence[ColumnCheck]
) -> NDArray[np.float32]:
    """Rows with what the checks found undone, ``(n, F)``.

    Examples
    --------
    >>> check = ColumnCheck(column="a", rule="unit_change", value=9.0, slope=1000.0, intercept=0.0)
    >>> mended(np.array([[5000.0, 1.0]], np.float32), ("a", "b"), [check]).tolist()
    [[5.0, 1.0]]
    """
    out = x.copy()
    for check in checks:
        if check.slope and check.intercept is not None:
            j = features.index(check.column)
            low, high = check.beyond or (np.inf, -np.inf)
            meant = ~((x[:, j] >= low) & (x[:, j] <= high))
            out[meant, j] = (x[meant, j] - check.intercept) / check.slope
    return out


def try_breaks(
    rows: BrokenRows, features: Sequence[str], checks: Sequence[ColumnCheck], *, seed: int
) -> tuple[Broken, ...]:
    """Try what the checks found: each column, and together those that help when they are mended.

    Parameters
    ----------
    rows
        Rows and models.
    features
        Names of the rows' columns.
    checks
        Of these columns; those that only drifted are left out, and those that break nothing.
    seed
        Of the trusted rows that are broken, where only a share is.

    Returns
    -------
    tuple of Broken
        Intervals are Tango's, and hold for all of what is tried together (Bonferroni).
    """
    odd = [c for c in checks if c.rule not in ("drifted", "finding") and c.column in features]
    odd = sorted(odd, key=lambda c: (c.rule in LINES and not c.contributes, -c.value))[:MAX_TRIED]
    miss = MISS / (len(odd) + 1)
    rng = np.random.default_rng([seed, 5])
    out = [_tried(rows, features, (check,), rng, miss) for check in odd]
    helped = [b for b in out if all(surely(t.regained) for t in (b.student, b.teacher) if t)]
    if len(helped) > 1:
        together = tuple(c for b in helped for c in b.checks)
        out.append(_tried(rows, features, together, rng, miss))
    return tuple(out)


def _tried(
    rows: BrokenRows,
    features: Sequence[str],
    group: tuple[ColumnCheck, ...],
    rng: np.random.Generator,
    miss: float,
) -> Broken:
    broken = _broken(rows, features, group, rng)
    lines = all(c.rule in LINES and c.slope and c.intercept is not None for c in group)
    undone = mended(rows.fresh, features, group) if lines else None
    return Broken(
        checks=group,
        student=_try(rows, rows.student, broken, undone, miss),
        teacher=None if rows.teacher is None else _try(rows, rows.teacher, broken, undone, miss),
    )


def _try(
    rows: BrokenRows,
    model: Answers,
    broken: NDArray[np.float32] | None,
    undone: NDArray[np.float32] | None,
    miss: float,
) -> Tried:
    costs = regained = None
    if broken is not None:
        whole = model(rows.trusted) == rows.trusted_truth
        costs = gap(whole, model(broken) == rows.trusted_truth, miss=miss)
    if undone is not None and len(rows.fresh):
        now = model(rows.fresh) == rows.truth
        regained = gap(model(undone) == rows.truth, now, miss=miss)
    return Tried(costs=costs, regained=regained)


def _broken(
    rows: BrokenRows,
    features: Sequence[str],
    checks: Sequence[ColumnCheck],
    rng: np.random.Generator,
) -> NDArray[np.float32] | None:
    """Trusted rows, broken as the fresh ones are; ``None``: it is not known how."""
    out = rows.trusted.copy()
    for check in checks:
        j = features.index(check.column)
        values = _values(rows, check, j, rng)
        if values is None:
            return None
        share = check.share if check.rule in LINES | {"constant"} else check.value
        hit = rng.random(len(out)) < share
        out[hit, j] = values[hit]
    return out


def _values(
    rows: BrokenRows, check: ColumnCheck, j: int, rng: np.random.Generator
) -> NDArray[np.float32] | None:
    """What stands in a broken column, ``(m,)``."""
    old, new = rows.trusted[:, j], rows.fresh[:, j]
    new = new[~np.isnan(new)]
    match check.rule:
        case "missing" | "wrong_type":
            return np.full(len(old), np.nan, np.float32)
        case "repeated":
            return np.full(len(old), check.intercept, np.float32)
        case "constant":
            return None if not len(new) else np.full(len(old), np.median(new), np.float32)
        case "unseen_category":
            return np.full(len(old), -1.0, np.float32)
        case "out_of_range":
            odd = new[(new < np.nanmin(old)) | (new > np.nanmax(old))] if len(old) else new
            return rng.choice(odd, len(old)) if len(odd) else None
        case _:
            if check.slope is None or check.intercept is None:
                return None
            return np.asarray(check.slope * old + check.intercept, np.float32)

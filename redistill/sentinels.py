"""Sentinels, numbers that stand for a missing value: -999, 9999, 999999999, found by how they lie.

A column that holds some looks a thousand times as wide as it is, so that whoever scales it by its
deviation squeezes everything that counts into one point.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["find", "said"]

MOST = 3
"""Codes at one end of a column: unknown, refused, not asked."""
MIN_REPEATS, MIN_SHARE = 5, 0.002
"""A code comes again and again: so many rows, and this share of them."""
MIN_REST, MIN_REST_SHARE = 20, 0.01
"""Rows that hold something else; of fewer nobody knows how wide the column is."""
FAR, FAR_NINES = 10.0, 1.0
"""How far a code lies from all that is none, in widths of that (1% to 99% of its rows): a number of
nines is one where it merely stands apart."""
ROWS = 50_000
"""Rows that are looked at; of more, every so manieth."""
NAMED = 5
"""Columns that a sentence names."""


@dataclass(frozen=True, slots=True)
class Sentinel:
    """A value of a column that looks like a code for missing."""

    value: float
    share: float
    """Of the rows that have a value."""


def find(column: NDArray[np.floating]) -> tuple[Sentinel, ...]:
    """The sentinels of a column: repeated values, far from everything else, at either end.

    Parameters
    ----------
    column
        ``(n,)``; what is not finite is skipped.

    Examples
    --------
    >>> ages = np.array([18.0 + i % 60 for i in range(900)] + [999.0] * 100)
    >>> find(ages)
    (Sentinel(value=999.0, share=0.1),)
    >>> find(np.array([0.0, 1.0] * 500))
    ()
    """
    column = column[:: max(1, len(column) // ROWS)]
    values, counts = np.unique(column[np.isfinite(column)], return_counts=True)
    rows = int(counts.sum())
    repeats = max(MIN_REPEATS, MIN_SHARE * rows)
    low, high = (_repeated(c[: MOST + 1], repeats) for c in (counts, counts[::-1]))
    if not low and not high:
        return ()
    wide = values.astype(np.float64)
    sides = [(k, m) for k in range(low + 1) for m in range(high + 1) if k + m]
    for k, m in sorted(sides, key=sum, reverse=True):
        inner, weight = wide[k : len(wide) - m], counts[k : len(wide) - m]
        if len(inner) < 2 or weight.sum() < max(MIN_REST, MIN_REST_SHARE * rows):
            continue
        width = _width(inner, weight)
        if all(
            gap > width * (FAR_NINES if _nines(code) else FAR)
            for code, gap in (
                *((wide[i], inner[0] - wide[k - 1]) for i in range(k)),
                *((wide[-1 - i], wide[len(wide) - m] - inner[-1]) for i in range(m)),
            )
        ):
            codes = [*range(k), *range(len(wide) - m, len(wide))]
            return tuple(Sentinel(float(wide[i]), float(counts[i] / rows)) for i in codes)
    return ()


def said(names: Sequence[str], columns: Iterable[NDArray[np.floating]]) -> list[str]:
    """A sentence for each column with a sentinel, for a person; of many the first are named.

    Parameters
    ----------
    names
        Of the columns.
    columns
        ``(n,)`` each.

    Examples
    --------
    >>> said(["b"], [np.array([0.1 * (i % 7) for i in range(90)] + [-999.0] * 10)])
    ['column b: the value -999 in 10% of the rows looks like a code for missing: leave it empty']
    """
    out = []
    for name, column in zip(names, columns, strict=True):
        if codes := find(column):
            told = " and ".join(f"{_number(c.value)} in {_percent(c.share)}" for c in codes)
            noun, looks = ("values", "look") if len(codes) > 1 else ("value", "looks")
            it = "them" if len(codes) > 1 else "it"
            out.append(
                f"column {name}: the {noun} {told} of the rows {looks} like a code for missing:"
                f" leave {it} empty"
            )
    more = [f"{len(out) - NAMED} more columns hold such codes"] if len(out) > NAMED else []
    return [*out[:NAMED], *more]


def _repeated(counts: NDArray[np.int64], repeats: float) -> int:
    """How many of the first values are repeated, in a row; the rest of a column comes after."""
    rare = np.flatnonzero(counts < repeats)
    return min(MOST, int(rare[0]) if len(rare) else len(counts))


def _width(values: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    """From 1% to 99% of the rows; where these are equal, from the first value to the last."""
    upto = np.cumsum(counts)
    low, high = values[np.searchsorted(upto, (0.01 * upto[-1], 0.99 * upto[-1]))]
    return float(high - low) if high > low else float(values[-1] - values[0])


def _nines(value: float) -> bool:
    """Whether a number is written with nines alone, two at least."""
    digits = _number(abs(value)).replace(".", "")
    return len(digits) > 1 and set(digits) == {"9"}


def _number(value: float) -> str:
    """As people write it: features are float32, and their last digits are noise."""
    written = str(np.format_float_positional(np.float32(value), trim="-"))
    return written if len(written) < 20 else f"{value:.6g}"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else f"{share:.1%}"

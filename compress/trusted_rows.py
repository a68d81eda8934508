"""Trusted rows: each counted once, and a part of them set aside to rank candidates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from redistill.compress import data
from redistill.compress.rows import Rows

__all__ = ["MIN_RANKING_ROWS", "distinct", "ranking", "untrained"]

RANKING_SHARE = 5
"""One trusted row in so many ranks candidates; the others judge."""
MIN_RANKING_ROWS = 30
"""With fewer, accuracy ranks nothing: speed and size do."""
MIN_CLASS_ROWS = 10
"""A class with fewer rows only judges: the one or two that would rank tell nobody apart, and no
gate would see the class where all of them did."""
MIN_KINDS = 16
"""Of rows, before an even number of each is no accident (one in 65,000)."""


def distinct(rows: Rows) -> tuple[Rows, int]:
    """Leave out rows that stand there again, with the same content and label.

    A row that is counted four times is no more evidence than one, and every interval would be half
    as wide as it should be. Where rows repeat by nature, as rows of few values do, they stay: each
    is a case of its own, unless the whole table stands there several times.

    Returns
    -------
    tuple
        The rows, and how many were left out.
    """
    copy, counts = _copies(rows)
    if len(counts) >= data.REPEATS_BY_NATURE * len(rows):
        keep = copy == 0
    else:
        times = int(np.gcd.reduce(counts)) if len(counts) >= MIN_KINDS else 1
        _, of = np.unique(_keys(rows), return_inverse=True)
        keep = copy < counts[of.reshape(-1)] // times
    return rows.take(keep), int((~keep).sum())


def ranking(rows: Rows) -> NDArray[np.bool_]:
    """Which trusted rows only rank candidates, ``(n,)``: one in five, by their content.

    No gate looks at them. Which they are depends on the rows and not on their order, so that a row
    ranks or judges whichever release asks; copies of a row, where rows repeat by nature, are drawn
    one by one, or the most frequent row would be judged by all or by none. None rank where they
    would be too few to rank anything.
    """
    copy, _ = _copies(rows)
    salted = data.digests(rows.x) ^ _scattered(copy.astype(np.uint64))
    out = np.asarray(salted % np.uint64(RANKING_SHARE) == 0)
    classes, of, counts = np.unique(rows.y, return_inverse=True, return_counts=True)
    if len(classes):
        out &= counts[of.reshape(-1)] >= MIN_CLASS_ROWS
    return out if out.sum() >= MIN_RANKING_ROWS else np.zeros(len(rows), np.bool_)


def untrained(rows: Rows, trained: NDArray[np.uint64]) -> tuple[Rows, int]:
    """Leave out rows whose content a candidate was trained on: somebody registered them after that.

    Where rows repeat by nature they stay, as in training.

    Parameters
    ----------
    trained
        Digests of every row that was trained on.

    Returns
    -------
    tuple
        The rows, and how many were left out.
    """
    content = data.digests(rows.x)
    if len(np.unique(content)) < data.REPEATS_BY_NATURE * len(rows):
        return rows, 0
    seen = np.isin(content, trained)
    return rows.take(~seen), int(seen.sum())


def _copies(rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many equal rows stand before each, ``(n,)``, and how many there are of each kind."""
    _, of, counts = np.unique(_keys(rows), return_inverse=True, return_counts=True)
    of = of.reshape(-1)
    order = np.argsort(of, kind="stable")
    starts = np.cumsum(counts) - counts
    copy = np.empty(len(rows), np.int64)
    copy[order] = np.arange(len(rows)) - starts[of[order]]
    return copy, counts


def _keys(rows: Rows) -> NDArray[np.uint64]:
    """Equal where content and label are."""
    return data.digests(rows.x) ^ _scattered((rows.y + 2).astype(np.uint64))


def _scattered(n: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Small numbers as far apart as hashes are; 0 stays 0 (the finisher of splitmix64, Steele, Lea,
    Flood 2014)."""
    z = n * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))

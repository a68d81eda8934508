"""Daily cycle of errors: whether the hour of the day matters to how often a model is wrong. Plain
numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from redistill.times import DAY

__all__ = ["daily_cycle"]

LEAST_DAYS = 3
"""Days from which a cycle is told from chance."""
LEAST_LABELS = 24
"""Labelled rows of a day that counts."""
HARMONICS = np.array([1, 2])
"""Waves a day that are looked for: together they show most shapes of a day."""
MISS = 0.01
"""Share of the streams without a cycle that are thought to have one, which makes their recoveries
slower and nothing worse."""


def daily_cycle(
    errors: NDArray[np.integer],
    times: NDArray[np.int64],
    counts: NDArray[np.integer] | None = None,
) -> bool | None:
    """Whether errors follow the hour of the day.

    The waves of each day, about its own mean, are one draw; whether their mean over the days is
    nothing is asked by an F test. Errors that come in runs of hours make the days differ from each
    other and are no cycle; a step, as harm makes, is part of one day only.

    Parameters
    ----------
    errors
        ``(m,)`` wrong rows per entry.
    times
        ``(m,)`` when the rows were served, microseconds since 1970; in any order.
    counts
        ``(m,)`` labelled rows per entry; ``None``: one each.

    Returns
    -------
    bool or None
        ``None``: fewer than three whole days with 24 labelled rows or more are known.

    Examples
    --------
    >>> hours = np.arange(24 * 20)
    >>> at, night = np.repeat(hours * 3_600_000_000, 10), np.repeat(hours % 24 < 8, 10)
    >>> rng = np.random.default_rng(0)
    >>> daily_cycle((rng.random(4_800) < np.where(night, 0.05, 0.2)).astype(int), at)
    True
    >>> daily_cycle((rng.random(4_800) < 0.15).astype(int), at)
    False
    >>> daily_cycle((rng.random(400) < 0.15).astype(int), at[:400]) is None
    True
    """
    if not len(times):
        return None
    n = np.ones(len(times)) if counts is None else np.asarray(counts, np.float64)
    since = times - times.min()
    whole = since < since.max() // DAY * DAY  # the last day is not over
    if not whole.any():
        return None
    day = since[whole] // DAY
    e, n = np.asarray(errors, np.float64)[whole], n[whole]
    rows = np.bincount(day, n)
    counted = rows >= LEAST_LABELS
    days = int(counted.sum())
    if days < LEAST_DAYS:
        return None
    mean = np.bincount(day, e) / np.maximum(rows, 1)
    residual = e - n * mean[day]
    turn = 2 * np.pi * (times[whole] % DAY) / DAY
    parts = [f(k * turn) for k in HARMONICS for f in (np.cos, np.sin)]
    waves = np.stack([np.bincount(day, residual * part)[counted] for part in parts]) / np.sqrt(
        rows[counted]
    )  # (parts, days): of equal noise, whatever the day's traffic
    common = waves.mean(axis=1, keepdims=True)
    noise = float(((waves - common) ** 2).sum()) / (days - 1)
    signal = days * float((common**2).sum())
    if noise <= 0:
        return signal > 0
    x = 1 / (1 + signal / noise / (days - 1))  # survival of F with 4 and 4 (days - 1) degrees
    a = len(HARMONICS) * (days - 1)
    return bool(x**a * (1 + a * (1 - x)) < MISS)

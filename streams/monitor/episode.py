"""Episode of harm: how many labels, how many wrong, since when; and whether two are one. Plain
numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from redistill.streams.monitor.recovery import INFLATION_ROWS
from redistill.streams.monitor.sequential import Inflation, divergence, inflated

__all__ = ["Episode", "joined"]


@dataclass(frozen=True, slots=True)
class Episode:
    """Labelled rows from a change to its end, or to now."""

    n: int
    errors: int
    low: int
    """Serving time, microseconds, of the earliest start that the data cannot exclude."""
    high: int

    @property
    def rate(self) -> float:
        """Error rate."""
        return self.errors / self.n


def joined(
    before: Episode,
    between: tuple[int, int],
    now: Episode,
    *,
    after: tuple[int, int],
    odds: float,
    curve: Inflation,
    share: float,
) -> Episode | None:
    """One episode of two, if what lies between them is no sign of health.

    The labels on which a recovery was called were picked for being right and prove nothing; those
    that came after it have to. Two changes are less likely than none: the evidence has to exceed
    ``odds``. Runs of errors count for what they are worth (``sequential.inflated``).

    Parameters
    ----------
    between
        Labelled rows between the end of ``before`` and the start of ``now``, and their errors.
    after
        Those of them that came after the recovery was called.
    odds
        Natural logarithm of the odds against a recovery and a relapse.
    curve, share
        Variance inflation of the reference errors, labels per served row.

    Returns
    -------
    Episode or None
        ``None``: they are two.

    Examples
    --------
    >>> first, second = Episode(500, 120, 10, 20), Episode(60, 15, 900, 950)
    >>> given = {"odds": 18, "curve": ((1.0, 1.0),), "share": 1}
    >>> joined(first, (400, 50), second, after=(40, 5), **given)
    Episode(n=960, errors=185, low=10, high=20)
    >>> joined(first, (4_400, 450), second, after=(4_000, 400), **given) is None
    True
    """
    harmed = (before.errors + now.errors + 0.5) / (before.n + now.n + 1)  # never all of them
    n, errors = after
    if n and errors / n < harmed:
        length = np.array([min(n / share, INFLATION_ROWS)])
        health = n * divergence(np.array([errors / n]), harmed) / inflated(curve, length, share)
        if health[0] > odds:
            return None
    rows, wrong = before.n + between[0] + now.n, before.errors + between[1] + now.errors
    return Episode(rows, wrong, before.low, before.high)

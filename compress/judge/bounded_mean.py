"""Mean of bounded differences: how far the rows at hand are from a true mean. Plain numbers in,
plain numbers out.

The rows' own spread says too little where a large difference is rare: among 400 rows with a cost
that comes once in a hundred, two or four such rows make a factor of two, and an interval that takes
its width from them passes one candidate in ten that is as bad as the margin. So the width is taken
from the distribution that fits the rows best *and has the mean in question*, as Tango's score does
for right and wrong answers, which this is where the differences are -1, 0 and 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Differences"]

Array = NDArray[np.float64]

GRID = 2_000
"""Steps of -1..1 to which differences are rounded where more of them are distinct: each to its two
neighbours, in shares that keep the mean and make the spread larger, never smaller."""
STEPS = 50
"""At most, to find the tilt; Newton's steps are some six."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Differences:
    """Distinct differences, and how often each is there."""

    values: Array  # (K,) in -1..1
    counts: Array  # (K,) above 0

    @classmethod
    def of(cls, d: Array) -> Differences:
        """Of ``(n,)`` differences in -1..1."""
        values, often = np.unique(d, return_counts=True)
        weights = np.asarray(often, np.float64)
        if len(values) > GRID:
            at = (values + 1.0) * (GRID / 2)
            below = np.minimum(np.floor(at).astype(np.int64), GRID - 1)
            up = at - below
            grid = np.zeros(GRID + 1)
            np.add.at(grid, below, weights * (1.0 - up))
            np.add.at(grid, below + 1, weights * up)
            values, weights = np.linspace(-1.0, 1.0, GRID + 1), grid
            values, weights = values[weights > 0], weights[weights > 0]
        return cls(values=values, counts=weights)

    @property
    def n(self) -> float:
        """Rows."""
        return float(self.counts.sum())

    @property
    def mean(self) -> float:
        """0 without rows."""
        return float((self.values * self.counts).sum() / self.n) if self.n else 0.0

    def score(self, mean: float) -> float:
        """Standardised distance from a true mean: about normal, falling with it.

        Parameters
        ----------
        mean
            Above -1 and below 1.

        References
        ----------
        Tango 1998, Equivalence test and confidence interval for the difference in proportions for
        the paired-sample design (Statistics in Medicine 17), for -1, 0 and 1. The distribution with
        a given mean that fits best is that of empirical likelihood (Owen 2001, chapter 2), here
        with the bounds -1 and 1 among what may come.

        Examples
        --------
        >>> round(Differences.of(np.zeros(100)).score(-0.037), 2)
        1.96
        """
        gap = self.mean - mean
        variance = self._variance(mean)
        if variance <= 0.0:
            return 0.0 if gap == 0.0 else math.copysign(math.inf, gap)
        return gap * math.sqrt(self.n / variance)

    def _variance(self, mean: float) -> float:
        """Of the most likely distribution with this mean."""
        off = self.values - mean
        bound = -1.0 if self.mean > mean else 1.0  # where it may lie, though no row does yet
        tilt = self._tilt(off, -1.0 / (bound - mean))
        shares = self.counts / (self.n * (1.0 + tilt * off))
        rest = max(0.0, 1.0 - float(shares.sum()))
        return float((shares * off * off).sum()) + rest * (bound - mean) ** 2

    def _tilt(self, off: Array, most: float) -> float:
        """What makes the shares ``1 / (1 + tilt * off)`` have the mean, between 0 and ``most``; at
        ``most`` a bound takes what is left of them."""
        if (1.0 + most * off > 1e-12).all() and self._pull(off, most)[0] * most > 0.0:
            return most
        near, far, tilt = 0.0, most, 0.0
        for _ in range(STEPS):
            gap, slope = self._pull(off, tilt)
            near, far = (tilt, far) if gap * most > 0.0 else (near, tilt)
            step = gap / slope if slope else 0.0
            if abs(step) <= 1e-12 * abs(most):
                break
            inside = min(near, far) < tilt + step < max(near, far)
            tilt = tilt + step if inside else (near + far) / 2
        return tilt

    def _pull(self, off: Array, tilt: float) -> tuple[float, float]:
        """Sum of the tilted distances from the mean, and how fast it falls with the tilt."""
        pulled = off / (1.0 + tilt * off)
        return float((self.counts * pulled).sum()), float((self.counts * pulled * pulled).sum())

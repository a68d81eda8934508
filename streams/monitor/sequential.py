"""Sequential test of harm: a tempered mixture of Shiryaev-Roberts statistics on labelled
errors. Plain numpy.

An error is 1 for a wrong prediction. With errors of mean at most ``null`` the statistic is an
e-detector: its mean time to a false alarm is at least its threshold, whatever the order of the
rows. Real errors come in runs; the exponents ``1/V`` temper each alternative by the variance
inflation that the reference errors show in their own order.

References
----------
Shin, Ramdas, Rinaldo: E-detectors, a nonparametric framework for sequential change detection. 2022,
arXiv 2203.03532. Podkopaev, Ramdas: Tracking the risk of a deployed model and detecting harmful
distribution shifts. 2022, arXiv 2110.06177.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CEILING",
    "INTERVAL_LOG",
    "Inflation",
    "Mixture",
    "Suffix",
    "change_point",
    "divergence",
    "downward",
    "exponents",
    "inflated",
    "inflation",
    "upward",
]

POINTS = np.array([1, 2, 3, 5, 8, 13, 21, 34, 55]) / 100
"""Sizes of the alternatives, as shares; neighbours differ by a factor of 2 at most."""
SHORTEST_HARM_ROWS = 64
"""On the way up variance inflation is read at this many rows at most: the shortest harm that is
worth waking a person for."""
INTERVAL_LOG = math.log(20)
"""Suffixes whose log likelihood ratio is within this of the best are start points that the data
cannot exclude."""
CEILING = 1e250
"""Statistics stop growing here, far above any threshold, so that they never become infinite."""

Inflation = tuple[tuple[float, float], ...]
"""Variance inflation curve: ``(block length in rows, inflation >= 1)``, both growing."""


def inflation(errors: NDArray[np.generic]) -> Inflation:
    """Variance inflation of block means against block length, from errors in time order.

    ``b * Var(block means) / Var(errors)`` for ``b = 4, 8, ... n/20``, over ``1 + sqrt(2/k)`` (its
    own noise with ``k`` blocks), made non-decreasing. Independent errors give about 1 everywhere.

    Examples
    --------
    >>> inflation(np.tile([0, 1], 200))[-1]
    (16.0, 1.0)
    >>> inflation(np.repeat([0, 1, 0, 0, 1, 1, 0, 1], 50))[-1][1] > 5
    True
    """
    e = np.asarray(errors, np.float64)
    n, variance = len(e), float(e.var()) if len(e) else 0.0
    curve, largest, b = [(1.0, 1.0)], 1.0, 4
    while variance > 0 and b <= n // 20:
        k = n // b
        means = e[: k * b].reshape(k, b).mean(axis=1)
        raw = b * float(means.var(ddof=1)) / variance / (1 + math.sqrt(2 / k))
        largest = max(largest, raw)
        curve.append((float(b), largest))
        b *= 2
    return tuple(curve)


def divergence(p: NDArray[np.float64], q: float) -> NDArray[np.float64]:
    """Kullback-Leibler divergence of Bernoulli(p) from Bernoulli(q), in nats per row."""
    p = np.clip(p, 1e-12, 1 - 1e-12)
    return np.asarray(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))


def exponents(
    curve: Inflation,
    null: float,
    alternatives: NDArray[np.float64],
    *,
    threshold: float,
    share: float,
    inflation_rows: int = SHORTEST_HARM_ROWS,
) -> NDArray[np.float64]:
    """Tempering exponent of each alternative: one over the inflation across the rows that it needs
    to cross.

    Solves ``V = 1 + share * (inflation(min(rows, inflation_rows)) - 1)`` with ``rows =
    ln(threshold) * V / (KL * share)``.

    Returns
    -------
    numpy.ndarray
        ``(K,) float64`` in (0, 1]; all 1 on independent errors.
    """
    per_label = divergence(alternatives, null)
    v = np.ones(len(alternatives))
    for _ in range(30):  # a fixed point: 30 rounds are far more than it ever needed
        rows = math.log(threshold) * v / (per_label * share)
        v = inflated(curve, np.minimum(rows, inflation_rows), share)
    return np.asarray(1 / v)


def inflated(curve: Inflation, rows: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Variance inflation of labels across so many served rows.

    Labels of a random ``share`` of the rows are that much less alike than neighbouring rows.
    """
    x, y = np.log([b for b, _ in curve]), [v for _, v in curve]
    return np.asarray(1 + share * (np.interp(np.log(np.maximum(rows, 1)), x, y) - 1))


class Mixture:
    """Equal-weight mixture of Shiryaev-Roberts statistics of Bernoulli alternatives against a null
    mean.

    Parameters
    ----------
    null
        Largest error rate (smallest, for a mixture downwards) that is no alarm, in (0, 1).
    alternatives
        ``(K,)`` error rates in (0, 1), all on one side of ``null``.
    threshold
        Labels per promised false alarm.
    powers
        ``(K,)`` tempering exponents in (0, 1].
    dense
        The same for rows of a stretch that is labelled whole, whose errors are more alike than
        those of a random few; ``None``: no other ones.
    """

    __slots__ = ("_dense", "_factors", "_growth", "null", "statistic", "threshold")

    def __init__(
        self,
        null: float,
        alternatives: NDArray[np.float64],
        threshold: float,
        powers: NDArray[np.float64],
        dense: NDArray[np.float64] | None = None,
    ) -> None:
        self.null = null
        self.threshold = threshold
        ratios = (1 - alternatives) / (1 - null), alternatives / null
        self._factors = ratios[0] ** powers, ratios[1] ** powers
        self._dense = self._factors
        if dense is not None:
            self._dense = ratios[0] ** dense, ratios[1] ** dense
        self._growth = np.log(self._factors[0]), np.log(self._factors[1])
        self.statistic = np.zeros(len(alternatives))

    @property
    def value(self) -> float:
        """The mixture, to be compared with ``threshold``."""
        return float(self.statistic.mean())

    def update(self, error: int, *, dense: bool = False) -> bool:
        """Take one labelled row; whether the threshold is reached."""
        s = self.statistic
        s += 1
        s *= (self._dense if dense else self._factors)[error]
        total = float(np.add.reduce(s))
        if total > CEILING:
            np.minimum(s, CEILING, out=s)
        return total >= self.threshold * len(s)

    def copy(self) -> Mixture:
        """An independent copy."""
        other = object.__new__(Mixture)
        other.null, other.threshold = self.null, self.threshold
        other._factors, other._dense, other._growth = self._factors, self._dense, self._growth
        other.statistic = self.statistic.copy()
        return other

    def delay(self, rate: float) -> float:
        """Mean number of labelled rows to the threshold once the error rate is ``rate``; infinite
        if it never gets there.

        CUSUM's delay at the same mean run length, for the alternative that grows fastest at
        ``rate``: the Shiryaev-Roberts mixture was measured within 20% of it.
        """
        right, wrong = self._growth
        grows = float(np.max(rate * wrong + (1 - rate) * right))
        if grows <= 0:
            return math.inf
        h = 1.0
        for _ in range(60):  # h = ln(1 + h + threshold * growth), a contraction
            h = math.log1p(h + self.threshold * grows)
        return max(1.0, (h - 1 + math.exp(-h)) / grows)


def upward(
    null: float, *, smallest: float, threshold: float, share: float, curve: Inflation
) -> Mixture:
    """The mixture that looks for more errors than ``null``: alternatives at least ``smallest``
    above it."""
    steps = POINTS[smallest - 1e-9 <= POINTS]
    alternatives = null + steps[null + steps < 0.98]
    if not len(alternatives):
        alternatives = np.array([(1 + null) / 2])
    powers, dense = (
        exponents(curve, null, alternatives, threshold=threshold, share=s) for s in (share, 1.0)
    )
    return Mixture(null, alternatives, threshold, powers, dense)


def downward(
    null: float,
    *,
    healthy: float,
    threshold: float,
    share: float,
    curve: Inflation,
    inflation_rows: int,
) -> Mixture:
    """The mixture that looks for fewer errors than ``null``; the ``healthy`` rate is one of its
    alternatives."""
    alternatives = null - POINTS
    alternatives = alternatives[alternatives > 0.1 * null]
    if not len(alternatives):
        alternatives = np.array([null / 2])
    if 0.2 * null < healthy < null:
        alternatives = np.append(alternatives, healthy)
    powers, dense = (
        exponents(
            curve,
            null,
            alternatives,
            threshold=threshold,
            share=s,
            inflation_rows=inflation_rows,
        )
        for s in (share, 1.0)
    )
    return Mixture(null, alternatives, threshold, powers, dense)


@dataclass(frozen=True, slots=True)
class Suffix:
    """The rows since the likeliest change, and the range of starts that the data cannot tell
    apart."""

    rate: float
    """Error rate since the change."""
    rows: int
    """Labelled rows since the change."""
    errors: int
    start: int
    """Index of the first entry of the suffix."""
    low: int
    """Index of the earliest start within ln 20 of the best likelihood ratio."""
    high: int
    """Index of the latest one."""


def change_point(
    counts: NDArray[np.int64],
    errors: NDArray[np.int64],
    null: float,
    *,
    upwards: bool,
    least: int = 1,
) -> Suffix:
    """Suffix with the largest likelihood ratio of its own mean against ``null``.

    Parameters
    ----------
    counts, errors
        ``(m,)`` labelled rows and errors per entry, oldest first; at least one entry.
    null
        Error rate before the change.
    upwards
        Whether the rate rose above ``null`` or fell below it.
    least
        Entries of the shortest suffix that is looked at.

    Examples
    --------
    >>> errors = np.r_[np.tile([0] * 9 + [1], 20), np.tile([0, 1], 50)]
    >>> s = change_point(np.ones(300, int), errors, 0.1, upwards=True)
    >>> s.start, s.rows, round(s.rate, 2)
    (199, 101, 0.5)
    """
    s = np.cumsum(errors[::-1])
    n = np.cumsum(counts[::-1])
    p = s / n
    gain = n * divergence(p, null)
    gain[(p > null) != upwards] = -1.0
    gain[: least - 1] = -np.inf
    best = int(np.argmax(gain))
    near = np.flatnonzero(gain >= gain[best] - INTERVAL_LOG) if gain[best] >= 0 else [best]
    last = len(counts) - 1
    return Suffix(
        rate=float(p[best]),
        rows=int(n[best]),
        errors=int(s[best]),
        start=last - best,
        low=last - int(near[-1]),
        high=last - int(near[0]),
    )

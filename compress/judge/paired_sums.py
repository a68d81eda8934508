"""Paired rows and their sums: what candidate and incumbent cost on the same rows. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtr, ndtri

from redistill.compress.judge import betting, intervals

__all__ = ["LEAST_CHURN", "PairedRows", "Sums", "evidence", "rows_needed"]

LEAST_CHURN = 0.03
"""Share of rows that even an equal candidate decides otherwise; fewer disagreements in a few rows
are luck."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PairedRows:
    """Labelled rows that candidate and incumbent both answered."""

    name: str
    """``fresh`` or ``trusted``."""
    lost: Floats
    """``(n,)`` loss of the candidate minus that of the incumbent, in -1..1."""
    groups: Mapping[str, NDArray[np.bool_]]
    """``class=default`` -> ``(n,)`` which rows belong to it."""
    p: Floats | None = None
    """``(n,)`` probabilities with which our own requests drew the rows; ``None``: all the same."""

    def __len__(self) -> int:
        return len(self.lost)

    def take(self, rows: NDArray[np.bool_]) -> PairedRows:
        """Some of the rows, by a mask ``(n,)``, without their groups."""
        p = None if self.p is None else self.p[rows]
        return PairedRows(name=self.name, lost=self.lost[rows], groups={}, p=p)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sums:
    """Rows, losses and gains of a group.

    A row that is half lost counts as half a row: of all losses in -1..1 with the same sums whole
    rows vary most, so that bounds for them hold for any. A row that was drawn with probability p
    counts 1/p times, and all together as many as would tell as much if all were equal (Kish 1965).

    Examples
    --------
    >>> rows = PairedRows(name="fresh", lost=np.array([1.0, -0.5, 0.0, 0.0]), groups={})
    >>> Sums.of([rows])
    Sums(n=4.0, lost=1.0, won=0.5)
    """

    n: float
    lost: float
    won: float

    @classmethod
    def of(cls, samples: Sequence[PairedRows]) -> Sums:
        """Over the rows of every sample."""
        n = lost = won = 0.0
        for s in samples:
            weight = np.ones(len(s))
            if s.p is not None:
                weight = np.where(s.p * betting.W_MAX >= 1.0, 1.0 / s.p, 0.0)
            squares = float((weight**2).sum())
            if not squares:
                continue
            scale = float(weight.sum()) / squares
            n += float(weight.sum()) * scale
            lost += float((weight * np.maximum(s.lost, 0.0)).sum()) * scale
            won += float((weight * np.maximum(-s.lost, 0.0)).sum()) * scale
        return cls(n=n, lost=lost, won=won)

    @property
    def loss(self) -> float:
        """Mean loss, in -1..1; negative where the candidate gained. 0 without rows."""
        return (self.lost - self.won) / self.n if self.n else 0.0

    def times(self, k: float) -> Sums:
        """The same rates over more rows."""
        return Sums(n=self.n * k, lost=self.lost * k, won=self.won * k)

    def bounds(self, confidence: float) -> tuple[float, float]:
        """Two-sided interval of the loss (Tango 1998)."""
        return intervals.paired_difference(self.lost, self.won, self.n, confidence=confidence)

    def below(self, loss: float) -> float:
        """One-sided confidence that the true loss is below so much."""
        if not self.n:
            return 0.0
        return float(ndtr(-intervals.paired_score(self.lost, self.won, self.n, loss)))


def evidence(samples: Sequence[PairedRows]) -> float:
    """E-value that the rows of all samples lost anything at all, against "their mean loss is not
    above 0".

    Where rows have probabilities each sample makes its own bet, and what they have won is
    multiplied: trusted rows then need not hold back stakes for the weights of the fresh ones.
    """
    if all(s.p is None for s in samples):
        return betting.e_value(np.concatenate([s.lost for s in samples]), stakes=betting.STRONG).e
    return math.prod(betting.e_value(s.lost, p=s.p, stakes=betting.STRONG).e for s in samples)


def rows_needed(churn: float, excluded: float, *, miss: float, confidence: float) -> int:
    """Rows of a group with which an equal candidate is shown not to lose ``excluded``.

    Parameters
    ----------
    churn
        Share of rows that are decided otherwise, half of them won, half lost; counts as at least
        3%.
    excluded
        The loss, as a share.
    miss
        Largest probability that so many rows do not show it.
    confidence
        One-sided, with which they do.

    Examples
    --------
    >>> rows_needed(0.03, 0.15, miss=0.05, confidence=0.95)
    38
    >>> rows_needed(0.3, 0.15, miss=0.05, confidence=0.95)
    145
    """
    return _rows_needed(round(max(churn, LEAST_CHURN), 2), excluded, round(miss, 4), confidence)


@lru_cache(maxsize=256)
def _rows_needed(churn: float, excluded: float, miss: float, confidence: float) -> int:
    z = float(ndtri(confidence))

    def missed(n: int) -> float:
        mean = churn * n / 2
        counts = range(int(stats.poisson.ppf(1.0 - miss / 10, mean)) + 1)
        shares = stats.poisson.pmf(np.array(counts), mean)
        shown = [
            shares[lost] * shares[won]
            for lost in counts
            for won in counts
            if intervals.paired_score(lost, won, n, excluded) < -z
        ]
        return 1.0 - float(np.sum(shown))

    normal = churn * ((z + float(ndtri(1.0 - miss))) / excluded) ** 2
    if churn * normal > 20.0:  # ten losses: the normal approximation is off by a few rows
        return math.ceil(normal)
    low, high = 1, 16
    while missed(high) > miss:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if missed(middle) > miss else (low, middle)
    return high

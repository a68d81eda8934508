"""Calibration error: how far a model's confidence is from how often it is right. Pure.

Rows are sorted by confidence into bins of equal mass (Nixon et al. 2019). The error is the root of
the mean squared gap of a bin between confidence and share of right answers (the l2 form of the
*expected calibration error*): of that square the part which chance alone would show can be taken
off exactly (Kumar, Liang, Ma 2019), which the usual mean of absolute gaps does not allow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redistill.compress.plan import CalibrationBin, Measure
from redistill.stats import clopper_pearson, softmax

__all__ = ["MAX_ROWS", "Confidence", "bins", "error", "rise"]

MIN_ROWS = 200
"""With 100 the interval missed the truth in one case of six instead of one in twenty."""
MAX_ROWS = 10_000
"""Drawn of more: the interval is then a point or two wide, and each round of the bootstrap goes
through all rows."""
BINS = 15
"""As in Guo et al. 2017 ..."""
BIN_ROWS = 25
"""... or fewer, of so many rows each."""
ROUNDS = 400
"""Of the bootstrap."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Confidence:
    """What one model answered to labelled rows."""

    sure: Floats  # (n,) probability that it gave its answer
    right: NDArray[np.bool_]  # (n,)

    @classmethod
    def of(cls, scores: NDArray[np.float32], labels: NDArray[np.int64]) -> Confidence:
        """From scores (logits) ``(n, classes)`` and labels ``(n,)``; a row without an answer is
        wrong and not sure of anything."""
        finite = np.asarray(np.isfinite(scores).all(axis=1), np.bool_)
        p = softmax(np.where(finite[:, None], scores, 0.0).astype(np.float64))
        return cls(
            sure=np.where(finite, p.max(axis=1), 0.0),
            right=finite & (p.argmax(axis=1) == labels),
        )

    def __len__(self) -> int:
        return len(self.sure)

    def drawn(self, seed: int) -> Confidence:
        """At most ``MAX_ROWS`` of the rows; with the same seed the same ones of another model."""
        if len(self) <= MAX_ROWS:
            return self
        rows = np.random.default_rng(seed).choice(len(self), MAX_ROWS, replace=False)
        return Confidence(sure=self.sure[rows], right=self.right[rows])


def error(model: Confidence, *, seed: int) -> Measure | None:
    """Calibration error of a model, in 0..1, with a 95% bootstrap interval.

    Parameters
    ----------
    seed
        Of the bootstrap.

    Returns
    -------
    Measure or None
        ``None``: too few rows.

    References
    ----------
    Kumar, Liang, Ma 2019, Verified uncertainty calibration (NeurIPS); Nixon, Dusenberry, Zhang,
    Jerfel, Tran 2019, Measuring calibration in deep learning (CVPR workshops); Efron, Tibshirani
    1993, An introduction to the bootstrap (the basic interval).

    Examples
    --------
    >>> right = np.random.default_rng(0).random(4_000) < 0.75
    >>> found = error(Confidence(sure=np.full(4_000, 0.9), right=right), seed=0)
    >>> round(found.value, 2), found.n
    (0.15, 4000)
    """
    if len(model) < MIN_ROWS:
        return None
    some = model.drawn(seed)
    value, low, high = _roots(*_squares(some, seed))
    return Measure(value=value, low=low, high=high, n=len(some))


def rise(candidate: Confidence, incumbent: Confidence, *, seed: int) -> Measure | None:
    """Calibration error of a candidate minus the incumbent's, on the same rows.

    Returns
    -------
    Measure or None
        In -1..1, with a 95% interval made of both errors' and of how they move together in a
        bootstrap that draws the same rows for both; ``None``: too few rows.

    References
    ----------
    Zou 2007, Toward using confidence intervals to compare correlations (Psychological Methods 12):
    the interval of a difference from those of two dependent estimates.
    """
    if len(candidate) < MIN_ROWS:
        return None
    some = candidate.drawn(seed)
    ours, own = _squares(some, seed)
    theirs, other = _squares(incumbent.drawn(seed), seed)
    value, low, high = _roots(ours, own)
    before, least, most = _roots(theirs, other)
    together = float(np.corrcoef(own, other)[0, 1]) if own.std() and other.std() else 0.0

    def half(up: float, down: float) -> float:
        return float(np.sqrt(max(0.0, up**2 + down**2 - 2.0 * together * up * down)))

    return Measure(
        value=value - before,
        low=value - before - half(value - low, most - before),
        high=value - before + half(high - value, before - least),
        n=len(some),
    )


def bins(model: Confidence, *, seed: int) -> tuple[CalibrationBin, ...]:
    """The bins of ``error``, the least sure first, with the exact interval of each share of right
    answers: what a reliability diagram shows. Empty with too few rows.

    Parameters
    ----------
    seed
        Of the rows that are drawn where there are more than 10,000.

    Examples
    --------
    >>> right = np.arange(400) % 4 > 0
    >>> found = bins(Confidence(sure=np.linspace(0.6, 0.9, 400), right=right), seed=0)
    >>> len(found), round(found[0].confidence, 2), found[0].right.n
    (15, 0.61, 27)
    """
    if len(model) < MIN_ROWS:
        return ()
    some = model.drawn(seed)
    place = _Bins.of(some).place
    out = []
    for k in range(int(place.max()) + 1):
        here = place == k
        n, hits = int(here.sum()), int(some.right[here].sum())
        low, high = clopper_pearson(hits, n)
        out.append(
            CalibrationBin(
                confidence=float(some.sure[here].mean()),
                right=Measure(value=hits / n, low=low, high=high, n=n),
            )
        )
    return tuple(out)


def _squares(model: Confidence, seed: int) -> tuple[float, Floats]:
    """Squared error, and how far it is off in each round of the bootstrap: there the truth is what
    these very rows show, chance and all."""
    bins = _Bins.of(model)
    plugged = bins.square(debiased=False)
    n, rng = len(model), np.random.default_rng(seed)
    even = np.full(n, 1.0 / n)
    draws = (rng.multinomial(n, even).astype(np.float64) for _ in range(ROUNDS))
    return bins.square(), np.array([bins.square(w) - plugged for w in draws])


def _roots(square: float, off: Floats) -> tuple[float, float, float]:
    """Error and its bounds."""
    low, high = (square - float(q) for q in np.quantile(off, (0.975, 0.025)))
    value = max(0.0, square) ** 0.5
    return (
        value,
        min(value, max(0.0, low) ** 0.5),
        max(value, min(1.0, max(0.0, high) ** 0.5)),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Bins:
    """Rows in bins of equal mass."""

    place: NDArray[np.intp]  # (n,) bin of each row
    sure: Floats  # (n,)
    right: Floats  # (n,)

    @classmethod
    def of(cls, model: Confidence) -> _Bins:
        n = len(model)
        count = min(BINS, max(1, n // BIN_ROWS))
        place = np.empty(n, np.intp)
        place[np.argsort(model.sure, kind="stable")] = np.arange(n) * count // n
        return cls(place=place, sure=model.sure, right=model.right.astype(np.float64))

    def square(self, weight: Floats | None = None, *, debiased: bool = True) -> float:
        """Mean squared gap; below 0 where chance explains more than all of it."""
        w = np.ones(len(self.place)) if weight is None else weight
        rows = np.bincount(self.place, w)
        rows_or_one = np.maximum(rows, 1.0)
        share = np.bincount(self.place, w * self.right) / rows_or_one
        gap = share - np.bincount(self.place, w * self.sure) / rows_or_one
        chance = share * (1.0 - share) / np.maximum(rows - 1.0, 1.0) if debiased else 0.0
        return float((rows * (gap**2 - chance)).sum() / rows.sum())

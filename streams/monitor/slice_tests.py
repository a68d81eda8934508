"""Tests of slices: one Shiryaev-Roberts mixture per slice, on the slice's own clock.

The null of a row is its expected error (``expected_error``) times how far its slice may be above
that by luck, so harder rows are no alarm. Alternatives lie 5 to 55 points above. What opens is
watched for its recovery by the very ``HarmTest`` of the whole model.

The labels of a call are taken at once: ``M[t] = L[t] * (1 + M[t-1])`` over all slices and
alternatives is one bidiagonal system, which LAPACK solves by the same steps in the same order as a
loop would, so the result does not depend on how outcomes were cut into calls (of statistics below
``CEILING``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.expected_error import ExpectedError, SliceReference
from redistill.streams.monitor.harm import EVER, HarmChange, HarmTest
from redistill.streams.monitor.localisation import gain, sums
from redistill.streams.monitor.sequential import INTERVAL_LOG, Inflation, exponents
from redistill.streams.monitor.slice_memory import LabelledRows, SliceMemory

__all__ = ["LARGEST", "LARGEST_NULL", "STEPS", "TOLERANCE", "SliceTests"]

STEPS = np.array([5, 8, 13, 21, 34, 55]) / 100
"""Alternatives above the null."""
TOLERANCE = 0.05
"""Loss of a slice that nobody need be woken for: the smallest alternative."""
LEAST_LABELS = 20
"""Labels of a slice since its last reset that an alarm needs."""
LEAST_ERRORS = 5
"""Wrong rows since the change that an alarm needs."""
LARGEST_NULL, LARGEST = 0.9, 0.98
CEILING = 1e100
"""Statistics stop growing here between calls, far above any threshold: so high they depend on where
calls were cut."""


class SliceTests:
    """The tests of all slices of one version.

    Parameters
    ----------
    expected
        What is normal for each kind of row.
    base
        What is normal for the model: its inflation counts for slices of few reference rows.
    labels_per_alarm
        Threshold of each test, see ``alarm_budget.slice_tests``.
    share
        Share of the rows that get a label, for the tempering.
    powers
        ``(slices, K)`` tempering exponents; ``None``: they are computed, which takes milliseconds.
    """

    def __init__(
        self,
        expected: ExpectedError,
        base: BaseError,
        *,
        labels_per_alarm: float,
        share: float,
        powers: NDArray[np.float64] | None = None,
    ) -> None:
        n, k = len(expected.slices), len(STEPS)
        self.expected = expected
        self.base = base
        self.threshold = labels_per_alarm
        self.share = share
        self.statistic = np.zeros((n, k))  # M
        self.seen = np.zeros(n, np.int64)  # labels since the last reset
        self.wait = np.zeros(n, np.int64)  # labels until the next look
        self.since = np.zeros(n, np.int64)  # number of the first row that counts
        self.begin = np.full(n, EVER, np.int64)  # rows served earlier are left out
        self.open: dict[int, HarmTest] = {}
        self.levels: dict[int, float] = {}  # error expected of an open slice
        self.unlocalised: set[int] = set()  # open ones that explain no more than all rows do
        self.memory = SliceMemory(LabelledRows.none(len(expected.columns)))
        self.kappa = np.array([s.kappa for s in expected.slices])
        self.powers = self._powers() if powers is None else powers

    @property
    def independent(self) -> bool:
        """Whether errors come one by one, and nothing is tempered."""
        return bool((self.powers == 1).all())

    @property
    def columns(self) -> int:
        """Columns of slices, which the threshold counts."""
        return len(self.expected.columns)

    def _powers(self) -> NDArray[np.float64]:
        rows = []
        for s in self.expected.slices:
            null = min(s.expected * s.kappa, LARGEST_NULL)
            alternatives = np.minimum(null + STEPS, LARGEST)
            curve, share = self._curve(s), self.share
            rows.append(exponents(curve, null, alternatives, threshold=self.threshold, share=share))
        return np.array(rows).reshape(-1, len(STEPS))

    def _curve(self, s: SliceReference) -> Inflation:
        return self.base.inflation if s.inflation is None else s.inflation

    def retune(self, *, labels_per_alarm: float | None = None, share: float) -> None:
        """Another threshold or label share from now on; evidence collected so far is kept."""
        if labels_per_alarm is not None:
            self.threshold = labels_per_alarm
        self.share = share
        self.powers = self._powers()
        for test in self.open.values():
            test.retune(labels_per_alarm=labels_per_alarm, share=share)

    @property
    def statistics(self) -> NDArray[np.float64]:
        """``(slices,)`` the mixture of each slice, to be compared with ``threshold``."""
        return np.asarray(self.statistic.mean(axis=1))

    def suspected(self, index: int) -> int:
        """When what a slice's labels show so far most likely began: serving time, microseconds."""
        rows, places = self._own(index, self.memory.total)
        if not len(places):
            return 0
        own = rows[places]
        return int(own.served_at[self._suffix(index, own)[0]])

    # --- rows ---

    def reset(self, at: int | None = None) -> None:
        """Forget the evidence of all slices without a finding: from row number ``at`` on they start
        again."""
        for s in range(len(self.seen)):
            if s not in self.open:
                self.restart(s, self.memory.total if at is None else at)

    def restart(self, s: int, since: int) -> None:
        """Forget the evidence of a slice: it starts again with row number ``since``."""
        self.statistic[s] = 0.0
        self.seen[s] = self.wait[s] = 0
        self.since[s] = since

    def scan(
        self, parts: Sequence[tuple[int, NDArray[np.intp]]], rows: LabelledRows
    ) -> dict[int, int]:
        """Take rows of some slices, each up to the first at which a look is due.

        Parameters
        ----------
        parts
            Slices, and the places of their rows in ``rows``, at least one each.

        Returns
        -------
        dict
            Slice -> how many of its rows were taken, where a look is due at the last of them.
        """
        slices = np.array([s for s, _ in parts])
        counts = np.array([len(where) for _, where in parts])
        ends = np.cumsum(counts + 1)
        heads = ends - counts - 1  # before its rows each slice has a place for what it had
        where = np.concatenate([part for _, own in parts for part in (own[:1], own)])
        ratio = self._ratios(np.repeat(slices, counts + 1), rows.error[where], rows.expected[where])
        m = _recursion(ratio, self.statistic[slices].T, heads)
        total = m[0].copy()
        for k in range(1, len(m)):
            total += m[k]
        reached = total >= self.threshold * len(STEPS)
        due: dict[int, int] = {}
        taken = counts.copy()
        if reached.any():
            for i in np.unique(np.searchsorted(ends, np.flatnonzero(reached), "right")).tolist():
                s = int(slices[i])
                early = max(int(self.wait[s]), LEAST_LABELS - 1 - int(self.seen[s]), 0)
                mine = reached[heads[i] + 1 : ends[i]][early:]
                if mine.any():
                    taken[i] = due[s] = early + int(mine.argmax()) + 1
        self.statistic[slices] = np.minimum(m[:, heads + taken].T, CEILING)
        self.seen[slices] += taken
        self.wait[slices] = np.maximum(0, self.wait[slices] - taken)
        return due

    def _ratios(
        self, slices: NDArray[np.intp], error: NDArray[np.uint8], expected: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """``(K, rows)`` tempered likelihood ratios of each alternative."""
        null = np.minimum(expected.astype(np.float64) * self.kappa[slices], LARGEST_NULL)
        right = 1.0 - error  # |right - p| is p of a wrong row, and 1 - p of a right one
        ratio = np.minimum(null + STEPS[:, None], LARGEST)
        np.subtract(right, ratio, out=ratio)
        np.abs(ratio, out=ratio)
        ratio /= np.abs(right - null)
        if not self.independent:
            np.log(ratio, out=ratio)
            ratio *= self.powers.T[:, slices]
            np.exp(ratio, out=ratio)
        return np.asarray(ratio)

    # --- looks ---

    def _own(self, s: int, end: int) -> tuple[LabelledRows, NDArray[np.intp]]:
        """Rows since a slice's last reset that were remembered when ``end`` had come, and the
        places of its own among them."""
        rows = self.memory.upto(end, int(self.since[s]))
        j = self.expected.columns.index(self.expected.slices[s].column)
        own = (rows.slices[:, j] == s) & ((rows.asked < 0) | (rows.asked == s))
        return rows, np.flatnonzero(own & (rows.served_at >= self.begin[s]))

    def _suffix(self, s: int, rows: LabelledRows) -> tuple[int, int, int]:
        """Start of the suffix that is best explained by a change, and the earliest and latest start
        that the data cannot tell from it."""
        wrong = np.cumsum(rows.error[::-1], dtype=np.float64)
        null = np.minimum(rows.expected.astype(np.float64) * self.kappa[s], LARGEST_NULL)
        gains = gain(wrong, np.cumsum(null[::-1]))
        best = int(gains.argmax())
        near = np.flatnonzero(gains >= gains[best] - INTERVAL_LOG)
        last = len(rows) - 1
        return last - best, last - int(near[-1]), last - int(near[0])

    def look(self, s: int, number: int) -> tuple[HarmTest, HarmChange, float] | None:
        """What opens at row ``number``, if anything."""
        remembered, places = self._own(s, number + 1)
        if not len(places):
            return None
        rows = remembered[places]
        start, low, high = self._suffix(s, rows)
        found = rows[start:]
        n, errors = len(found), int(found.error.sum())
        level = float(found.expected.mean(dtype=np.float64))
        if errors < LEAST_ERRORS or errors / n < level + TOLERANCE:
            self.wait[s] = n // 8
            return None
        blamed = self._blamed(s, remembered, remembered[int(places[start]) :])
        if blamed is None or (not blamed and self.unlocalised):  # that harm is told already
            self.wait[s] = n // 8
            return None
        reference = self.expected.slices[s]
        upper = min(max(level * reference.kappa, level), LARGEST_NULL)
        base = replace(reference.base(self.base), rate=level, upper=upper)
        test = self.watching(base)
        change = test.stand(
            found.error.tolist(),
            found.served_at.tolist(),
            low=int(rows.served_at[low]),
            high=int(rows.served_at[high]),
            value=float(self.statistic[s].mean()),
        )
        if not blamed:
            self.unlocalised.add(s)
        return test, change, level

    def watching(self, base: BaseError) -> HarmTest:
        """A test that watches a slice with a finding; ``base``: what is normal for it."""
        return HarmTest(
            base, tolerance=TOLERANCE, labels_per_alarm=self.threshold, share=self.share
        )

    def localise(self, s: int, number: int) -> None:
        """See again, of an open slice, whether it is where the harm is, by all rows since the
        change up to row ``number``."""
        remembered = self.memory.upto(number + 1)
        rows = remembered[remembered.served_at >= self.open[s].low]
        if (blamed := self._blamed(s, rows, rows)) is not None:
            (self.unlocalised.discard if blamed else self.unlocalised.add)(s)

    def _blamed(self, s: int, rows: LabelledRows, since: LabelledRows) -> bool | None:
        """Whether a slice is where the harm is.

        Rows in open slices, which explain it, are taken out, then those of the slice with the
        largest gain, again and again, until the slice is that itself.

        Parameters
        ----------
        rows
            All rows since the slice's last reset.
        since
            Those since its change.

        Returns
        -------
        bool or None
            ``False``: all rows are as much above what is expected, so the harm is everywhere or
            not localised yet; on the same rows, each with a start of its own. ``None``: the slice
            is above it only for rows that it shares with others.
        """
        k = len(self.expected.slices)
        taken = [t for t in self.open if t != s and t not in self.unlocalised]
        left = since.outside(*taken)
        while True:
            _, observed, expected = sums(left, k)
            gains = gain(observed, expected)
            if gains[s] <= math.log(k):
                return None
            worst = int(gains.argmax())
            if worst == s:
                break
            left = left.outside(worst)
            taken.append(worst)
        if taken:  # without their rows its test has to alarm as well
            rows = rows.outside(*taken)
            own = (rows.tested == s).any(axis=1) & (rows.served_at >= self.begin[s])
            if self._anew(s, rows[own]) < self.threshold:
                return None
        mine = _best_gain(rows[(rows.slices == s).any(axis=1)])
        return mine - math.log(k) > _best_gain(rows)

    def _anew(self, s: int, own: LabelledRows) -> float:
        """Statistic of a slice whose test sees nothing but these rows."""
        if not len(own):
            return 0.0
        which = np.full(1 + len(own), s)
        first = np.r_[0, np.arange(len(own))]  # a place for what it had before: nothing
        ratio = self._ratios(which, own.error[first], own.expected[first])
        start = np.zeros((len(STEPS), 1))
        return float(_recursion(ratio, start, np.zeros(1, np.intp))[:, -1].mean())

    def copy(self) -> SliceTests:
        """An independent copy."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        for name in ("statistic", "seen", "wait", "since", "begin"):
            setattr(other, name, getattr(self, name).copy())
        other.open = {s: test.copy() for s, test in self.open.items()}
        other.levels = dict(self.levels)
        other.unlocalised = set(self.unlocalised)
        return other


def _best_gain(rows: LabelledRows) -> float:
    """Largest gain of all suffixes."""
    observed = np.cumsum(rows.error[::-1], dtype=np.float64)
    return float(gain(observed, np.cumsum(rows.expected[::-1], dtype=np.float64)).max())


def _recursion(
    ratio: NDArray[np.float64], start: NDArray[np.float64], heads: NDArray[np.intp]
) -> NDArray[np.float64]:
    """``M[t] = L[t] + L[t] * M[t-1]`` of several slices that lie one behind the other.

    Parameters
    ----------
    ratio
        ``(K, places)`` L; at the place of a head it does not matter. It is overwritten.
    start
        ``(K, slices)`` M before the first row of each slice.
    heads
        ``(slices,)`` place of it.

    Returns
    -------
    numpy.ndarray
        ``(K, places)`` M.
    """
    from scipy.linalg.blas import dtbsv

    ratio[:, heads] = 0
    band = np.empty((2, ratio.size), order="F")
    np.negative(ratio.reshape(-1)[1:], out=band[1, :-1])
    known = ratio.copy()
    known[:, heads] = start
    solved = dtbsv(1, band, known.reshape(-1), lower=1, diag=1, overwrite_x=1)
    m = np.asarray(solved, np.float64).reshape(ratio.shape)
    if np.isfinite(m).all():
        return m
    # Endless errors: a statistic grew out of what a float holds and spoiled those behind it.
    m = np.empty_like(ratio)
    m[:, heads] = start
    for t in range(ratio.shape[1]):
        if t not in heads:
            m[:, t] = np.minimum(ratio[:, t] * (1 + m[:, t - 1]), CEILING)
    return m

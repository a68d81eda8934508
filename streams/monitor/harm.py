"""Harm test: opens when the measured error is above the base error by the tolerance, and closes
again.

Plain numpy and Python, without a clock or randomness; ``accuracy.account`` makes findings of what
it says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.sequential import Mixture, Suffix, change_point, downward, upward

__all__ = ["FOLD", "RECENT", "HarmChange", "HarmTest", "Memory", "delay"]

MINIMUM_ERRORS = 5
"""Wrong rows since the change that an alarm needs. A model without errors in its reference would
otherwise page after 3 wrong labels in a row, right by theory, but one bad batch of labels looks the
same."""
MINIMUM_LABELS = 10
"""Labelled rows since the last reset that an alarm needs."""
RECENT = 8_192
"""Outcomes that are remembered one by one."""
FOLD = 32
"""Older ones are remembered as sums of this many."""
EVER = -(2**63)
"""Before every time of serving."""
MAX_FOLDS = 8_192
"""Sums that are kept: 262,144 outcomes beyond the recent ones. A change further back is dated to
their beginning."""


class Memory:
    """Labelled errors since the last reset: recent ones one by one, older ones in blocks of 32."""

    __slots__ = ("errors", "folded_errors", "folded_times", "times")

    def __init__(self) -> None:
        self.errors: list[int] = []
        self.times: list[int] = []
        self.folded_errors: list[int] = []
        self.folded_times: list[int] = []

    def __len__(self) -> int:
        """Labelled rows that are remembered."""
        return len(self.errors) + FOLD * len(self.folded_errors)

    def copy(self) -> Memory:
        """An independent copy."""
        other = Memory()
        for name in self.__slots__:
            setattr(other, name, getattr(self, name).copy())
        return other

    def append(self, error: int, at: int) -> None:
        """Take one outcome; ``at`` is the time at which its row was served, microseconds."""
        self.errors.append(error)
        self.times.append(at)
        if len(self.errors) >= 2 * RECENT:
            e = np.array(self.errors[:RECENT]).reshape(-1, FOLD)
            self.folded_errors += e.sum(axis=1).tolist()
            self.folded_times += self.times[:RECENT:FOLD]
            del self.errors[:RECENT], self.times[:RECENT]
            del self.folded_errors[:-MAX_FOLDS], self.folded_times[:-MAX_FOLDS]

    def entries(
        self, last: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Counts, errors and times of the remembered rows, oldest first; of the ``last`` rows only,
        if given.

        Where ``last`` reaches into the blocks of 32 it is rounded up to whole blocks.
        """
        singles = len(self.errors) if last is None else min(last, len(self.errors))
        folds = len(self.folded_errors)
        if last is not None:
            folds = min(folds, -(-max(0, last - singles) // FOLD))
        first_single, first_fold = len(self.errors) - singles, len(self.folded_errors) - folds
        counts = np.concatenate([np.full(folds, FOLD), np.ones(singles, np.int64)])
        errors = np.array(self.folded_errors[first_fold:] + self.errors[first_single:], np.int64)
        times = np.array(self.folded_times[first_fold:] + self.times[first_single:], np.int64)
        return counts, errors, times


@dataclass(frozen=True, kw_only=True, slots=True)
class HarmChange:
    """What the detector said after one outcome."""

    status: Literal["open", "update", "resolved"]
    rate: float
    """Error rate since the change (since the recovery, when resolved)."""
    n: int
    """Labelled rows behind ``rate``."""
    errors: int
    low: int
    """Serving time, microseconds, of the earliest start that the data cannot exclude."""
    high: int
    value: float
    """The statistic."""
    threshold: float


class HarmTest:
    """Sequential test of one stream of labelled errors against a base error.

    Shiryaev-Roberts e-detector [1]_ on the risk of a deployed model [2]_. It opens when the error
    rate is above the upper bound of the base error, and the estimate since the change is above the
    base error by the tolerance. Without a drop its mean time to a false alarm is at least
    ``labels_per_alarm``. It then waits for the error to come back.

    Parameters
    ----------
    base
        What is normal.
    tolerance
        Loss of accuracy, as a share, that nobody need be woken for.
    labels_per_alarm
        Labels per promised false alarm, the threshold of the statistic; at least 1,000 is used.
    strictness
        Null of the test = upper base error + strictness x tolerance. 0 promises its run length
        against *no* drop only; .5 holds for drops up to half the tolerance and finds less.
    share
        Share of the rows that get a label, for the tempering.

    Examples
    --------
    >>> import random
    >>> rng = random.Random(42)
    >>> base = BaseError.from_errors(np.tile([0] * 9 + [1], 2_000))
    >>> test = HarmTest(base, tolerance=0.01, labels_per_alarm=1e5)
    >>> for i in range(4_000):
    ...     change = test.update(rng.random() < (0.1 if i < 2_000 else 0.3), i)
    ...     if change is not None and change.status == "open":
    ...         print(i)
    2103

    References
    ----------
    .. [1] Shin, Ramdas, Rinaldo: E-detectors, a nonparametric framework for sequential change
       detection. 2022, arXiv 2203.03532.
    .. [2] Podkopaev, Ramdas: Tracking the risk of a deployed model and detecting harmful
       distribution shifts. 2022, arXiv 2110.06177.
    """

    def __init__(
        self,
        base: BaseError,
        *,
        tolerance: float,
        labels_per_alarm: float,
        strictness: float = 0.0,
        share: float = 1.0,
    ) -> None:
        self.base = base
        self.tolerance = tolerance
        self.strictness = strictness
        self.share = share
        self.threshold = max(1_000.0, labels_per_alarm)
        self.memory = Memory()
        self.open = False
        self.since_n = 0  # labels since the change point, while open
        self.since_errors = 0
        self.next_update = 0
        self.level_n = 0  # labels since the present level began, while open
        self.level_rate = 0.0  # error rate from which a recovery is looked for
        self.low = self.high = 0
        self.wait = 0  # labels until an estimate below the tolerance is looked at again
        self.begin = EVER  # rows served earlier belong to what was before the last change
        self.mixture = self._up()

    def _up(self) -> Mixture:
        null = min(self.base.upper + self.strictness * self.tolerance, 0.95)
        return upward(
            null,
            smallest=max(0.01, self.tolerance * (1 - self.strictness)),
            threshold=self.threshold,
            share=self.share,
            curve=self.base.inflation,
        )

    def _down(self) -> Mixture:
        u = self.base.upper
        null = min(max(u + self.tolerance, u + (self.level_rate - u) / 2), 0.97)
        return downward(
            null,
            healthy=self.base.rate,
            threshold=max(200.0, self.threshold / 100),
            share=self.share,
            curve=self.base.inflation,
        )

    def retune(self, *, labels_per_alarm: float | None = None, share: float | None = None) -> None:
        """Another threshold or label share from now on; evidence collected so far is kept."""
        if labels_per_alarm is not None:
            self.threshold = max(1_000.0, labels_per_alarm)
        if share is not None:
            self.share = share
        statistic = self.mixture.statistic
        self.mixture = self._down() if self.open else self._up()
        self.mixture.statistic = statistic

    def update(self, error: int, at: int) -> HarmChange | None:
        """Take one outcome in the order in which labels arrive.

        A label that comes late, of a row served before the last change, is left out: right rows of
        the time before would look like a recovery, wrong ones of the time in between like a
        relapse.

        Parameters
        ----------
        error
            1 for a wrong prediction, else 0.
        at
            When its row was served, microseconds since 1970.

        Returns
        -------
        HarmChange or None
            What opened, changed or ended with this outcome.
        """
        if at < self.begin:
            return None
        self.memory.append(error, at)
        reached = self.mixture.update(error)
        if not self.open:
            if self.wait:
                self.wait -= 1
            elif reached and len(self.memory) >= MINIMUM_LABELS:
                return self._opened()
            return None
        self.since_n += 1
        self.since_errors += error
        self.level_n += 1
        if reached:
            return self._level_changed()
        if self.since_n >= self.next_update:
            self.next_update = 2 * self.since_n
            return self._change(
                "update", self.since_errors / self.since_n, self.since_n, self.since_errors
            )
        return None

    def _opened(self) -> HarmChange | None:
        counts, errors, times = self.memory.entries()
        s = change_point(counts, errors, self.mixture.null, upwards=True)
        if s.rate < self.base.rate + self.tolerance or s.errors < MINIMUM_ERRORS:
            # each look is another chance to be wrong about a loss below the tolerance, and it costs
            # up to a millisecond; an estimate moves little until an eighth more labels are there
            self.wait = s.rows // 8
            return None
        value, threshold = self.mixture.value, self.mixture.threshold
        self.low, self.high = int(times[s.low]), int(times[s.high])
        self.since_n, self.since_errors, self.next_update = s.rows, s.errors, 2 * s.rows
        self._new_level(s, carry=0)
        self.open = True
        self._begin(times, s)
        return self._change("open", s.rate, s.rows, s.errors, value, threshold)

    def _begin(self, times: NDArray[np.int64], s: Suffix) -> None:
        # the median: neither a straggler nor a clock that is wrong by years moves it
        self.begin = int(np.median(times[s.start :]))

    def _new_level(self, s: Suffix, carry: int) -> None:
        self.level_rate, self.level_n = s.rate, carry
        self.mixture = self._down()

    def _level_changed(self) -> HarmChange | None:
        counts, errors, times = self.memory.entries(self.level_n)
        s = change_point(counts, errors, self.mixture.null, upwards=False)
        if self._level_was_lower(s, counts, errors):
            return None
        value, threshold = self.mixture.value, self.mixture.threshold
        if s.rate <= self.base.rate + self.tolerance:
            low, high = int(times[s.low]), int(times[s.high])
            change = self._change("resolved", s.rate, s.rows, s.errors, value, threshold)
            self.reset()
            self.low, self.high = low, high
            self._begin(times, s)
            return change
        change = self._change("update", s.rate, s.rows, s.errors, value, threshold)
        self._begin(times, s)
        self._new_level(s, carry=s.rows)
        return change

    def _level_was_lower(
        self, s: Suffix, counts: NDArray[np.int64], errors: NDArray[np.int64]
    ) -> bool:
        """Whether the evidence for a recovery vanishes once the level is estimated again.

        The level at the opening is the best of all suffixes and so too high, by twenty points where
        sixteen labels were enough; a recovery is then looked for where there is none.
        """
        before = self.level_n - s.rows
        if before < 1:
            return False
        level = (int(errors.sum()) - s.errors) / before
        if level >= self.level_rate:
            return False
        self.level_rate = level
        self.mixture = self._down()
        reached = False
        for n, k in zip(counts.tolist(), errors.tolist(), strict=True):
            for e in [1] * k + [0] * (n - k):
                reached = self.mixture.update(e)
        return not reached

    def _change(
        self,
        status: Literal["open", "update", "resolved"],
        rate: float,
        n: int,
        errors: int,
        value: float | None = None,
        threshold: float | None = None,
    ) -> HarmChange:
        return HarmChange(
            status=status,
            rate=rate,
            n=n,
            errors=errors,
            low=self.low,
            high=self.high,
            value=self.mixture.value if value is None else value,
            threshold=self.mixture.threshold if threshold is None else threshold,
        )

    def reset(self) -> None:
        """Start again: closed, no evidence, nothing remembered."""
        self.open = False
        self.memory = Memory()
        self.since_n = self.since_errors = self.next_update = self.level_n = self.wait = 0
        self.level_rate = 0.0
        self.mixture = self._up()

    def copy(self) -> HarmTest:
        """An independent copy."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.memory = self.memory.copy()
        other.mixture = self.mixture.copy()
        return other

    def numbers(self) -> dict[str, Any]:
        """The plain values of its state, for ``accuracy.AccuracyState.to_bytes``."""
        names = (
            "open",
            "since_n",
            "since_errors",
            "next_update",
            "level_n",
            "level_rate",
            "low",
            "high",
            "wait",
            "begin",
        )
        return {
            **{name: getattr(self, name) for name in names},
            "statistic": self.mixture.statistic.tolist(),
        }

    def restore(self, numbers: dict[str, Any], memory: Memory) -> None:
        """Take up a state that ``numbers`` told."""
        for name, value in numbers.items():
            if name != "statistic":
                setattr(self, name, value)
        self.memory = memory
        self.mixture = self._down() if self.open else self._up()
        self.mixture.statistic = np.array(numbers["statistic"], np.float64)


def delay(base: BaseError, config: WatchConfig, drop_points: float, label_share: float) -> float:
    """Labelled rows until a lasting drop of accuracy is found, in the mean: what ``register`` tells
    people.

    Parameters
    ----------
    drop_points
        Loss of accuracy in percentage points.
    label_share
        Labels per served row.

    Returns
    -------
    float
        Labelled rows; infinite where the reference is too small to tell such a drop from the base
        error.

    Examples
    --------
    >>> from redistill.streams.wire.block import Schema
    >>> config = WatchConfig(model="credit", schema=Schema(features=()))
    >>> base = BaseError.from_errors(np.tile([0] * 9 + [1], 2000))
    >>> 400 < delay(base, config, 5, 0.1) < 700
    True
    """
    tolerance = config.tolerance_points / 100
    rate = base.rate + drop_points / 100
    if drop_points / 100 < tolerance or rate >= 1:
        return float("inf") if rate < 1 else 1.0
    mixture = upward(
        min(base.upper + config.strictness * tolerance, 0.95),
        smallest=max(0.01, tolerance * (1 - config.strictness)),
        threshold=max(1_000.0, config.rows_per_alarm * label_share),
        share=label_share,
        curve=base.inflation,
    )
    return mixture.delay(rate)

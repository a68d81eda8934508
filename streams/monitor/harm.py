"""Harm test: opens when the measured error is above the base error by the tolerance, and closes
again when a recovery is shown (``recovery``).

Plain numpy and Python, without a clock or randomness; ``accuracy.account`` makes findings of what
it says.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from redistill.streams.monitor import recovery
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.daily_cycle import daily_cycle
from redistill.streams.monitor.episode import Episode, joined
from redistill.streams.monitor.memory import Memory
from redistill.streams.monitor.sequential import (
    Mixture,
    Suffix,
    change_point,
    upward,
)

__all__ = ["EVER", "HarmChange", "HarmTest"]

MINIMUM_ERRORS = 5
"""Wrong rows since the change that an alarm needs. A model without errors in its reference would
otherwise page after 3 wrong labels in a row, right by theory, but one bad batch of labels looks the
same."""
MINIMUM_LABELS = 10
"""Labelled rows since the last reset that an alarm needs."""
EVER = -(2**63)
"""Before every time of serving."""


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
    test: Literal["upward", "downward"]
    """Which of the two tests the statistic is of: the one that looks for harm, or for a
    recovery."""
    null: float
    """Its null: the error rate that it has to rule out."""
    value: float
    """Its statistic."""
    threshold: float
    """What the statistic had, or has, to reach."""


class HarmTest:
    """Sequential test of one stream of labelled errors against a base error.

    Shiryaev-Roberts e-detector [1]_ on the risk of a deployed model [2]_. It opens when the error
    rate is above the upper bound of the base error, and the estimate since the change is above the
    base error by the tolerance. Without a drop its mean time to a false alarm is at least
    ``labels_per_alarm``. It then waits for the error to come back. What it remembers outlives a
    reset: harm that opens again is dated to where it began, should the recovery have been none.

    Parameters
    ----------
    base
        What is normal.
    tolerance
        Loss of accuracy, as a share, that nobody need be woken for.
    labels_per_alarm
        Labels per promised false alarm of this test, the threshold of the statistic
        (``alarm_budget``).
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
        self.threshold = labels_per_alarm
        self.memory = Memory()
        self.seen = 0  # labels since the last reset
        self.behind = 0  # labels before it to which a change may be dated back
        self.ended: Episode | None = None  # the harm before these, if there was any
        self.open = False
        self.since_n = 0  # labels since the change point, while open
        self.since_errors = 0
        self.next_update = 0
        self.level_n = 0  # labels since the present level began, while open
        self.level_rate = 0.0  # error rate from which a recovery is looked for
        self.low = self.high = 0
        self.wait = 0  # labels until an estimate that was not good enough is looked at again
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
        return recovery.looking_down(
            self.base, harmed=self.level_rate, tolerance=self.tolerance, share=self.share
        )

    def retune(self, *, labels_per_alarm: float | None = None, share: float | None = None) -> None:
        """Another threshold or label share from now on; evidence collected so far is kept."""
        if labels_per_alarm is not None:
            self.threshold = labels_per_alarm
        if share is not None:
            self.share = share
        statistic = self.mixture.statistic
        self.mixture = self._down() if self.open else self._up()
        self.mixture.statistic = statistic

    def update(self, error: int, at: int, *, dense: bool = False) -> HarmChange | None:
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
        dense
            Whether the rows around it are labelled, too, as those of a request are.

        Returns
        -------
        HarmChange or None
            What opened, changed or ended with this outcome.
        """
        if at < self.begin:
            return None
        self.memory.append(error, at)
        self.seen += 1
        reached = self.mixture.update(error, dense=dense)
        if self.wait:
            self.wait -= 1
            reached = False
        if not self.open:
            return self._opened() if reached and self.seen >= MINIMUM_LABELS else None
        self.since_n += 1
        self.since_errors += error
        self.level_n += 1
        if reached and (change := self._level_changed()) is not None:
            return change
        if self.since_n >= self.next_update:
            self.next_update = 2 * self.since_n
            return self._change("update", self.since_n, self.since_errors)
        return None

    def _opened(self) -> HarmChange | None:
        counts, errors, times = self.memory.entries(self.seen)
        s = change_point(counts, errors, self.mixture.null, upwards=True)
        if self._small(s) or s.errors < MINIMUM_ERRORS:
            # each look is another chance to be wrong about a loss below the tolerance, and it costs
            # up to a millisecond; an estimate moves little until an eighth more labels are there
            self.wait = s.rows // 8
            return None
        self._begin(times, s)
        found = self._dated(
            Episode(s.rows, s.errors, int(times[s.low]), int(times[s.high])), int(errors.sum())
        )
        self.low, self.high = found.low, found.high
        self.since_n, self.since_errors, self.next_update = found.n, found.errors, 2 * found.n
        change = self._change("open", found.n, found.errors)
        self.open = True
        self._new_level(found.rate, carry=0)
        return change

    def stand(
        self, errors: list[int], times: list[int], *, low: int, high: int, value: float
    ) -> HarmChange:
        """Take up harm that another test found: from now on a recovery is looked for.

        Parameters
        ----------
        errors, times
            Labelled rows since the change: whether each was wrong, and when it was served.
        low, high
            Serving times, microseconds, between which it began.
        value
            The other test's statistic; its threshold is taken to be this one's.
        """
        for error, at in zip(errors, times, strict=True):
            self.memory.append(error, at)
        self.seen = self.since_n = len(errors)
        self.since_errors, self.next_update = sum(errors), 2 * len(errors)
        self.low, self.high = low, high
        self.begin = int(np.median(times))
        change = replace(self._change("open", self.since_n, self.since_errors), value=value)
        self.open = True
        self._new_level(change.rate, carry=0)
        return change

    def _small(self, found: Suffix | Episode) -> bool:
        """Whether a loss is within the tolerance."""
        return found.rate < self.base.rate + self.tolerance

    def _dated(self, since_reset: Episode, seen_errors: int) -> Episode:
        """The harm that opens, from where it began, which may be before the last reset."""
        if not self.behind and self.ended is None:
            return since_reset
        counts, errors, times = self.memory.entries(self.behind + self.seen)
        s = change_point(counts, errors, self.mixture.null, upwards=True)
        found = Episode(s.rows, s.errors, int(times[s.low]), int(times[s.high]))
        if self._small(found):
            found = since_reset
        if self.ended is None:
            return found
        one = joined(
            self.ended,
            (int(counts.sum()) - found.n, int(errors.sum()) - found.errors),
            found,
            after=(
                (self.seen - found.n, seen_errors - found.errors) if found.n < self.seen else (0, 0)
            ),
            odds=math.log(self.threshold) + math.log(recovery.THRESHOLD),
            curve=self.base.inflation,
            share=self.share,
        )
        return found if one is None or self._small(one) else one

    def _begin(self, times: NDArray[np.int64], s: Suffix) -> None:
        # the median: neither a straggler nor a clock that is wrong by years moves it
        self.begin = int(np.median(times[s.start :]))

    def _new_level(self, rate: float, carry: int) -> None:
        self.level_rate, self.level_n, self.wait = rate, carry, 0
        self.mixture = self._down()

    def _level_changed(self) -> HarmChange | None:
        counts, errors, times = self.memory.entries(self.level_n)
        least = recovery.a_day(times) if self._daily() else 1
        if least > len(times):
            self.wait = self.level_n // 16
            return None
        s = change_point(counts, errors, self.mixture.null, upwards=False, least=least)
        if self._level_was_lower(s, counts, errors):
            return None
        if not recovery.shown(s.errors, s.rows, self.mixture.null):
            self.wait = s.rows // 16
            return None
        good = self.base.rate + self.tolerance
        if s.rate > good and not recovery.short_of(s.errors, s.rows, good):
            self.wait = s.rows // 4  # better for certain, but how good is not known yet
            return None
        if s.rate <= good:
            change = self._change("resolved", s.rows, s.errors)
            self.ended = Episode(
                self.since_n - s.rows, self.since_errors - s.errors, self.low, self.high
            )
            self.reset()
            self.behind = s.rows
            self.low, self.high = int(times[s.low]), int(times[s.high])
            self._begin(times, s)
            return change
        change = self._change("update", s.rows, s.errors)
        self._begin(times, s)
        self._new_level(s.rate, carry=s.rows)
        return change

    def _daily(self) -> bool:
        """Whether the hour of the day matters: by the base error, else by the labels so far."""
        if self.base.daily is not None:
            return self.base.daily
        counts, errors, times = self.memory.entries()
        return daily_cycle(errors, times, counts) is True

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
        self, status: Literal["open", "update", "resolved"], n: int, errors: int
    ) -> HarmChange:
        return HarmChange(
            status=status,
            rate=errors / n,
            n=n,
            errors=errors,
            low=self.low,
            high=self.high,
            test="downward" if self.open else "upward",
            null=self.mixture.null,
            value=self.mixture.value,
            threshold=self.mixture.threshold,
        )

    def reset(self) -> None:
        """Start again: closed, no evidence. What was seen is kept, to date what opens next."""
        self.open = False
        self.seen = self.behind = 0
        self.since_n = self.since_errors = self.next_update = self.level_n = self.wait = 0
        self.level_rate = 0.0
        self.mixture = self._up()

    def follow(self, before: HarmTest | Memory) -> None:
        """Take over what was remembered before this test began, to date what it opens."""
        if isinstance(before, Memory):
            self.memory, self.behind = before, len(before)
            return
        self.memory, self.begin = before.memory, before.begin
        if before.open:
            self.ended = Episode(before.since_n, before.since_errors, before.low, before.high)
        else:
            self.ended, self.behind = before.ended, before.behind + before.seen

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
            "seen",
            "behind",
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
            "ended": None if self.ended is None else astuple(self.ended),
            "statistic": self.mixture.statistic.tolist(),
        }

    def restore(self, numbers: dict[str, Any], memory: Memory) -> None:
        """Take up a state that ``numbers`` told."""
        self.seen, ended = len(memory), numbers.get("ended")  # format 1 had neither
        self.ended = None if ended is None else Episode(*ended)
        for name, value in numbers.items():
            if name not in ("statistic", "ended"):
                setattr(self, name, value)
        self.memory = memory
        self.mixture = self._down() if self.open else self._up()
        self.mixture.statistic = np.array(numbers["statistic"], np.float64)

"""Labelled errors of a model whose error rose and stays: what no rule may call a recovery."""

from __future__ import annotations

import numpy as np

from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.harm import HarmChange, HarmTest
from redistill.streams.monitor.sequential import Mixture, change_point, downward
from redistill.times import DAY, MINUTE
from redistill.workers.incidents.recovery import Recovery

__all__ = ["RISES", "Before", "drawn", "judged_before", "said_by", "timed"]

LABELS_A_DAY = DAY // MINUTE
RISES = ((0.15, 0.24), (0.15, 0.19), (0.06, 0.54), (0.02, 0.06))
"""Error rate before and while the harm stands."""


def drawn(kind: str, rate: np.ndarray, seed: int) -> np.ndarray:
    """``(n,)`` errors, one label a minute, of which row ``i`` is wrong with ``rate[i]``."""
    rng, n = np.random.default_rng(seed), len(rate)
    if kind.startswith("runs of "):
        length = int(kind.removeprefix("runs of "))
        return np.repeat(rng.random(-(-n // length)), length)[:n].__lt__(rate).astype(np.int64)
    if kind.startswith("daily"):
        hour = 2 * np.pi * np.arange(n) / LABELS_A_DAY
        rate = rate * (1 + 0.6 * np.sin(hour))
    return (rng.random(n) < rate).astype(np.int64)


def timed(n: int) -> np.ndarray:
    """``(n,)`` when these rows were served: one a minute."""
    return np.arange(n, dtype=np.int64) * MINUTE


def said_by(test: HarmTest, errors: np.ndarray, after: int = 0) -> list[str | None]:
    """What the test said after each label; ``after`` so many before them."""
    said: list[str | None] = []
    times = timed(after + len(errors))[after:]
    for e, at in zip(errors.tolist(), times.tolist(), strict=True):
        change = test.update(e, at)
        said.append(None if change is None else change.status)
    return said


class Before(HarmTest):
    """The rule before this one: a hundredth of the alarm's threshold, inflation to 64 rows."""

    def _down(self) -> Mixture:
        upper = self.base.upper
        return downward(
            min(max(upper + self.tolerance, upper + (self.level_rate - upper) / 2), 0.97),
            healthy=self.base.rate,
            threshold=max(200.0, self.threshold / 100),
            share=self.share,
            curve=self.base.inflation,
            inflation_rows=64,
        )

    def _level_changed(self) -> HarmChange | None:
        counts, errors, times = self.memory.entries(self.level_n)
        s = change_point(counts, errors, self.mixture.null, upwards=False)
        if self._level_was_lower(s, counts, errors):
            return None
        if s.rate <= self.base.rate + self.tolerance:
            change = self._change("resolved", s.rows, s.errors)
            self.reset()
            self._begin(times, s)
            return change
        change = self._change("update", s.rows, s.errors)
        self._begin(times, s)
        self._new_level(s.rate, carry=s.rows)
        return change


def judged_before(
    errors: np.ndarray, times: np.ndarray, *, base: BaseError, harmed: float, tolerance: float
) -> Recovery:
    """``incidents.recovery.judge`` by that rule, at 1,000 to 20,000 labels per alarm."""
    null = min(max(base.upper + tolerance, base.upper + (harmed - base.upper) / 2), 0.97)
    down = downward(
        null,
        healthy=base.rate,
        threshold=200.0,
        share=1.0,
        curve=base.inflation,
        inflation_rows=64,
    )
    fired = next((i for i, e in enumerate(errors.tolist()) if down.update(e)), len(errors))
    running = np.cumsum(errors)[fired:] / np.arange(fired + 1, len(errors) + 1)
    good = bool((running <= base.upper + tolerance).any())
    return Recovery(recovered=good, error=None, n=len(times), level=null, short=False)

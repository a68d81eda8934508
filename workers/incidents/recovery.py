"""Has a model recovered? The resolving half of the detector of harm, over a new version's outcomes.

A version that was published against harm has no finding of its own that could be resolved, so the
question is asked here. With an error of at most ``U`` promised, the same mixture downwards that
resolves findings must show that the error of the version that serves now is below
``q = U + max(tolerance, half of what was lost)``; and its estimate must lie within tolerance. When
the version began is known, so the estimate is the mean of all its labelled rows: the best suffix,
which the running detector has to use, would pick lucky runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.sequential import downward

__all__ = ["Recovery", "judge"]

MIN_THRESHOLD = 200.0
"""Labelled rows per false "recovered" at least, whatever the budget of alarms is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovery:
    """What the labelled rows since the change of version say."""

    recovered: bool
    error: float | None
    """Share of wrong rows among the first ``n``; ``None``: there are none."""
    n: int
    """Labelled rows until it was decided; all of them where it is not."""
    level: float
    """The error that had to be ruled out: a proportion."""


def judge(
    errors: NDArray[np.uint8],
    *,
    base: BaseError,
    harmed: float,
    tolerance: float,
    share: float = 1.0,
    labels_per_alarm: float = 1e6,
) -> Recovery:
    """Judge the outcomes of a version in the order in which they were numbered.

    Parameters
    ----------
    errors
        ``(n,)`` 1 = wrong, of rows labelled at random.
    base
        What was promised before the harm.
    harmed
        Error rate while harm was declared.
    tolerance
        Loss that nobody need be woken for: a proportion, not points.
    share
        Share of the rows that get a label, for the tempering.
    labels_per_alarm
        The detector's budget; a hundredth of it is enough to end an alarm.

    Examples
    --------
    >>> base = BaseError.from_errors(np.tile([1] + [0] * 19, 100))
    >>> judge(np.zeros(60, np.uint8), base=base, harmed=.6, tolerance=.02).recovered
    True
    >>> judge(np.tile([1, 0], 60), base=base, harmed=.6, tolerance=.02).recovered
    False
    """
    n = len(errors)
    q = min(max(base.upper + tolerance, base.upper + (harmed - base.upper) / 2), 0.97)
    mixture = downward(
        q,
        healthy=base.rate,
        threshold=max(MIN_THRESHOLD, labels_per_alarm / 100),
        share=share,
        curve=base.inflation,
    )
    fired = next((i for i, wrong in enumerate(errors.tolist()) if mixture.update(wrong)), None)
    if fired is None:
        return Recovery(recovered=False, error=float(errors.mean()) if n else None, n=n, level=q)
    running = np.cumsum(errors)[fired:] / np.arange(fired + 1, n + 1)
    good = np.flatnonzero(running <= base.upper + tolerance)
    at = int(good[0]) if len(good) else len(running) - 1
    return Recovery(recovered=bool(len(good)), error=float(running[at]), n=fired + 1 + at, level=q)

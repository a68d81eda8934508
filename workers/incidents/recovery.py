"""Has a model recovered? The recovery rule of the monitor, over a new version's outcomes.

A version that was published against harm has no finding of its own that could be resolved, so the
question is asked here, by the same rule (``streams.monitor.recovery``). When the version began is
known, so the estimate is the mean of all its labelled rows: the best suffix, which the running
detector has to use, would pick lucky runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redistill.streams.monitor import recovery
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.daily_cycle import daily_cycle

__all__ = ["Recovery", "judge"]


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
    short: bool
    """The first ``n`` are shown to be worse than promised: more labels will not help."""


def judge(
    errors: NDArray[np.uint8],
    times: NDArray[np.int64],
    *,
    base: BaseError,
    harmed: float,
    tolerance: float,
    share: float = 1.0,
) -> Recovery:
    """Judge the outcomes of a version in the order in which they were numbered.

    Parameters
    ----------
    errors
        ``(n,)`` 1 = wrong, of rows labelled at random.
    times
        ``(n,)`` when the rows were served, microseconds since 1970. They tell whether errors
        follow the hour of the day where the base error does not.
    base
        What was promised before the harm.
    harmed
        Error rate while harm was declared; better too low than too high.
    tolerance
        Loss that nobody need be woken for: a proportion, not points.
    share
        Share of the rows that get a label, for the tempering.

    Examples
    --------
    >>> base, at = BaseError.from_errors(np.tile([1] + [0] * 19, 100)), np.arange(60)
    >>> judge(np.zeros(60, np.uint8), at, base=base, harmed=.6, tolerance=.02).recovered
    True
    >>> judge(np.tile([1, 0], 30), at, base=base, harmed=.6, tolerance=.02).recovered
    False
    """
    n = len(errors)
    down = recovery.looking_down(base, harmed=harmed, tolerance=tolerance, share=share)
    fired = next((i for i, wrong in enumerate(errors.tolist()) if down.update(wrong)), n)
    wrong = np.cumsum(errors)
    promised = base.upper + tolerance
    daily = base.daily if base.daily is not None else daily_cycle(errors, times)
    least = recovery.a_day(times[::-1]) if daily else 1
    running = wrong / np.arange(1, n + 1)
    within = np.flatnonzero(running <= promised) + 1
    rows = next(
        (
            m
            for m in within[within >= max(fired + 1, least)].tolist()
            if recovery.shown(int(wrong[m - 1]), m, down.null)
        ),
        None,
    )
    m = n if rows is None else rows
    return Recovery(
        recovered=rows is not None,
        error=float(running[m - 1]) if m else None,
        n=m,
        level=down.null,
        short=bool(m) and recovery.short_of(int(wrong[m - 1]), m, promised),
    )

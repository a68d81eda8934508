"""Recovery rule: what it takes to say that the error of a harmed model is back. Plain numpy.

One rule for a finding that may resolve (``harm``) and for a version that was published against
harm (``workers.incidents.recovery``), and one promise, whatever the alarm budget: an operator who
can live with many alarms cannot live with incidents that close while the harm stands. The test
looks downwards from halfway between the harmed level and what was promised; it must be convinced,
and so must an exact interval.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from redistill.stats import clopper_pearson
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.sequential import Mixture, downward
from redistill.times import DAY

__all__ = ["INFLATION_ROWS", "THRESHOLD", "TOO_FEW", "a_day", "looking_down", "short_of", "shown"]

THRESHOLD = 1e4
"""Labels of standing harm per false recovery, in the mean, where errors are as the reference shows
them."""
INFLATION_ROWS = 1_000
"""Variance inflation is read up to here (on the way up: 64 rows), so that a quiet half day is no
recovery."""
LEAST_LABELS = 30
"""Labelled rows since the change that a recovery needs."""
TOO_FEW = 4
"""Rows on either side whose times do not count for how long a stretch is: clocks are wrong at
times, and one row served in the future makes no day."""


def looking_down(base: BaseError, *, harmed: float, tolerance: float, share: float) -> Mixture:
    """The test that looks for a recovery; its ``null`` is the error that has to be ruled out.

    Halfway down from the harmed level: to rule out all that is beyond the tolerance would take
    thousands of labels.

    Parameters
    ----------
    base
        What is normal.
    harmed
        Error rate while the harm stands.
    tolerance
        Loss that nobody need be woken for: a proportion, not points.
    share
        Share of the rows that get a label, for the tempering.
    """
    upper = base.upper
    return downward(
        min(max(upper + tolerance, upper + (harmed - upper) / 2), 0.97),
        healthy=base.rate,
        threshold=THRESHOLD,
        share=share,
        curve=base.inflation,
        inflation_rows=INFLATION_ROWS,
    )


def shown(errors: int, rows: int, null: float) -> bool:
    """Whether rows since a recovery are enough, and their exact interval excludes ``null``."""
    return rows >= LEAST_LABELS and clopper_pearson(rows - errors, rows)[0] > 1 - null


def short_of(errors: int, rows: int, good: float) -> bool:
    """Whether rows since a change for the better are shown to be worse than ``good``."""
    return clopper_pearson(rows - errors, rows)[1] < 1 - good


def a_day(times: NDArray[np.int64]) -> int:
    """Entries that a stretch from the newest one back must have to last a whole day.

    Where errors follow the hour of the day a quiet night looks like a recovery, and only a whole
    day does not.

    Parameters
    ----------
    times
        ``(m,)`` when rows were served, microseconds since 1970, newest last; labels come late, so
        they need not be in order.

    Returns
    -------
    int
        More than there are, ``m + 1``, if all of them do not.

    Examples
    --------
    >>> hourly = np.arange(48) * 3_600_000_000
    >>> a_day(hourly), a_day(hourly[:20])
    (33, 21)
    """
    few, most = 2 * TOO_FEW, len(times) + 1
    while most - few > 1:  # the longer the stretch, the longer it lasts
        entries = (few + most) // 2
        ordered = np.partition(times[-entries:], (TOO_FEW, -1 - TOO_FEW))
        if ordered[-1 - TOO_FEW] - ordered[TOO_FEW] >= DAY:
            most = entries
        else:
            few = entries
    return most

"""Delay of the tests of slices: what ``register`` tells people about the smallest change that each
can see."""

from __future__ import annotations

import math

import numpy as np

from redistill.streams.monitor import alarm_budget
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.expected_error import ExpectedError, SliceReference
from redistill.streams.monitor.sequential import Mixture
from redistill.streams.monitor.slice_tests import (
    LARGEST,
    LARGEST_NULL,
    STEPS,
    TOLERANCE,
    SliceTests,
)

__all__ = ["LABELS", "smallest_change"]

LABELS = 1_000
"""Labels of a slice within which a change counts as seen."""


def smallest_change(
    s: SliceReference,
    expected: ExpectedError,
    base: BaseError,
    config: WatchConfig,
    label_share: float,
) -> float | None:
    """The smallest lasting rise of a slice's error that its test finds within 1,000 of its labels,
    in the mean.

    Returns
    -------
    float or None
        Percentage points above the expected error, at least 5; ``None``: there is none.
    """
    threshold = alarm_budget.slice_tests(config, label_share, len(expected.columns))
    tests = SliceTests(expected, base, labels_per_alarm=threshold, share=label_share)
    null = min(s.expected * s.kappa, LARGEST_NULL)
    mixture = Mixture(
        null,
        np.minimum(null + STEPS, LARGEST),
        threshold,
        tests.powers[expected.slices.index(s)],
    )
    for points in range(round(100 * TOLERANCE), 100):
        rate = s.expected + points / 100
        if rate >= 1:
            return None
        labels = mixture.delay(rate)
        if math.isfinite(labels) and labels <= LABELS:
            return float(points)
    return None

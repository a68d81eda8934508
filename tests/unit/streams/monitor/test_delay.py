"""What is told about a drop before there is one."""

from __future__ import annotations

import dataclasses

import numpy as np
from monitor_blocks import CONFIG

from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.delay import delay

TIGHT = dataclasses.replace(CONFIG, tolerance_points=2.0, rows_per_alarm=1e5)
BASE = BaseError.from_errors((np.random.default_rng(0).random(20_000) < 0.1).astype(int))


def test_delay_is_infinite_where_the_reference_cannot_tell_the_drop() -> None:
    few = BaseError.from_errors((np.random.default_rng(0).random(150) < 0.1).astype(int))
    assert delay(few, TIGHT, 2.5, 0.1) == float("inf")
    assert delay(BASE, TIGHT, 1.0, 0.1) == float("inf")  # below the tolerance
    assert delay(BASE, TIGHT, 5.0, 0.1) > delay(BASE, TIGHT, 10.0, 0.1) > 10

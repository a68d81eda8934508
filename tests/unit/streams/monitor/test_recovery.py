"""The recovery rule: what has to be ruled out, on how many labels, over how long."""

from __future__ import annotations

import numpy as np
import pytest

from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.recovery import (
    THRESHOLD,
    TOO_FEW,
    a_day,
    looking_down,
    short_of,
    shown,
)
from redistill.times import DAY, HOUR

BASE = BaseError.from_errors(np.tile([0] * 9 + [1], 2_000))  # 10%, at most 10.4%


def test_harm_has_to_be_ruled_out_from_halfway_down_to_it() -> None:
    down = looking_down(BASE, harmed=0.3, tolerance=0.01, share=1.0)
    assert down.null == pytest.approx((BASE.upper + 0.3) / 2)
    assert down.threshold == THRESHOLD == 1e4


def test_a_small_harm_has_to_be_ruled_out_down_to_the_tolerance() -> None:
    down = looking_down(BASE, harmed=0.11, tolerance=0.05, share=1.0)
    assert down.null == pytest.approx(BASE.upper + 0.05)


def test_recovery_needs_thirty_labels_and_an_interval_below_the_null() -> None:
    assert not shown(0, 29, 0.2)
    assert shown(0, 30, 0.2)
    assert not shown(3, 30, 0.2)
    assert shown(30, 300, 0.2)


def test_shortfall_is_shown_by_the_interval_not_by_the_estimate() -> None:
    assert not short_of(9, 60, 0.1)
    assert short_of(90, 600, 0.1)


def test_a_day_is_counted_back_from_the_newest_whatever_the_order() -> None:
    at = np.arange(1_000, dtype=np.int64) * HOUR // 10
    assert a_day(at) == 241 + 2 * TOO_FEW
    mixed = np.random.default_rng(0).permutation(300) * HOUR // 10
    assert a_day(mixed) <= 300
    assert a_day(at[:200]) == 201
    assert a_day(at[:0]) == 1


def test_clocks_that_are_wrong_make_no_day() -> None:
    at = np.arange(100, dtype=np.int64) * HOUR // 10
    at[60 : 60 + TOO_FEW] += 10 * DAY
    at[80 : 80 + TOO_FEW] -= 10 * DAY
    assert a_day(at) > 100

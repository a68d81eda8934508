"""Base errors: how they are measured, and that they can be stored."""

from __future__ import annotations

import numpy as np
import pytest

from redistill.stats import upper_bound
from redistill.streams.errors import StateError
from redistill.streams.monitor.base_error import SMALLEST_RATE, BaseError


def errors(n: int, rate: float = 0.1) -> np.ndarray:
    return (np.random.default_rng(0).random(n) < rate).astype(int)


def test_base_error_is_the_rate_with_its_upper_bound() -> None:
    base = BaseError.from_errors(errors(5_000))
    assert (base.n, base.errors, base.rate) == (5_000, errors(5_000).sum(), errors(5_000).mean())
    assert base.upper == upper_bound(base.errors, 5_000)
    assert base.rate < base.upper < base.rate + 0.01
    assert (base.ordered, base.provisional) == (True, False)


def test_a_model_without_errors_is_not_thought_perfect() -> None:
    base = BaseError.from_errors(np.zeros(100_000, int), provisional=True)
    assert (base.rate, base.upper) == (0.0, SMALLEST_RATE)
    assert base.provisional


def test_base_error_survives_json_and_refuses_newer() -> None:
    base = BaseError.from_errors(errors(500))
    assert BaseError.from_json(base.to_json()) == base
    with pytest.raises(StateError, match="format 2"):
        BaseError.from_json(base.to_json().replace('"format":1', '"format":2'))
    with pytest.raises(StateError, match="cannot be read"):
        BaseError.from_json("{}")


def test_base_error_refuses_what_is_no_error() -> None:
    with pytest.raises(ValueError, match="at least one"):
        BaseError.from_errors(np.array([]))
    with pytest.raises(ValueError, match=r"0 \(right\) or 1"):
        BaseError.from_errors(np.array([0, 2]))


def test_base_error_in_random_order_has_no_tempering() -> None:
    clumped = np.repeat([0, 1, 0, 0], 500)
    assert BaseError.from_errors(clumped, ordered=False).inflation == ((1.0, 1.0),)
    assert BaseError.from_errors(clumped).inflation[-1][1] > 5

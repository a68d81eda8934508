"""Rows that it takes to show that a model is as good as another."""

from __future__ import annotations

import numpy as np
import pytest

from redistill.compress.judge import intervals
from redistill.compress.judge.as_good import rows_to_show
from redistill.compress.judge.gates.trusted import ONE_SIDED


@pytest.mark.parametrize("differing", [0.0, 0.01, 0.05, 0.3, 1.0])
@pytest.mark.parametrize("margin", [0.005, 0.01, 0.02])
def test_it_is_the_first_number_of_rows_at_which_the_interval_shows_it(
    differing: float, margin: float
) -> None:
    n = rows_to_show(differing, margin)
    assert n is not None

    def low(n: int) -> float:
        half = n * differing / 2
        return intervals.paired_difference(half, half, n, confidence=ONE_SIDED)[0]

    assert low(n) > -margin >= low(n - 1)


def test_about_half_of_such_samples_pass_with_as_many_rows() -> None:
    rng = np.random.default_rng(0)
    n = rows_to_show(0.1, 0.02)
    assert n is not None
    draws = rng.multinomial(n, [0.05, 0.05, 0.9], size=400)
    passed = [
        intervals.paired_difference(w, x, n, confidence=ONE_SIDED)[0] > -0.02
        for w, x, _ in draws.tolist()
    ]
    assert 0.4 < np.mean(passed) < 0.6


def test_what_is_lost_takes_more_rows_and_the_margin_itself_none_shows() -> None:
    found = [rows_to_show(0.05, 0.01, lost=lost) for lost in (-0.01, 0.0, 0.005, 0.01)]
    assert found[-1] is None
    assert found[:-1] == sorted(found[:-1])  # type: ignore[type-var]
    assert rows_to_show(1.0, 1e-4) is None


@pytest.mark.parametrize(
    ("differing", "margin", "lost"), [(1.1, 0.1, 0), (0.1, 0, 0), (0.1, 0.1, 0.2)]
)
def test_what_is_no_share_is_refused(differing: float, margin: float, lost: float) -> None:
    with pytest.raises(ValueError, match="no shares"):
        rows_to_show(differing, margin, lost=lost)

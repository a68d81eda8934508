"""Recovery is declared on evidence only, and within tolerance only."""

from __future__ import annotations

import numpy as np
import pytest

from redistill.streams.monitor.base_error import BaseError
from redistill.workers.incidents.recovery import Recovery, judge


def outcomes(rate: float, n: int, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(n) < rate).astype(np.uint8)


BASE = BaseError.from_errors(np.tile([1] + [0] * 19, 50))  # 50 wrong of 1,000: 5%, at most 6.3%


def ask(errors: np.ndarray, *, harmed: float = 0.6) -> Recovery:
    return judge(
        errors, base=BASE, harmed=harmed, tolerance=0.02, share=0.1, labels_per_alarm=100_000
    )


def test_no_outcomes_say_nothing() -> None:
    verdict = ask(np.zeros(0, np.uint8))
    assert not verdict.recovered
    assert verdict.error is None


@pytest.mark.parametrize("seed", range(5))
def test_repaired_model_is_recovered_within_a_hundred_labels(seed: int) -> None:
    assert ask(outcomes(0.054, 100, seed)).recovered


def test_model_at_the_harmed_level_is_not_recovered_for_a_thousand_labels() -> None:
    recovered = [ask(outcomes(0.6, 1_000, seed)).recovered for seed in range(40)]
    assert sum(recovered) == 0


def test_half_recovered_model_is_rarely_called_recovered() -> None:
    recovered = [ask(outcomes(0.2, 400, seed)).recovered for seed in range(40)]
    assert sum(recovered) <= 4


def test_partly_recovered_model_stays_open_however_many_labels_come() -> None:
    verdict = ask(outcomes(0.25, 3_000, 3))
    assert not verdict.recovered
    assert verdict.level == pytest.approx(0.3315, abs=1e-3)
    assert verdict.error == pytest.approx(0.25, abs=0.03)


def test_small_harm_needs_more_labels_than_large() -> None:
    def needed(harmed: float) -> float:
        return float(np.median([ask(outcomes(0.05, 9_000, k), harmed=harmed).n for k in range(9)]))

    assert needed(0.6) < needed(0.1)

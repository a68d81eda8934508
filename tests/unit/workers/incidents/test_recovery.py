"""Recovery is declared on evidence only, and within tolerance only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from standing_harm import RISES, drawn, timed

from redistill.streams.monitor.base_error import BaseError
from redistill.times import DAY
from redistill.workers.incidents.recovery import Recovery, judge


def outcomes(rate: float, n: int, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(n) < rate).astype(np.uint8)


BASE = BaseError.from_errors(np.tile([1] + [0] * 19, 50))  # 50 wrong of 1,000: 5%, at most 6.3%


def ask(errors: np.ndarray, *, harmed: float = 0.6, base: BaseError = BASE) -> Recovery:
    at = timed(len(errors))
    return judge(errors, at, base=base, harmed=harmed, tolerance=0.02, share=0.1)


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


@pytest.mark.parametrize("rise", RISES, ids=lambda rise: f"{rise[0]:.0%}-{rise[1]:.0%}")
def test_version_that_is_as_bad_is_not_recovered(rise: tuple[float, float]) -> None:
    base = BaseError.from_errors(drawn("independent", np.full(20_000, rise[0]), 0))
    for seed in range(5):
        errors = drawn("independent", np.full(8_192, rise[1]), seed).astype(np.uint8)
        assert not judge(errors, timed(8_192), base=base, harmed=rise[1], tolerance=0.01).recovered


def test_recovery_needs_thirty_labels() -> None:
    assert not ask(np.zeros(29, np.uint8)).recovered
    assert ask(np.zeros(60, np.uint8)).n >= 30


def test_where_the_hour_matters_a_recovery_takes_a_day() -> None:
    night = timed(3_000) < DAY // 2
    errors = (np.random.default_rng(0).random(3_000) < np.where(night, 0.01, 0.02)).astype(np.uint8)
    daily = replace(BASE, daily=True)
    by_night = ask(errors[:700], base=daily)
    assert not by_night.recovered
    assert not by_night.short  # only the day is wanting
    assert ask(errors[:700], base=replace(BASE, daily=False)).recovered
    assert ask(errors, base=daily).recovered
    assert ask(errors, base=daily).n >= 1_440


def test_own_labels_tell_whether_the_hour_matters_where_the_reference_does_not() -> None:
    errors = drawn("daily +-60%", np.full(8_000, 0.05), 3).astype(np.uint8)
    assert BASE.daily is None
    assert ask(errors).n >= 1_440
    assert ask(drawn("independent", np.full(8_000, 0.05), 3).astype(np.uint8)).n < 500


def test_shortfall_is_told_once_it_is_shown() -> None:
    assert not ask(outcomes(0.09, 60, 3)).short
    assert ask(outcomes(0.25, 1_000, 3)).short

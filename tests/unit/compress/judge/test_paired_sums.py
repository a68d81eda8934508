"""Sums of paired rows: weights by effective numbers, bounds that hold for any bounded loss."""

from __future__ import annotations

import numpy as np
import pytest

from redistill.compress.judge import intervals, paired_sums
from redistill.compress.judge.paired_sums import PairedRows, Sums, rows_needed


def rows(lost: list[float], p: list[float] | None = None, name: str = "fresh") -> PairedRows:
    chances = None if p is None else np.array(p)
    return PairedRows(name=name, lost=np.array(lost), groups={}, p=chances)


def test_sums_of_two_samples_add_up() -> None:
    both = Sums.of([rows([1.0, -1.0, 0.0]), rows([1.0, 0.0], name="trusted")])
    assert (both.n, both.lost, both.won, both.loss) == (5.0, 2.0, 1.0, 0.2)
    assert both.bounds(0.9) == intervals.paired_difference(2, 1, 5, confidence=0.9)
    assert Sums.of([]).loss == 0.0
    assert Sums.of([]).below(0.1) == 0.0


def test_equal_weights_are_no_weights() -> None:
    plain, weighted = Sums.of([rows([1.0, 0.0])]), Sums.of([rows([1.0, 0.0], [0.5, 0.5])])
    assert (weighted.n, weighted.lost, weighted.won) == pytest.approx((plain.n, plain.lost, 0.0))


def test_a_rarely_drawn_row_counts_more_and_one_below_the_floor_not_at_all() -> None:
    found = Sums.of([rows([1.0, 0.0, -1.0], [0.1, 0.5, 0.01])])
    assert found.loss == pytest.approx(10 / 12)
    assert found.won == 0.0
    assert found.n == pytest.approx(12**2 / (10**2 + 2**2))


def test_the_confidence_that_a_loss_is_below_something_mirrors_the_bounds() -> None:
    found = Sums(n=80.0, lost=9.0, won=2.0)
    _, high = found.bounds(0.9)
    assert found.below(high) == pytest.approx(0.95, abs=1e-4)
    assert found.times(3.0) == Sums(n=240.0, lost=27.0, won=6.0)


def test_half_losses_are_bounded_no_more_narrowly_than_they_vary() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        lost = rng.choice([-0.5, 0.0, 0.5], 60, p=[0.1, 0.7, 0.2])
        low, high = Sums.of([rows(lost.tolist())]).bounds(0.9)
        hits += low <= 0.05 <= high
    assert hits >= 262  # 270 are expected at least; fewer have a probability of .05


def test_evidence_pools_rows_and_multiplies_where_they_were_drawn_unevenly() -> None:
    fresh, trusted = [1.0] * 8, [1.0] * 6
    pooled = paired_sums.evidence([rows(fresh), rows(trusted, name="trusted")])
    each = paired_sums.evidence([rows(fresh)]) * paired_sums.evidence([rows(trusted)])
    assert pooled > each
    drawn = rows(fresh, [0.5] * 8)
    apart = paired_sums.evidence([drawn, rows(trusted, name="trusted")])
    alone = paired_sums.evidence([drawn]) * paired_sums.evidence([rows(trusted)])
    assert apart == pytest.approx(alone)


@pytest.mark.parametrize("churn", [0.03, 0.1])
def test_rows_needed_show_that_an_equal_candidate_is_equal(churn: float) -> None:
    n = rows_needed(churn, 0.15, miss=0.05, confidence=0.95)
    rng = np.random.default_rng(1)
    draws = rng.multinomial(n, [churn / 2, churn / 2, 1 - churn], size=2_000)
    shown = [Sums(n=n, lost=a, won=b).below(0.15) >= 0.95 for a, b, _ in draws.tolist()]
    assert np.mean(shown) >= 0.93
    fewer = rng.multinomial(n // 2, [churn / 2, churn / 2, 1 - churn], size=2_000)
    few = [Sums(n=n // 2, lost=a, won=b).below(0.15) >= 0.95 for a, b, _ in fewer.tolist()]
    assert np.mean(few) < 0.93


def test_rows_needed_grow_with_churn_and_certainty() -> None:
    needed = [rows_needed(c, 0.15, miss=0.05, confidence=0.95) for c in (0.0, 0.03, 0.2, 0.5)]
    assert needed[0] == needed[1]
    assert needed[1:] == sorted(needed[1:])
    assert rows_needed(0.1, 0.15, miss=0.001, confidence=0.95) > needed[1]

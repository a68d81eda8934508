from __future__ import annotations

import numpy as np
import pytest

from redistill.compress.judge.domain import divide, tell_apart
from redistill.compress.plan import Measure


def rows(n: int, *, seed: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, 5))
    x[:, 0] = scale * x[:, 0] + shift
    return x


def test_unchanged_rows_are_told_apart_no_more_often_than_promised() -> None:
    found = [
        tell_apart(rows(200, seed=2 * k), rows(300, seed=2 * k + 1), seed=k) for k in range(60)
    ]
    apart = sum(d is not None and d.auc.low is not None and d.auc.low > 0.5 for d in found)
    assert apart <= 5  # 2.5% are promised


@pytest.mark.parametrize("change", [{"shift": 1.0}, {"scale": 3.0}])
def test_moved_and_spread_columns_are_both_seen(change: dict[str, float]) -> None:
    domain = tell_apart(rows(300, seed=1, **change), rows(400, seed=2), seed=3)
    assert domain is not None
    assert domain.auc.low is not None
    assert domain.auc.low > 0.6
    assert domain.fresh.mean() > 0.5 > domain.old.mean()


def test_few_rows_are_not_told_apart_and_many_are_drawn_from() -> None:
    assert tell_apart(rows(19, seed=1), rows(100, seed=2), seed=0) is None
    domain = tell_apart(rows(4_500, seed=1), rows(30, seed=2), seed=0)
    assert domain is not None
    assert np.isnan(domain.fresh).sum() == 500


def test_rows_of_a_new_kind_are_surely_fresh_and_the_others_as_likely_as_they_are() -> None:
    fresh = rows(600, seed=1)
    fresh[:200, 0] += 8.0
    domain = tell_apart(fresh, rows(600, seed=2), seed=3)
    assert domain is not None
    assert domain.fresh[:200].min() > 0.95
    assert domain.fresh[200:].mean() == pytest.approx(0.4, abs=0.06)  # 400 against 600


def lost(points: float) -> Measure:
    return Measure(value=points, low=points - 2, high=points + 2, n=400)


def test_loss_at_the_same_inputs_is_told_from_loss_at_moved_ones() -> None:
    fresh, old = rows(400, seed=1, shift=1.5), rows(800, seed=2)
    domain = tell_apart(fresh, old, seed=3)
    assert domain is not None
    labelled, before = np.ones(400, bool), np.ones(800, bool)
    elsewhere = divide(domain, (labelled, fresh[:, 0] < 2.0), before, lost(30.0))
    assert elsewhere is not None
    assert elsewhere.moved_inputs.low is not None
    assert elsewhere.moved_inputs.low > 10.0
    everywhere = np.random.default_rng(4).random(400) > 0.3
    same = divide(domain, (labelled, everywhere), before, lost(30.0))
    assert same is not None
    assert same.same_inputs.low is not None
    assert same.same_inputs.low > 15.0
    assert same.same_inputs.value + same.moved_inputs.value == pytest.approx(30.0)


def test_loss_is_not_divided_where_nothing_is_shared() -> None:
    fresh, old = rows(200, seed=1, shift=40.0), rows(200, seed=2)
    domain = tell_apart(fresh, old, seed=3)
    assert domain is not None
    right = np.ones(200, bool)
    some = divide(domain, (right, right), right, lost(1.0))
    assert some is None or some.effective < 200
    few = np.arange(200) < 5
    assert divide(domain, (few, right[:5]), right, lost(1.0)) is None

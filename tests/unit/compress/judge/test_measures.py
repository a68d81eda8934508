from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from redistill.compress.judge import measures
from redistill.stats import clopper_pearson


def test_a_comparison_counts_rows_by_who_was_better() -> None:
    c = measures.comparison(np.array([0.5, -1.0, 0.0, 0.0]))
    assert (c.wins, c.losses, c.ties) == (1, 1, 2)


def test_accuracy_is_of_the_rows_that_have_a_label() -> None:
    labels, answers = np.array([0, 0, 1, -1]), np.array([0, 0, 0, 0])
    found = measures.accuracy(answers, labels)
    assert found is not None
    assert (found.value, found.n) == (pytest.approx(2 / 3), 3)
    assert (found.low, found.high) == pytest.approx(clopper_pearson(2, 3))
    assert measures.accuracy(answers, np.full(4, -1)) is None


def test_macro_f1_counts_rare_classes_as_much_as_common_ones() -> None:
    labels = np.array([0] * 98 + [1] * 2)
    assert measures.macro_f1(np.zeros(100, np.int64), labels, 2) == pytest.approx(
        0.5 * 2 * 98 / 198
    )


def test_macro_f1_counts_an_answer_that_is_no_class_as_wrong() -> None:
    labels = np.array([0, 0, 1, 1])
    assert measures.macro_f1(np.array([-1, 0, 1, -1]), labels, 2) == pytest.approx(2 / 3)


def test_f1_difference_is_zero_with_a_zero_interval_for_equal_models() -> None:
    y = np.random.default_rng(0).integers(0, 3, 300)
    m = measures.f1_difference(y, y, y, 3, seed=0)
    assert (m.value, m.low, m.high) == (0.0, 0.0, 0.0)


def test_f1_difference_has_an_interval_around_a_real_loss() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 600)
    worse = np.where(rng.random(600) < 0.2, (y + 1) % 3, y)
    m = measures.f1_difference(worse, y, y, 3, seed=0)
    assert m.low is not None
    assert m.high is not None
    assert m.low < m.value < m.high < -0.1


def test_domain_auc_is_half_for_one_domain_and_one_for_two() -> None:
    rng = np.random.default_rng(0)
    same = measures.domain_auc(rng.normal(size=(400, 8)), rng.normal(size=(300, 8)), seed=0)
    apart = measures.domain_auc(rng.normal(size=(400, 8)) + 2, rng.normal(size=(300, 8)), seed=0)
    assert same.value == pytest.approx(0.5, abs=0.06)
    assert apart.value > 0.99


def test_domain_auc_covers_one_half_where_there_is_one_domain() -> None:
    hits = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        m = measures.domain_auc(rng.normal(size=(200, 6)), rng.normal(size=(200, 6)), seed=seed)
        assert m.low is not None
        assert m.high is not None
        hits += m.low < 0.5 < m.high
    assert hits >= 54


def test_domain_auc_equals_the_rank_statistic_when_one_column_says_it_all() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.normal(0.7, 1, (500, 1)), rng.normal(0, 1, (500, 1))
    expected = stats.mannwhitneyu(a[:, 0], b[:, 0]).statistic / (500 * 500)
    assert measures.domain_auc(a, b, seed=0).value == pytest.approx(expected, abs=0.03)


def test_domain_auc_of_constant_rows_is_half() -> None:
    m = measures.domain_auc(np.ones((50, 3)), np.ones((50, 3)), seed=0)
    assert m.value == 0.5


def test_f1_difference_tells_every_kind_of_row_apart() -> None:
    """Also where a model gave no answer."""
    rng = np.random.default_rng(3)
    y, a, b = rng.integers(0, 4, 500), rng.integers(-1, 4, 500), rng.integers(-1, 4, 500)
    found = measures.f1_difference(a, b, y, 4, seed=0, rounds=100)
    each = []
    for seed in range(100):
        rows = np.random.default_rng(seed).integers(0, 500, 500)
        each.append(measures.macro_f1(a[rows], y[rows], 4) - measures.macro_f1(b[rows], y[rows], 4))
    low, high = np.quantile(each, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from redistill.compress.judge import measures
from redistill.stats import paired_e_value


def test_rows_to_decide_is_where_the_e_value_crosses() -> None:
    need = measures.rows_to_decide(8, 4, 38, threshold=100.0)
    assert need is not None
    at, before = need / 50, (need - 1) / 50
    assert paired_e_value(8 * at, 4 * at)[0] >= 100.0
    assert paired_e_value(8 * before, 4 * before)[0] < 100.0


def test_compare_leaves_unlabelled_rows_out() -> None:
    labels = np.array([0, 1, 2, -1, 1])
    c = measures.compare(np.array([0, 1, 0, 0, 0]), np.array([0, 0, 2, 1, 0]), labels)
    assert (c.wins, c.losses, c.ties) == (1, 1, 2)


def test_accuracy_weights_rows_by_how_rarely_they_were_labelled() -> None:
    labels, answers = np.array([0, 0, 1, -1]), np.array([0, 0, 0, 0])
    plain = measures.accuracy(answers, labels)
    weighted = measures.accuracy(answers, labels, np.array([1.0, 1.0, 2.0, 1.0]))
    assert plain is not None
    assert weighted is not None
    assert (plain.value, plain.n) == (pytest.approx(2 / 3), 3)
    assert weighted.value == pytest.approx(0.5)
    assert weighted.high - weighted.low > plain.high - plain.low
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


def test_slice_losses_put_the_worst_first_and_skip_small_slices() -> None:
    y = np.zeros(200, np.int64)
    was = y.copy()
    now = y.copy()
    now[:30] = 1
    groups = {
        "region=EU": np.arange(200) < 100,
        "region=US": np.arange(200) >= 100,
        "region=IS": np.arange(200) < 20,
    }
    losses = measures.slice_losses(now, was, y, groups, min_rows=50)
    assert [(s.name, s.n, s.loss) for s in losses] == [
        ("region=EU", 100, 0.3),
        ("region=US", 100, 0.0),
    ]
    low, high = losses[0].bounds(0.95)
    assert 0.2 < low < 0.3 < high < 0.41


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

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from redistill.compress.judge.betting import e_value
from redistill.compress.judge.pairs import auc_differences, disjoint_pairs
from redistill.stats import upper_bound

Array = NDArray[np.float64]
Weigh = Callable[[Array], Array | None]


def rows_of(
    rng: np.random.Generator, n: int, classes: int
) -> tuple[NDArray[np.int64], NDArray[np.uint64], Array]:
    """Classes, hashes, and probabilities that know a little of the classes."""
    truth = rng.integers(0, classes, n)
    logits = rng.normal(0, 1, (n, classes))
    logits[np.arange(n), truth] += 1.0
    powers = np.exp(logits)
    hashes = rng.integers(0, 2**63, n).astype(np.uint64)
    return truth, hashes, powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_no_row_is_in_two_pairs_and_every_two_classes_meet_equally_often(classes: int) -> None:
    truth, hashes, _ = rows_of(np.random.default_rng(0), 400, classes)
    pairs = disjoint_pairs(truth, classes, hashes)
    assert len(np.unique(pairs)) == pairs.size
    met = np.stack([truth[pairs[:, 0]], truth[pairs[:, 1]]], axis=1)
    _, often = np.unique(met, axis=0, return_counts=True)
    assert (met[:, 0] < met[:, 1]).all()
    assert len(often) == classes * (classes - 1) // 2
    assert len(set(often)) == 1
    assert often[0] == np.bincount(truth).min() // (classes - 1)


@pytest.mark.parametrize("classes", [2, 4])
def test_a_later_look_leaves_the_pairs_of_the_earlier_ones_as_they_are(classes: int) -> None:
    rng = np.random.default_rng(1)
    truth, hashes, _ = rows_of(rng, 300, classes)
    look = np.arange(300) // 25
    before = 0
    for last in range(12):
        seen = look <= last
        pairs = disjoint_pairs(truth[seen], classes, hashes[seen], look=look[seen])
        earlier = disjoint_pairs(
            truth[look < last], classes, hashes[look < last], look=look[look < last]
        )
        assert (pairs[: len(earlier)] == earlier).all()
        assert len(pairs) >= before
        before = len(pairs)
    assert before > 80


def test_without_looks_new_rows_would_take_old_pairs_apart() -> None:
    """What looks are for: by hash alone the same rows pair otherwise once there are more."""
    truth, hashes, _ = rows_of(np.random.default_rng(1), 300, 2)
    few, all_rows = disjoint_pairs(truth[:150], 2, hashes[:150]), disjoint_pairs(truth, 2, hashes)
    assert (few != all_rows[: len(few)]).any()


def test_the_order_in_which_rows_are_given_changes_no_pair() -> None:
    rng = np.random.default_rng(2)
    truth, hashes, a = rows_of(rng, 200, 3)
    b, look = rng.random((200, 3)), np.arange(200) // 25
    turned = rng.permutation(200)
    given = auc_differences(a, b, truth, hashes, look=look)
    moved = auc_differences(a[turned], b[turned], truth[turned], hashes[turned], look=look[turned])
    assert (given == moved).all()


def test_mean_over_pairs_is_the_area_of_two_classes() -> None:
    rng = np.random.default_rng(3)
    truth, _, a = rows_of(rng, 300, 2)
    b = rng.random((300, 2))
    exact = roc_auc_score(truth, a[:, 1] - a[:, 0]) - roc_auc_score(truth, b[:, 1] - b[:, 0])
    means = [
        auc_differences(a, b, truth, rng.integers(0, 2**63, 300)).mean() for _ in range(200)
    ]  # fmt: skip
    assert np.mean(means) == pytest.approx(exact, abs=4 * np.std(means) / math.sqrt(200))


def test_mean_over_pairs_is_hand_and_tills_area_of_many_classes() -> None:
    rng = np.random.default_rng(4)
    truth, _, a = rows_of(rng, 300, 4)
    flat = np.full((300, 4), 0.25)
    exact = roc_auc_score(truth, a, multi_class="ovo", average="macro") - 0.5
    means = [
        auc_differences(a, flat, truth, rng.integers(0, 2**63, 300)).mean() for _ in range(200)
    ]
    assert np.mean(means) == pytest.approx(exact, abs=4 * np.std(means) / math.sqrt(200))


def test_ties_count_half_and_one_column_is_the_second_class() -> None:
    truth, hashes = [0, 1, 0, 1, 0, 1], [1, 1, 2, 2, 3, 3]
    one = np.array([0.3, 0.3, 0.2, 0.9, 0.8, 0.1])
    found = auc_differences(one, np.array([0.1, 0.5, 0.5, 0.5, 0.9, 0.1]), truth, hashes)
    assert found.tolist() == [-0.5, 0.5, 0.0]
    two = np.stack([1 - one, one], axis=1)
    assert auc_differences(two, one[:, None] * 0, truth, hashes).tolist() == [0.0, 0.5, -0.5]


def test_a_pair_of_many_classes_is_ordered_by_the_scores_of_both() -> None:
    truth, hashes = [0, 0, 1, 1, 2, 2], [0, 1, 2, 3, 4, 5]
    assert disjoint_pairs(truth, 3, hashes).tolist() == [[0, 2], [1, 4], [3, 5]]
    a = np.array([[6, 3, 1], [2, 3, 5], [5, 1, 4], [1, 8, 1], [3, 3, 4], [1, 2, 7]]) / 10
    # class 0 orders rows 0 and 2, class 1 does not; neither orders 1 and 4; both order 3 and 5
    assert auc_differences(a, a * 0, truth, hashes).tolist() == [0.0, -0.5, 0.5]


def test_a_class_without_rows_makes_no_pairs() -> None:
    truth, hashes, a = rows_of(np.random.default_rng(5), 50, 3)
    assert auc_differences(a, a, np.minimum(truth, 1), hashes).shape == (0,)
    assert disjoint_pairs([], 2, []).shape == (0, 2)


def test_what_does_not_fit_is_refused() -> None:
    truth, hashes, a = rows_of(np.random.default_rng(6), 10, 3)
    spoilt = a.copy()
    spoilt[4, 1] = math.nan
    with pytest.raises(ValueError, match=r"scores_b\[4\]"):
        auc_differences(a, spoilt, truth, hashes)
    with pytest.raises(ValueError, match=r"\(10, 3\) and \(9, 3\)"):
        auc_differences(a, a[:9], truth, hashes)
    with pytest.raises(ValueError, match=r"0\.\.2"):
        auc_differences(a, a, truth + 2, hashes)
    with pytest.raises(ValueError, match="two classes"):
        disjoint_pairs([0], 1, [1])
    with pytest.raises(ValueError, match="9 hashes"):
        disjoint_pairs(truth, 3, hashes[:9])


def binormal(rng: np.random.Generator, shift: float) -> tuple[Array, Array, NDArray[np.int64]]:
    """Scores of two models that share half of their noise, the first moved up by ``shift`` on the
    positives."""
    truth = (rng.random(1_500) < 0.3).astype(np.int64)
    shared, own = rng.normal(0, 0.7, 1_500), rng.normal(0, 0.7, (2, 1_500))
    a, b = (shared + own[i] + truth * (1.0 + (shift if i == 0 else 0.0)) for i in range(2))
    return a, b, truth


def reaches(runs: int, shift: float, *, least: float, weigh: Weigh) -> int:
    """Runs in which the e-value of the pairs reaches 200 at one of ten looks. All rows are labelled
    that the first model is right about, and a share ``least`` of the others."""
    rng = np.random.default_rng(8)
    hits = 0
    for _ in range(runs):
        a, b, truth = binormal(rng, shift)
        p = np.where((a > 0.5) == (truth == 1), 1.0, least)
        here = rng.random(len(a)) < p
        a, b, truth, p = a[here], b[here], truth[here], p[here]
        look, hashes = np.arange(len(a)) * 10 // len(a), rng.integers(0, 2**63, len(a))
        for last in range(10):
            n = int(np.searchsorted(look, last, side="right"))
            rows = truth[:n], hashes[:n]
            d = auc_differences(a[:n], b[:n], *rows, look=look[:n])
            pairs = disjoint_pairs(rows[0], 2, rows[1], look=look[:n])
            if e_value(d, p=weigh(p[:n][pairs])).e >= 200.0:
                hits += 1
                break
    return hits


def both(p: Array) -> Array:
    """A pair is labelled if both of its rows are."""
    product: Array = p.prod(axis=1)
    return product


def nobody(_: Array) -> None:
    """Rows count once each."""


def test_a_larger_area_is_found() -> None:
    assert reaches(60, 0.6, least=1.0, weigh=nobody) >= 54


def test_an_equal_area_is_not_accepted_over_looks_and_under_sampling() -> None:
    assert upper_bound(reaches(300, 0.0, least=1.0, weigh=nobody), 300) <= 0.01
    assert upper_bound(reaches(300, 0.0, least=0.25, weigh=both), 300) <= 0.01


def test_an_equal_area_would_be_accepted_if_sampled_rows_were_not_weighted() -> None:
    assert reaches(20, 0.0, least=0.25, weigh=nobody) >= 10

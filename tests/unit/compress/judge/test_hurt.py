"""Hurt groups: a rare class that loses is seen, an equal candidate is not refused nor kept waiting."""

from __future__ import annotations

import numpy as np
import pytest

from redistill.compress.judge import hurt
from redistill.compress.judge.hurt import Terms
from redistill.compress.judge.paired_sums import PairedRows

NAMES = ("class=a", "class=b")
WAITS = Terms(reach=4_000)


def rows(
    name: str, *, rare: tuple[int, int, int], others: tuple[int, int, int] = (0, 0, 0)
) -> PairedRows:
    """Rows of ``class=a`` and ``class=b``, each lost, won and neither."""
    lost = [np.repeat([1.0, -1.0, 0.0], counts) for counts in (rare, others)]
    of_a = np.arange(sum(rare) + sum(others)) < sum(rare)
    return PairedRows(
        name=name, lost=np.concatenate(lost), groups={"class=a": of_a, "class=b": ~of_a}
    )


def drawn(
    n: int, *, rare: tuple[float, float], others: tuple[float, float], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Losses of ``n`` rows, and which are of the rare class, one in 51."""
    rng = np.random.default_rng(seed)
    of_a, u = rng.random(n) < 1 / 51, rng.random(n)
    lost, won = (np.where(of_a, rare[i], others[i]) for i in (0, 1))
    return (u < lost) * 1.0 - ((u >= lost) & (u < lost + won)), of_a


def decided(seed: int, *, rare: tuple[float, float], others: tuple[float, float]) -> str:
    """What comes of 1,000 trusted and up to 3,000 fresh rows, looked at each 100 from 300 on, where
    every other gate would have accepted at each look."""
    d, of_a = drawn(4_000, rare=rare, others=others, seed=seed)
    for n in range(1_300, 4_001, 100):
        samples = [
            PairedRows(
                name=name, lost=d[part], groups={"class=a": of_a[part], "class=b": ~of_a[part]}
            )
            for name, part in (("trusted", slice(0, 1_000)), ("fresh", slice(1_000, n)))
        ]
        verdicts = {g.verdict for g in hurt.judge(samples, NAMES, WAITS)}
        if "harmed" in verdicts:
            return "refused"
        if "open" not in verdicts:
            return "accepted"
    return "open"


def test_a_rare_class_that_loses_twenty_points_is_not_accepted() -> None:
    found = [decided(s, rare=(0.23, 0.03), others=(0.015, 0.015)) for s in range(60)]
    assert found.count("accepted") <= 7  # of 60 at 5%: more than 7 have a probability of .02
    assert found.count("open") <= 18  # at 20%
    assert found.count("refused") >= 40


def test_an_equal_candidate_is_accepted() -> None:
    found = [decided(s, rare=(0.03, 0.03), others=(0.015, 0.015)) for s in range(40)]
    assert found.count("refused") <= 1
    assert found.count("accepted") >= 36


def test_a_loss_on_new_rows_is_not_hidden_by_many_old_ones() -> None:
    fresh = rows("fresh", rare=(20, 1, 60), others=(0, 0, 300))
    trusted = rows("trusted", rare=(0, 10, 500), others=(0, 0, 300))
    worst = hurt.judge([fresh, trusted], NAMES, Terms())[0]
    assert (worst.name, worst.verdict, worst.where, worst.n) == ("class=a", "harmed", "fresh", 81)
    assert worst.low > 0.05
    assert worst.e_value >= worst.threshold


def test_few_rows_of_both_samples_are_judged_together() -> None:
    part = rows("fresh", rare=(6, 0, 20), others=(0, 0, 500))
    alone = hurt.judge([part], NAMES, WAITS)[0]
    assert (alone.name, alone.verdict) == ("class=a", "open")
    other = rows("trusted", rare=(6, 0, 20), others=(0, 0, 500))
    both = hurt.judge([part, other], NAMES, WAITS)[0]
    assert (both.verdict, both.where, both.n) == ("harmed", "all", 52)


@pytest.mark.parametrize(("lost", "then"), [(1, "within"), (4, "harmed")])
def test_an_open_group_says_how_many_rows_would_decide(lost: int, then: str) -> None:
    def found(k: float) -> hurt.GroupLoss:
        of_a = (round(lost * k), 0, round((20 - lost) * k))
        return hurt.judge([rows("fresh", rare=of_a, others=(0, 0, round(980 * k)))], NAMES, WAITS)[
            0
        ]

    worst = found(1.0)
    assert (worst.name, worst.verdict) == ("class=a", "open")
    assert worst.need is not None
    k = worst.need / 1_000
    assert found(1.25 * k).verdict == then
    assert found(0.7 * k).verdict == "open"


def test_a_group_too_small_for_the_rows_within_reach_blocks_nobody() -> None:
    tiny = rows("fresh", rare=(0, 0, 1), others=(0, 0, 3_500))
    found = {g.name: g for g in hurt.judge([tiny], NAMES, WAITS)}
    assert found["class=a"].verdict == "unsettled"
    assert found["class=b"].verdict == "within"
    none_come = hurt.judge([rows("fresh", rare=(0, 0, 6), others=(0, 0, 300))], NAMES, Terms())
    assert {g.name: g.verdict for g in none_come}["class=a"] == "unsettled"


def test_small_groups_are_judged_together_each_row_once() -> None:
    n = 400
    lost = np.zeros(n)
    lost[:60:3] = 1.0
    small = {f"r={k}": np.arange(n) // 10 == k for k in range(6)}
    again = {f"s={k}": np.arange(n) // 10 == k for k in range(6)}  # the same rows by another key
    rest = {"r=rest": np.arange(n) >= 60}
    sample = PairedRows(name="trusted", lost=lost, groups=small | again | rest)
    found = hurt.judge([sample], list(sample.groups), Terms())
    assert [(g.name, g.verdict, g.n) for g in found] == [
        ("12 small groups together", "harmed", 60), ("r=rest", "within", 340),
    ]  # fmt: skip


def test_the_error_is_divided_among_the_groups() -> None:
    lost = np.zeros(4_000)
    lost[:7] = 1.0
    alone = {"r=0": np.arange(4_000) < 100}
    many = {f"r={k}": np.arange(4_000) // 100 == k for k in range(40)}
    one = PairedRows(name="trusted", lost=lost, groups=alone)
    all_ = PairedRows(name="trusted", lost=lost, groups=many)
    first = hurt.judge([one], list(alone), Terms())[0]
    among = hurt.judge([all_], list(many), Terms())[0]
    assert (first.threshold, among.threshold) == pytest.approx((20.0, 800.0))
    assert (first.verdict, among.verdict) == ("harmed", "within")
    assert first.low > among.low


def test_a_small_loss_that_is_no_accident_harms_nobody() -> None:
    many = rows("trusted", rare=(300, 100, 9_600), others=(0, 0, 10_000))
    worst = hurt.judge([many], NAMES, Terms())[0]
    assert worst.e_value > worst.threshold
    assert (worst.name, worst.verdict, round(worst.loss, 3)) == ("class=a", "within", 0.02)


def test_confidence_below_the_limit_is_told() -> None:
    few = hurt.judge([rows("fresh", rare=(1, 0, 39), others=(0, 0, 400))], NAMES, Terms())[0]
    many = hurt.judge([rows("fresh", rare=(10, 0, 390), others=(0, 0, 400))], NAMES, Terms())[0]
    assert 0.5 < few.below < 0.9 < many.below


def test_nothing_is_found_without_rows_or_groups() -> None:
    empty = PairedRows(name="fresh", lost=np.empty(0), groups={})
    assert hurt.judge([empty], NAMES, WAITS) == ()
    assert hurt.judge([], NAMES, WAITS) == ()
    assert hurt.judge([rows("fresh", rare=(0, 0, 9))], (), WAITS) == ()

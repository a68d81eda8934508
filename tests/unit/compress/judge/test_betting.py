from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from redistill.compress.judge.betting import (
    STRONG,
    W_MAX,
    Bet,
    e_value,
    e_values,
    rows_to_decide,
)
from redistill.stats import clopper_pearson, upper_bound

Array = NDArray[np.float64]

P_MIN = 1 / W_MAX
DIFFERENCES = st.lists(st.floats(-1, 1), max_size=30)
LIMITS = st.floats(-0.9, 0.9)
PROBABILITIES = st.floats(P_MIN, 1)
LOOK = 25
"""Rows between two looks at the e-value."""


def rows(wins: int, losses: int, ties: int) -> Array:
    """Differences of rows that were won, lost, and neither."""
    return np.repeat([1.0, -1.0, 0.0], [wins, losses, ties])


# -- what a bet is ---------------------------------------------------------------------------------


def test_a_bet_on_nothing_is_worth_what_was_staked() -> None:
    bet = e_value([])
    assert isinstance(bet, Bet)
    assert (bet.n, bet.effective_n, bet.left_out, bet.missing) == (0, 0.0, 0, 0)
    assert (bet.e, bet.e_missing) == pytest.approx((1.0, 1.0))


def test_e_value_has_known_values() -> None:
    assert [e_value(np.ones(n)).e for n in (9, 10, 11)] == pytest.approx(
        [99.3, 185.0, 347.4], abs=0.1
    )
    assert e_value(rows(45, 15, 140)).e == pytest.approx(558.7, abs=0.1)
    assert e_value(rows(15, 45, 140)).e < 0.2


@given(DIFFERENCES, st.randoms(use_true_random=False), LIMITS)
def test_order_of_the_rows_leaves_no_trace(d: list[float], random, above: float) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(d)
    random.shuffle(shuffled)
    assert e_value(shuffled, above=above) == e_value(d, above=above)


@given(DIFFERENCES, st.floats(-1, 1), st.floats(0, 1), LIMITS, PROBABILITIES)
def test_e_value_rises_with_each_difference(
    d: list[float], last: float, step: float, above: float, p: float
) -> None:
    higher = min(1.0, last + step)
    chances = [p] * (len(d) + 1)
    low = e_value([*d, last], above=above, p=chances)
    high = e_value([*d, higher], above=above, p=chances)
    assert high.e >= low.e * (1 - 1e-9)


@given(DIFFERENCES, LIMITS, st.floats(0.01, 1))
def test_e_value_falls_with_the_limit(d: list[float], above: float, step: float) -> None:
    assert e_value(d, above=min(0.95, above + step)).e <= e_value(d, above=above).e * (1 + 1e-9)


@given(DIFFERENCES, LIMITS, st.floats(0, 1))
def test_the_next_row_cannot_be_expected_to_gain_when_its_mean_is_the_limit(
    d: list[float], above: float, spread: float
) -> None:
    """The supermartingale itself, exactly: one more row at limit + or - h, evenly."""
    h = spread * (1 - abs(above))
    now = e_value(d, above=above).e
    after = [e_value([*d, x], above=above).e for x in (above - h, above + h)]
    assert sum(after) / 2 == pytest.approx(now, rel=1e-9)


@given(st.lists(st.tuples(st.floats(-1, 1), PROBABILITIES), max_size=20), PROBABILITIES, PROBABILITIES)  # fmt: skip
def test_rows_without_labels_need_not_be_counted(
    rows: list[tuple[float, float]], p_win: float, p_loss: float
) -> None:
    """One more row of traffic wins or loses evenly, and is labelled with a probability that hangs on
    which of both; unlabelled, it changes nothing."""
    d, p = [row[0] for row in rows], [row[1] for row in rows]
    now = e_value(d, p=p).e
    expected = 0.0
    for x, chance in ((1.0, p_win), (-1.0, p_loss)):
        labelled = e_value([*d, x], p=[*p, chance]).e
        expected += 0.5 * (chance * labelled + (1 - chance) * now)
    assert expected == pytest.approx(now, rel=1e-9)


def test_many_different_rows_are_worth_what_single_ones_are() -> None:
    rng = np.random.default_rng(3)
    d, p = rng.uniform(-0.8, 1, 9_000), rng.uniform(P_MIN, 1, 9_000)
    by_hand = np.zeros(43)
    stakes = np.concatenate([np.geomspace(0.01, 0.09, 9), np.geomspace(0.1, 0.98, 33), [0.95]])
    shares = np.concatenate([np.full(9, 0.04 / 9), np.full(33, 0.84 / 33), [0.12]])
    for row, chance in zip(d, p, strict=True):
        by_hand += np.log1p(stakes * (row - 0.07) / 1.07 / chance / 20)
    expected = math.log(np.exp(by_hand) @ shares)
    assert math.log(e_value(d, above=0.07, p=p).e) == pytest.approx(expected, rel=1e-9)


def test_e_value_is_capped_where_floats_end() -> None:
    assert e_value(rows(100_000, 10, 0)).e == math.exp(700.0)
    assert e_value(rows(10, 100_000, 0)).e == 0.0
    assert e_value(np.ones(2_000)).e == math.exp(700.0)


# -- weights and missing answers -------------------------------------------------------------------


def test_rows_below_the_floor_are_left_out_and_counted() -> None:
    with_rare = e_value([0.5, 1.0, -1.0, -1.0], p=[0.5, 0.049, 0.001, 0.05])
    assert (with_rare.n, with_rare.left_out) == (2, 2)
    assert with_rare.e == e_value([0.5, -1.0], p=[0.5, 0.05]).e


def test_a_product_of_rates_that_falls_short_of_the_floor_by_rounding_enters() -> None:
    bet = e_value([1.0], p=[np.nextafter(P_MIN, 0)])
    assert (bet.n, bet.left_out) == (1, 0)
    assert bet.e == e_value([1.0], p=[P_MIN]).e


def test_a_smaller_largest_weight_leaves_out_more_rows_and_stakes_more() -> None:
    d, p = [1.0] * 12 + [-1.0], [0.5] * 12 + [0.2]
    bet = e_value(d, p=p, w_max=2.0)
    assert (bet.n, bet.left_out) == (12, 1)
    assert bet.e == pytest.approx(e_value([1.0] * 12).e)
    assert bet.e > 20 * e_value(d[:12], p=p[:12]).e
    assert rows_to_decide([1.0], 200.0, p=[0.5], w_max=2.0) == 11
    with pytest.raises(ValueError, match="w_max"):
        e_value(d, p=p, w_max=20.5)


def test_effective_n_is_kishs() -> None:
    assert e_value([0.0] * 8, p=[0.25] * 8).effective_n == pytest.approx(8)
    assert e_value([0.0, 0.0], p=[1.0, 0.1]).effective_n == pytest.approx(121 / 101)
    assert e_value([0.0] * 7).effective_n == 7


def test_missing_answers_are_the_worst_that_they_can_be() -> None:
    d, p = [1.0, 0.5, -0.2], [0.5, 0.5, 0.1]
    bet = e_value(d, p=p, missing=[0.2, 0.04, 0.5])
    assert bet.missing == 2
    assert bet.e == e_value(d, p=p).e
    assert bet.e_missing == e_value([*d, -1, -1], p=[*p, 0.2, 0.5]).e < bet.e
    assert e_value(d, p=p).e_missing == e_value(d, p=p).e
    assert e_value(d, missing=[0.2]).e_missing == e_value([*d, -1]).e


@given(DIFFERENCES, st.lists(st.floats(-1, 1), max_size=5), PROBABILITIES)
def test_whatever_was_missing_the_whole_bet_is_worth_at_least_as_much(
    d: list[float], unseen: list[float], p: float
) -> None:
    bet = e_value(d, p=[p] * len(d), missing=[p] * len(unseen))
    whole = e_value([*d, *unseen], p=[p] * (len(d) + len(unseen)))
    assert whole.e >= bet.e_missing * (1 - 1e-9)


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.001, 1.001])
def test_a_difference_out_of_range_is_refused_with_its_row(bad: float) -> None:
    with pytest.raises(ValueError, match=r"d\[2\] is .*-1\.\.1"):
        e_value([0.0, 1.0, bad])
    with pytest.raises(ValueError, match=r"d\[0\]"):
        rows_to_decide([bad], 200.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, 0.0, -0.1, 1.001])
def test_a_probability_out_of_range_is_refused_with_its_row(bad: float) -> None:
    with pytest.raises(ValueError, match=r"p\[1\] is"):
        e_value([0.0, 1.0], p=[1.0, bad])
    with pytest.raises(ValueError, match=r"missing\[1\] is"):
        e_value([0.0], p=[1.0], missing=[1.0, bad])


@pytest.mark.parametrize("bad", [math.nan, -1.0, 1.0])
def test_a_limit_that_no_mean_can_pass_or_miss_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="above is"):
        e_value([0.0], above=bad)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="2 differences, but 1 probabilities"):
        e_value([0.0, 1.0], p=[1.0])
    with pytest.raises(ValueError, match="one number a row"):
        e_value([[0.0, 1.0]])


# -- rows to decide --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wins", "losses", "ties", "above"), [(7, 5, 28, 0.0), (0, 0, 10, -0.02), (9, 0, 0, 0.3)]
)
def test_rows_to_decide_is_the_first_multiple_of_the_mix_that_decides(
    wins: int, losses: int, ties: int, above: float
) -> None:
    d = rows(wins, losses, ties)
    wanted = rows_to_decide(d, 200.0, above=above)
    assert wanted is not None
    before, after = wanted // len(d), -(-wanted // len(d))
    assert e_value(np.tile(d, after), above=above).e >= 200.0
    assert e_value(np.tile(d, before), above=above).e <= 200.0 * 1.2


def test_rows_to_decide_counts_the_rows_that_are_there_and_those_left_out() -> None:
    plain = rows_to_decide([1.0, 1.0, -0.5], 200.0, p=[0.5] * 3)
    assert plain is not None
    halved = rows_to_decide([1.0, 1.0, -0.5] * 2, 200.0, p=[0.5] * 3 + [0.01] * 3)
    assert halved in range(2 * plain - 2, 2 * plain + 1)
    assert e_value([1.0] * 20).e >= 200.0
    assert rows_to_decide([1.0] * 20, 200.0) == rows_to_decide([1.0], 200.0) == 11


@pytest.mark.parametrize(
    "d",
    [[], [1.0, -1.0], [-0.1] * 50, [1.0] * 500 + [-1.0] * 499 + [0.0] * 1000],
    ids=["no rows", "even", "the wrong way", "too near to even"],
)
def test_rows_to_decide_is_none_where_no_number_of_labels_would_do(d: list[float]) -> None:
    assert rows_to_decide(d, 200.0) is None


@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(0.01, 1)), max_size=30),
    st.lists(st.integers(0, 30)),
    LIMITS,
    st.booleans(),
)
def test_many_looks_see_what_each_alone_would(
    rows: list[tuple[float, float]], looks: list[int], above: float, weighted: bool
) -> None:
    d, chances = [r[0] for r in rows], [r[1] for r in rows]
    at = sorted(min(n, len(d)) for n in looks)
    each = [e_value(d[:n], above=above, p=chances[:n] if weighted else None).e for n in at]
    found = e_values(d, at, above=above, p=chances if weighted else None)
    assert found.tolist() == pytest.approx(each)


@pytest.mark.parametrize("looks", [[2, 1], [4], [-1, 2]])
def test_looks_that_are_no_looks_are_refused(looks: list[int]) -> None:
    with pytest.raises(ValueError, match="at most 3"):
        e_values([1.0, 0.0, 1.0], looks)


# -- streams: power, and that the promise is kept --------------------------------------------------


def first_look(d: Array, judge: Callable[[int], float], threshold: float) -> float:
    """Rows at the first look, each ``LOOK`` rows, at which the e-value reaches the threshold."""
    for n in range(LOOK, len(d) + 1, LOOK):
        if judge(n) >= threshold:
            return n
    return math.inf


def looks_of_counts(
    rng: np.random.Generator, win: float, loss: float, *, rows: int, threshold: float, above: float
) -> float:
    d = rng.choice([1.0, -1.0, 0.0], rows, p=[win, loss, 1 - win - loss])
    return first_look(d, lambda n: e_value(d[:n], above=above).e, threshold)


@pytest.mark.parametrize(
    ("win", "loss", "above", "threshold", "rows", "share"),
    [
        pytest.param(0.175, 0.125, 0.0, 200.0, 2_000, 0.70, id="better by 5 at churn 30%, 2000"),
        pytest.param(0.175, 0.125, 0.0, 200.0, 3_000, 0.85, id="better by 5 at churn 30%, 3000"),
        pytest.param(0.015, 0.015, -0.05, 20.0, 500, 0.95, id="not better by 5 at churn 3%"),
        pytest.param(0.15, 0.15, -0.05, 20.0, 2_000, 0.80, id="not better by 5 at churn 30%"),
        pytest.param(0.55, 0.05, 0.0, 200.0, 50, 0.85, id="better by 50 at churn 60%"),
    ],
)
def test_e_value_decides_in_time(
    win: float, loss: float, above: float, threshold: float, rows: int, share: float
) -> None:
    """Shares of 200 seeded streams; "not better by 5" is the bet on -d."""
    rng = np.random.default_rng(7)
    found = [
        looks_of_counts(rng, win, loss, rows=rows, threshold=threshold, above=above)
        for _ in range(200)
    ]
    assert np.isfinite(found).mean() >= share


Traffic = tuple[Array, Array]
"""Differences of rows of traffic, and the probabilities with which each is labelled."""


def uniform(rng: np.random.Generator, n: int) -> Traffic:
    """As often better as worse, every row labelled with the same probability."""
    return rng.choice([1.0, -1.0, 0.0], n, p=[0.1, 0.1, 0.8]), np.full(n, 0.3)


def better_rows_are_sure(rng: np.random.Generator, n: int) -> Traffic:
    """Where the candidate is not worse, every row is labelled; else one in twenty."""
    d = rng.choice([1.0, -1.0, 0.0], n, p=[0.1, 0.1, 0.8])
    return d, np.where(d < 0, 0.05, 1.0)


def better_rows_are_sure_mildly(rng: np.random.Generator, n: int) -> Traffic:
    """Worse by 1.6 points; one in ten is labelled where the candidate is worse."""
    d = rng.choice([1.0, -1.0, 0.0], n, p=[0.092, 0.108, 0.8])
    return d, np.where(d < 0, 0.1, 1.0)


def worse_rows_are_sure(rng: np.random.Generator, n: int) -> Traffic:
    """The few labelled wins have the large weights."""
    d = rng.choice([1.0, -1.0, 0.0], n, p=[0.1, 0.1, 0.8])
    return d, np.where(d > 0, 0.05, 1.0)


def skewed_losses(rng: np.random.Generator, n: int) -> Traffic:
    """Often a little better, seldom much worse: mean 0, and the probability hangs on the loss."""
    d = np.where(rng.random(n) < 0.2, -0.8, 0.2)
    return d, np.where(d < 0, 0.1, 0.5)


def accepted(
    traffic: Callable[[np.random.Generator, int], Traffic],
    value: Callable[[Array, Array], float],
    *,
    runs: int,
    labels: int,
    seed: int = 0,
) -> int:
    """Runs in which the e-value reaches 200 at any look; a look each ``LOOK`` labels."""
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(runs):
        d, p = traffic(rng, 12 * labels)
        labelled = np.flatnonzero(rng.random(len(d)) < p)[:labels]
        d, p = d[labelled], p[labelled]
        hits += math.isfinite(first_look(d, lambda n: value(d[:n], p[:n]), 200.0))  # noqa: B023
    return hits


@pytest.mark.parametrize(
    ("traffic", "expected"),
    [
        (uniform, 0),
        (better_rows_are_sure, 0),
        (better_rows_are_sure_mildly, 0),
        (worse_rows_are_sure, 0),
        (skewed_losses, 0),
    ],
)
def test_what_is_not_better_over_traffic_is_not_accepted_however_it_was_sampled(
    traffic: Callable[[np.random.Generator, int], Traffic], expected: int
) -> None:
    hits = accepted(traffic, lambda d, p: e_value(d, p=p).e, runs=480, labels=500)
    assert hits == expected
    assert upper_bound(hits, 480) <= 0.01


def test_unweighted_rows_of_such_a_sample_would_be_accepted() -> None:
    """What the weights are for, and that the simulation above can fail."""
    hits = accepted(better_rows_are_sure, lambda d, _: e_value(d).e, runs=40, labels=500)
    assert clopper_pearson(hits, 40)[0] > 0.9


def test_answers_that_are_missing_where_the_candidate_is_worse_convince_nobody() -> None:
    rng = np.random.default_rng(5)
    naive = honest = 0
    runs = 300
    for _ in range(runs):
        d = rng.choice([1.0, -1.0, 0.0], 500, p=[0.1, 0.1, 0.8])
        p = np.full(500, 0.5)
        answered = rng.random(500) < np.where(d < 0, 0.3, 0.95)
        for n in range(LOOK, 501, LOOK):
            seen = answered[:n]
            bet = e_value(d[:n][seen], p=p[:n][seen], missing=p[:n][~seen], w_max=2.0)
            honest += bet.e_missing >= 200.0
            if bet.e >= 200.0:
                naive += 1
                break
    assert clopper_pearson(naive, runs)[0] > 0.5
    assert upper_bound(honest, runs) <= 0.01


def test_labels_that_come_late_where_the_candidate_is_worse_convince_nobody() -> None:
    """All labels come in the end, but each lost row's 200 rows after the others."""
    rng = np.random.default_rng(3)
    runs, rows = 480, 600
    naive = honest = 0
    row = np.arange(rows)
    for _ in range(runs):
        d = rng.choice([1.0, -1.0, 0.0], rows, p=[0.1, 0.1, 0.8])
        due = row + np.where(d < 0, 200, 0)
        bets = [
            e_value(d[due < n], missing=np.ones(n - int((due < n).sum())))
            for n in range(LOOK, rows + 1, LOOK)
        ]
        naive += any(bet.e >= 200.0 for bet in bets)
        honest += any(bet.e_missing >= 200.0 for bet in bets)
    assert clopper_pearson(naive, runs)[0] > 0.9
    assert upper_bound(honest, runs) <= 0.01


def test_strong_stakes_tell_a_large_difference_earlier_and_keep_the_promise() -> None:
    losses = np.array([1.0] * 17 + [-1.0] * 2)
    strong = e_value(losses, stakes=STRONG).e
    assert strong > 1.4 * e_value(losses).e
    rng = np.random.default_rng(0)
    reached = 0
    for _ in range(300):
        d = rng.choice([-1.0, 1.0], 120)
        looks = [e_value(d[:n], stakes=STRONG).e for n in range(5, 121, 5)]
        reached += max(looks) >= 20.0
    assert reached <= 23  # 15 at most are expected; more than 23 have a probability of .02

"""Which rows a burst asks for: never beyond the budget, one burst at a time, evenly spread."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redistill.streams.monitor.label_requests import (
    LONGEST_ROWS,
    RequestState,
    decide,
    included,
    opened,
    spread,
    take,
)

START = RequestState()


def asked(state: RequestState, why: str, row: int, **more: int) -> RequestState | None:
    """The state after a burst; None: it did not ask."""
    given_ = {"since": row - 1_000, "left": 10_000} | more
    after, burst = decide(state, why, row=row, **given_)
    assert (burst is None) == (after == state)
    return None if burst is None else after


def done(state: RequestState, why: str) -> RequestState:
    return take(state, why, 10_000, 10_000)[0]


@pytest.mark.parametrize(
    ("since", "first", "p"),
    [
        (7_000, 7_000, 0.125),
        (None, 8_750, 1.0),
        (8_990, 8_750, 1.0),  # as many rows as are asked for, at least
        (0, 9_000 - LONGEST_ROWS, 0.0625),
    ],
)
def test_a_burst_looks_back_from_the_change_point(since: int | None, first: int, p: float) -> None:
    _, burst = decide(START, "harm", row=9_000, since=since, left=1_400)
    assert burst is not None
    assert (burst.first, burst.end, burst.p_include) == (first, 9_000, p)
    assert (burst.back, burst.next) == (250, 250)


def test_a_burst_never_looks_before_the_first_row() -> None:
    _, burst = decide(START, "harm", row=100, since=50, left=1_400)
    assert burst is not None
    assert (burst.first, burst.p_include) == (0, 1.0)


def test_one_burst_at_a_time_and_slices_wait_for_the_whole_model() -> None:
    busy = asked(START, "harm", 5_000)
    assert busy is not None
    assert asked(busy, "confidence", 5_000) is None
    assert asked(busy, "slice:region=EU", 5_000) is None
    slow = asked(START, "slice:region=EU", 5_000)
    assert slow is not None
    assert asked(slow, "slice:region=EU", 5_000) is None
    assert asked(slow, "slice:region=US", 5_000) is not None
    assert asked(slow, "harm", 5_000) is not None


def test_the_same_suspicion_waits_for_its_answers() -> None:
    state = asked(START, "harm", 5_000, delay=500)
    assert state is not None
    state = done(state, "harm")
    assert asked(state, "harm", 6_049) is None
    assert asked(state, "harm", 6_050) is not None
    assert asked(state, "confidence", 5_251) is not None


def test_a_fruitless_fall_of_the_confidence_asks_ever_more_seldom() -> None:
    state, rows, last = START, [], 0
    for row in range(0, 200_000, 50):
        if (after := asked(state, "confidence", row)) is not None:
            state = done(after, "confidence")
            rows.append(row - last)
            last = row
    assert rows[1:] == [2_250, 4_250, 8_250, 16_250, 32_250, 64_250, 64_250]
    again = opened(state)  # it was right
    assert asked(again, "confidence", last + 50) is not None


def test_nothing_more_is_asked_for_once_a_finding_opened() -> None:
    state = asked(START, "harm", 5_000)
    assert state is not None
    assert take(opened(state), "harm", 100, 1_000)[1] == 0
    both = asked(state := done(state, "harm"), "slice:region=EU", 5_000)
    assert both is not None
    assert opened(both, "slice:region=EU") == state
    assert opened(both) == START


def test_a_burst_is_no_more_than_what_is_left() -> None:
    assert decide(START, "harm", row=5_000, since=0, left=99)[1] is None
    _, small = decide(START, "harm", row=5_000, since=0, left=120)
    assert small is not None
    assert (small.back, small.next) == (120, 0)
    _, burst = decide(START, "slice:a=b", row=5_000, since=0, left=70, rows=240)
    assert burst is not None
    assert (burst.back, burst.next, burst.p_include) == (60, 10, 0.25)


@given(
    budget=st.integers(0, 3_000),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["harm", "confidence", "slice:a=b", "slice:a=c", "open", "none"]),
            st.integers(1, 400),
            st.integers(0, 9_000),
        ),
        max_size=60,
    ),
)
def test_no_more_is_asked_for_than_the_budget_allows(
    budget: int, steps: list[tuple[str, int, int]]
) -> None:
    state, row, spent = START, 0, 0
    for why, served, since in steps:
        if why == "open":
            state = opened(state)
        elif why != "none":
            state, burst = decide(state, why, row=row, since=since, left=budget - spent)
            if burst is not None:
                spent += len(spread(burst.end - burst.first, burst.back, 0.5))
        for name in sorted(state.following):
            state, n = take(state, name, served, budget - spent)
            spent += n
        row += served
        assert spent <= budget
        assert RequestState.from_json(state.to_json()) == state


@given(st.integers(0, 5_000), st.integers(0, 500), st.floats(0, 1, exclude_max=True))
def test_picks_are_different_rows_and_evenly_spread(n: int, wanted: int, start: float) -> None:
    picks = spread(n, wanted, start)
    assert len(picks) == len(set(picks.tolist())) == min(n, wanted)
    if len(picks):
        assert picks[0] >= 0
        assert picks[-1] < n
        gaps = np.diff(picks)
        assert not len(gaps) or gaps.max() - gaps.min() <= 1


def test_each_candidate_is_picked_as_often_as_the_inclusion_probability_says() -> None:
    rng = np.random.default_rng(3)
    hits = np.zeros(37)
    for _ in range(4_000):
        hits[spread(37, 10, rng.random())] += 1
    assert np.abs(hits / 4_000 - 10 / 37).max() < 0.03


def test_several_draws_include_a_row_with_the_probability_of_their_union() -> None:
    assert included() == 0
    assert included(0.1, 1.0) == 1
    assert included(0.5, 0.5, 0.5) == pytest.approx(0.875)

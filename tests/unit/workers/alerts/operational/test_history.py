from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from redistill.times import MINUTE
from redistill.workers.alerts.operational.history import BREAK_US, KEPT_MINUTES, History

T0 = 1_764_000_000_000_000 // MINUTE * MINUTE


def test_each_minute_keeps_its_lowest_figure() -> None:
    history = History()
    for t, figure in ((0, 5), (1, 3), (2, 9), (MINUTE, 7)):
        lows = history.note("lag", figure, T0 + t)
    assert [n for _, n in lows] == [3, 7]


@given(st.lists(st.tuples(st.integers(0, 3 * BREAK_US), st.integers(0, 9)), max_size=80))
def test_no_more_than_an_hour_is_kept_and_a_stored_history_goes_on_as_it_was(
    steps: list[tuple[int, int]],
) -> None:
    one, other, now = History(), History(), T0
    for step, figure in steps:
        now += step
        other = History.from_json(other.to_json())
        for history in (one, other):
            history.begin(now)
            lows = history.note("lag", figure, now)
            history.lasted("late", figure > 4, now)
            history.end()
            assert len(lows) <= KEPT_MINUTES
            assert all(now // MINUTE - KEPT_MINUTES < m <= now // MINUTE for m, _ in lows)
        assert one.to_json() == other.to_json()


def test_condition_lasts_while_it_holds_and_is_forgotten_with_its_subject() -> None:
    history = History()
    history.begin(T0)
    assert history.lasted("a", True, T0) == 0
    history.end()
    history.begin(T0 + 5)
    assert history.lasted("a", True, T0 + 5) == 5
    history.end()
    history.begin(T0 + 6)
    history.end()
    history.begin(T0 + 7)
    assert history.lasted("a", True, T0 + 7) == 0, "nobody asked in between"


def test_what_is_not_known_is_kept() -> None:
    history = History()
    history.begin(T0)
    history.lasted("late:a", True, T0)
    history.note("late:b", 1, T0)
    history.end()
    history.begin(T0 + 5)
    history.keep("late:")
    history.end()
    assert history.lasted("late:a", True, T0 + 6) == 6
    assert len(history.note("late:b", 1, T0 + MINUTE)) == 2


def test_rounds_are_steady_since_the_last_break() -> None:
    history = History()
    for t in (T0, T0 + BREAK_US, T0 + 2 * BREAK_US):
        history.begin(t)
    assert history.steady_since == T0
    history.begin(T0 + 3 * BREAK_US + 1)
    assert history.steady_since == T0 + 3 * BREAK_US + 1
    history.begin(T0)
    assert history.steady_since == T0, "a clock that was set back begins anew"


def test_a_history_that_cannot_be_read_begins_anew() -> None:
    wrong = '{"lows":{},"since":{},"steady_since":"x","round_at":0}'
    for text in (None, "[]", "{", "null", wrong, wrong.replace('"x"', "Infinity")):
        assert History.from_json(text) == History()


def test_what_goes_on_begins_once_however_often_it_is_stored() -> None:
    history = History()
    begun = []
    for t in (0, 1, 2):
        history = History.from_json(history.to_json())
        history.begin(T0 + t)
        begun.append([history.begins("a", T0 + t) for _ in range(2)])
        history.end()
    assert begun == [[True, False], [False, False], [False, False]]

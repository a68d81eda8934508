"""How many labels count, and whether they came over enough time; which sources count is tried where
they decide (``test_predecessor_comparison``)."""

from __future__ import annotations

import loop
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loop import NOW
from served_rows import labelled

from redistill.streams.store.tables import outcomes
from redistill.times import DAY, HOUR, MINUTE, SECOND
from redistill.workers.jobs import monitored_labels
from redistill.workers.jobs.monitored_labels import MonitoredLabels

SINCE = 1_000 * HOUR
ONE_AN_HOUR = 1 / HOUR


def paced(*arrivals: tuple[int, int], usual: float | None = ONE_AN_HOUR) -> MonitoredLabels:
    came = [("ledger", at, h) for at, h in arrivals]
    rates = None if usual is None else {"ledger": usual}
    return monitored_labels.paced(came, since=SINCE, usual_per_us=rates)


ARRIVALS = st.lists(
    st.tuples(st.integers(SINCE, SINCE + 100 * HOUR), st.integers(0, 1_000)),
    max_size=60,
    unique_by=lambda a: a[1],
)


@given(ARRIVALS)
def test_at_no_time_more_than_three_times_the_usual_count(arrivals: list[tuple[int, int]]) -> None:
    found = paced(*arrivals)
    for end, _ in arrivals:
        counted = sum(h in found.counted for at, h in arrivals if at <= end)
        assert counted <= 3 * (end - SINCE) / HOUR
    assert len(found.counted) + found.left_out == len(arrivals)


@given(ARRIVALS, st.integers(SINCE, SINCE + 100 * HOUR))
def test_what_comes_later_changes_nothing_that_was_counted(
    arrivals: list[tuple[int, int]], until: int
) -> None:
    early = [(at, h) for at, h in arrivals if at <= until]
    whole = paced(*arrivals).counted
    assert paced(*early).counted == {h for at, h in early if h in whole}


def test_burst_does_not_count_later_either() -> None:
    burst = [(SINCE + HOUR, h) for h in range(60)]
    steady = [(SINCE + (2 + i) * HOUR, 100 + i) for i in range(30)]
    found = paced(*burst, *steady)
    assert found.left_out == 57
    assert {h for h in found.counted if h >= 100} == set(range(100, 130))


def test_flood_in_one_name_uses_up_nothing_of_another() -> None:
    """Whoever came first with many labels decided whether anything of the others counted."""
    flood = [("gossip", SINCE + HOUR + n % 3, n) for n in range(1_000)]
    honest = [("ledger", SINCE + (1 + i) * HOUR, 10_000 + i) for i in range(30)]
    unheard = [(f"made-up-{n}", SINCE + 2 * HOUR, 20_000 + n) for n in range(100)]
    usual = {"ledger": ONE_AN_HOUR, "gossip": ONE_AN_HOUR}
    found = monitored_labels.paced(flood + honest + unheard, since=SINCE, usual_per_us=usual)
    assert {h for _, _, h in honest} <= found.counted
    assert len(found.counted) == 30 + 3
    assert found.left_out == 1_097


@given(
    st.dictionaries(st.integers(0, 6), st.integers(0, 10**6), max_size=3),
    st.integers(1, 1_000),
)
def test_flood_on_three_days_of_a_week_does_not_become_the_custom(
    flood: dict[int, int], daily: int
) -> None:
    by_day = {"ledger": {d: daily + flood.get(d, 0) for d in range(7)}}
    rates = monitored_labels.usual_rates(by_day, first_us=7 * DAY)
    assert rates is None or round(rates["ledger"] * DAY) == daily


@pytest.mark.parametrize(
    ("by_day", "first_us", "a_day"),
    [
        ({0: 10, 1: 9}, 2 * DAY, None),  # 19 labels: nobody knows
        ({0: 24, 1: 24}, 2 * DAY, 24),  # too few days for a median
        ({0: 5, 1: 30, 2: 30, 3: 30, 4: 0}, 5 * DAY, 30),
        ({0: 60}, 12 * HOUR, 120),
        ({2: 700}, 7 * DAY, 100),  # once a week
    ],
)
def test_usual_is_the_median_of_days(
    by_day: dict[int, int], first_us: int, a_day: int | None
) -> None:
    rates = monitored_labels.usual_rates({"ledger": by_day}, first_us=first_us)
    assert (rates and round(rates["ledger"] * DAY)) == a_day


def test_what_is_usual_is_counted_by_day_and_source(database_url: str) -> None:
    database = loop.opened(database_url)
    for first, source, a_day in ((0, "ledger", 24), (10_000, "analyst", 48)):
        rows = range(first, first + 8 * a_day)  # the first day is too long ago
        labelled(database, rows, source=source, came=NOW - 8 * DAY, every=DAY // a_day)
    mine = [outcomes.c.model == "credit"]
    with database.read() as conn:
        rates = monitored_labels._usual(conn, mine, NOW)
        nothing = monitored_labels._usual(conn, mine, NOW - 30 * DAY)
    assert rates is not None
    assert {s: round(r * DAY) for s, r in rates.items()} == {"ledger": 24, "analyst": 48}
    assert nothing is None
    database.dispose()


def test_all_count_where_nobody_knows_what_is_usual() -> None:
    found = paced(*((SINCE, h) for h in range(60)), usual=None)
    assert (len(found.counted), found.left_out) == (60, 0)
    assert found.told()["usual_per_day"] is None


@pytest.mark.parametrize(
    ("times", "waits"),
    [
        ([], "labels in 3 batches, there are 0"),
        ([0, 10 * MINUTE], "labels in 3 batches, there are 2"),
        ([0, SECOND, 119 * SECOND], "labels over 120 s, they came in 119 s"),
        ([0, SECOND, 120 * SECOND], None),
    ],
)
def test_labels_come_in_three_batches_over_two_minutes(times: list[int], waits: str | None) -> None:
    came = [(SINCE + at, h) for h, at in enumerate(times)]
    assert paced(*came, usual=None).waits_for == waits

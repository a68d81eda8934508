"""How many labels count, and whether they came over enough time; which sources count is tried where
they decide (``test_predecessor_comparison``)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redistill.times import HOUR, MINUTE, SECOND
from redistill.workers.jobs import monitored_labels
from redistill.workers.jobs.monitored_labels import MonitoredLabels

SINCE = 1_000 * HOUR
ONE_AN_HOUR = 1 / HOUR


def paced(*arrivals: tuple[int, int], usual: float | None = ONE_AN_HOUR) -> MonitoredLabels:
    return monitored_labels.paced(arrivals, since=SINCE, usual_per_us=usual)


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

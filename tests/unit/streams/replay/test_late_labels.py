"""Labels on their way: in the order in which they come, with all their columns."""

from __future__ import annotations

import numpy as np
from replay_rows import labels, served

from redistill.streams.monitor.label_requests import LONGEST_ROWS
from redistill.streams.replay.late_labels import Labels, RecentRows, ServedRows
from redistill.streams.wire.block import Codes


def test_rows_are_cut_and_joined_without_a_change() -> None:
    whole = served(20)
    again = ServedRows.joined([whole.cut(0, 7), whole.cut(7, 20)])
    assert (again.first, again.end) == (0, 20)
    assert again.error.tolist() == whole.error.tolist()
    assert again.slices["region"].strings() == whole.slices["region"].strings()


def test_values_of_slices_are_told_apart_across_parts() -> None:
    one = served(2, slices={"region": Codes.of(["EU", None])})
    two = served(2, first=2, slices={"region": Codes.of(["APAC", "EU"])})
    joined = ServedRows.joined([one, two])
    assert joined.slices["region"].strings() == ["EU", None, "APAC", "EU"]
    assert joined.within("region=EU").tolist() == [True, False, False, True]
    assert joined.within("region=MOON").tolist() == [False] * 4
    assert joined.within("colour=red").tolist() == [False] * 4
    assert joined.within(None).all()


def test_a_row_without_a_label_is_asked_in_vain() -> None:
    rows = served(6, labelled=np.arange(6) != 3)
    assert labels(rows, [2, 3, 4]).row.tolist() == [2, 4]


def test_labels_come_in_the_order_of_their_arrival() -> None:
    rows = served(100, first=50)
    late = labels(rows, [3, 5])  # rows 53 and 55, there at 63 and 65
    asked = labels(rows, [1, 9], arrival=63, only="region=EU")
    both = Labels.joined([late, asked])
    assert both.row.tolist() == [51, 53, 59, 55]
    assert both.arrival.tolist() == [63, 63, 63, 65]
    assert both.only.strings() == ["region=EU", None, "region=EU", None]
    assert both.error.tolist() == [int(r % 3 == 0) for r in (51, 53, 59, 55)]
    now, later = both.split(64)
    assert (len(now), later.row.tolist()) == (3, [55])


def test_outcomes_of_a_request_for_one_slice_are_not_uniform() -> None:
    rows = served(10)
    both = Labels.joined([labels(rows, [1]), labels(rows, [2], only="region=EU")])
    outcomes = both.outcomes(np.zeros(2, np.int64))
    assert outcomes.uniform is not None
    assert outcomes.slice_only is not None
    assert outcomes.uniform.tolist() == [True, False]
    assert outcomes.slice_only.strings() == [None, "region=EU"]
    assert outcomes.slices["region"].strings() == ["US", "EU"]
    assert outcomes.p_include is not None
    assert outcomes.p_include.tolist() == [0.1, 0.1]


def test_rows_too_old_to_be_asked_for_are_forgotten() -> None:
    recent = RecentRows()
    for first in range(0, 3 * LONGEST_ROWS, 50):
        recent.append(served(50, first=first), np.zeros(50, np.bool_), np.full(50, 0.1))
        if first % 500 == 0:
            rows, taken, p = recent.take()
            assert rows.end == first + 50
            assert rows.first <= max(0, rows.end - LONGEST_ROWS)
            assert len(rows) == len(taken) == len(p) <= 2 * LONGEST_ROWS + 50
            taken[:] = True
    assert recent.take()[1][:-500].all()  # what was written stays

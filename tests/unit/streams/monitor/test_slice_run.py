"""Run of rows through the tests of slices: order, rest, recovery."""

from __future__ import annotations

import numpy as np
from sliced_errors import REFERENCE_ROWS, World, labelled, reference

from redistill.streams.monitor.slice_run import SliceRun
from redistill.streams.monitor.slice_tests import SliceTests


def run_of(seed: int = 0) -> tuple[SliceTests, SliceRun]:
    rng = np.random.default_rng(seed)
    world = World.drawn(rng, 0.1)
    base, expected = reference(world.rows(rng, REFERENCE_ROWS))
    rows = world.rows(rng, 9_000, harmed=("fifth", 3), harm="flip", since=1_000)
    healthy = world.rows(rng, 9_000)
    rows.wrong[3_000:] = healthy.wrong[3_000:]
    for name, values in rows.slices.items():
        values[3_000:] = healthy.slices[name][3_000:]
    rows.confidence[3_000:] = healthy.confidence[3_000:]
    tests = SliceTests(expected, base, labels_per_alarm=1e6, share=1.0)
    return tests, SliceRun(tests, labelled(rows, expected))


def test_a_slice_opens_updates_and_recovers_in_the_order_of_rows() -> None:
    tests, run = run_of()
    found = run.advance(9_000, may_open=True)
    told = [c.change.status for c in found]
    assert told[0] == "open"
    assert told[-1] == "resolved"
    assert "update" in told
    assert {tests.expected.slices[c.index].name for c in found} == {"fifth=v3"}
    places = [c.position for c in found]
    assert places == sorted(places)
    assert 1_000 < places[0] < 1_300
    assert 3_000 < places[-1] < 6_000
    assert tests.open == {}
    assert found[-1].change.rate < 0.2


def test_tests_rest_while_the_whole_model_has_a_finding() -> None:
    tests, run = run_of()
    assert run.advance(2_500, may_open=False) == []
    assert not tests.statistic.any()
    assert run.advance(2_000, may_open=True) == []  # done already
    opened = run.advance(3_000, may_open=True)
    assert next(c.change.status for c in opened) == "open"
    assert opened[0].position > 2_500


def test_an_open_finding_goes_on_while_the_whole_model_has_one() -> None:
    tests, run = run_of()
    assert run.advance(2_000, may_open=True)
    assert tests.open
    later = run.advance(9_000, may_open=False)
    assert later[-1].change.status == "resolved"


def test_memory_is_trimmed_at_the_end_of_a_run() -> None:
    tests, run = run_of()
    run.advance(9_000, may_open=True)
    run.end()
    assert tests.memory.total == 9_000
    assert len(tests.memory.rows) == 9_000
    again = SliceRun(tests, tests.memory.rows)
    again.advance(9_000, may_open=True)
    again.end()
    assert len(tests.memory.rows) == 18_000 - 8_192


def test_no_rows_change_nothing() -> None:
    tests, run = run_of()
    empty = SliceRun(tests, run.rows[:0])
    assert empty.advance(0, may_open=True) == []
    assert not tests.statistic.any()
    assert np.all(tests.seen == 0)

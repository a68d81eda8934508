"""Tests of slices: the statistic, what they need to open, and what explains what."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sliced_errors import REFERENCE_ROWS, World, labelled, reference

from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.expected_error import ExpectedError
from redistill.streams.monitor.slice_memory import LabelledRows
from redistill.streams.monitor.slice_run import SliceRun
from redistill.streams.monitor.slice_tests import STEPS, SliceTests
from redistill.times import SECOND


def story(seed: int = 0, **given: object) -> tuple[BaseError, ExpectedError, LabelledRows]:
    rng = np.random.default_rng(seed)
    world = World.drawn(rng, 0.1)
    base, expected = reference(world.rows(rng, REFERENCE_ROWS))
    return base, expected, labelled(world.rows(rng, 3_000, **given), expected)  # type: ignore[arg-type]


def test_statistics_are_those_of_a_plain_loop() -> None:
    base, expected, rows = story(runs=8)
    tests = SliceTests(expected, base, labels_per_alarm=1e9, share=0.5)
    assert not tests.independent
    SliceRun(tests, rows).advance(len(rows), may_open=True)
    plain = np.zeros_like(tests.statistic)
    for i in range(len(rows)):
        for s in rows.slices[i][rows.slices[i] >= 0].tolist():
            null = min(float(rows.expected[i]) * expected.slices[s].kappa, 0.9)
            other = np.minimum(null + STEPS, 0.98)
            ratio = other / null if rows.error[i] else (1 - other) / (1 - null)
            plain[s] = (1 + plain[s]) * ratio ** tests.powers[s]
    np.testing.assert_allclose(tests.statistic, plain, rtol=1e-9)


@pytest.mark.parametrize("harm", ["", "flip"])
def test_endless_errors_leave_every_statistic_finite(harm: str) -> None:
    base, expected, rows = story(harm=harm)
    ends = np.full(len(rows), 1, np.uint8)
    tests = SliceTests(expected, base, labels_per_alarm=1e300, share=1.0)
    for _ in range(3):
        run = SliceRun(
            tests,
            LabelledRows(ends, rows.served_at, rows.expected, rows.slices, rows.asked),
        )
        run.advance(len(rows), may_open=True)
        run.end()
    assert np.isfinite(tests.statistic).all()
    assert (tests.statistics > 1e60).all()


def test_retuned_tests_keep_their_evidence() -> None:
    base, expected, rows = story(runs=8)
    tests = SliceTests(expected, base, labels_per_alarm=1e5, share=1.0)
    SliceRun(tests, rows).advance(len(rows), may_open=True)
    before, powers = tests.statistic.copy(), tests.powers
    tests.retune(labels_per_alarm=2e5, share=0.1)
    assert (tests.statistic == before).all()
    assert tests.threshold == 2e5
    assert (tests.powers > powers).any()  # fewer labels are less alike


def test_a_suspected_slice_is_dated_to_its_change() -> None:
    base, expected, rows = story(harmed=("fifth", 2), harm="flip", since=2_000)
    tests = SliceTests(expected, base, labels_per_alarm=1e12, share=1.0)
    SliceRun(tests, rows).advance(len(rows), may_open=True)
    harmed = [s.name for s in expected.slices].index("fifth=v2")
    assert 1_900 * SECOND < tests.suspected(harmed) < 2_100 * SECOND


def test_slices_that_share_the_harmed_rows_do_not_open() -> None:
    base, expected, rows = story(harmed=("half", 1), harm="flip", since=1_000)
    tests = SliceTests(expected, base, labels_per_alarm=1e6, share=1.0)
    found = SliceRun(tests, rows).advance(len(rows), may_open=True)
    # half of the rows of every other slice err, too
    assert (tests.statistics > 1e6).sum() > 20
    assert {expected.slices[c.index].name for c in found} == {"half=v1"}


def test_two_slices_with_a_harm_of_their_own_both_open() -> None:
    rng = np.random.default_rng(4)
    world = World.drawn(rng, 0.1)
    base, expected = reference(world.rows(rng, REFERENCE_ROWS))
    rows = world.rows(rng, 4_000, harmed=("tenth", 2), harm="flip", since=1_000)
    again = (rows.slices["twentieth"] == 7) & (np.arange(4_000) > 1_000)
    rows.wrong[again] = 1 - rows.wrong[again]
    tests = SliceTests(expected, base, labels_per_alarm=1e6, share=1.0)
    found = SliceRun(tests, labelled(rows, expected)).advance(4_000, may_open=True)
    opened = {expected.slices[c.index].name for c in found if c.change.status == "open"}
    assert opened == {"tenth=v2", "twentieth=v7"}


def test_rows_of_an_open_slice_are_no_evidence_against_another() -> None:
    rng = np.random.default_rng(1)
    world = World.drawn(rng, 0.1)
    base, expected = reference(world.rows(rng, REFERENCE_ROWS))
    rows = world.rows(rng, 4_000, harmed=("half", 1), harm="+20", since=500)
    both = (rows.slices["half"] == 1) & (rows.slices["twentieth"] == 7)
    rows.wrong[both & (np.arange(4_000) > 1_500)] = 1
    tests = SliceTests(expected, base, labels_per_alarm=1e6, share=1.0)
    found = SliceRun(tests, labelled(rows, expected)).advance(2_000, may_open=True)
    other = [s.name for s in expected.slices].index("twentieth=v7")
    assert tests.statistics[other] > 1e6
    assert {expected.slices[c.index].name for c in found} == {"half=v1"}


@pytest.mark.parametrize("seed", [2, 3, 6, 7])
def test_beside_an_open_slice_another_needs_evidence_enough_outside_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    world = World.drawn(rng, 0.1)
    base, expected = reference(world.rows(rng, REFERENCE_ROWS))
    rows = world.rows(rng, 6_000, harmed=("tenth", 2), harm="flip", since=500)
    tests = SliceTests(expected, base, labels_per_alarm=1e6, share=1.0)
    found = SliceRun(tests, labelled(rows, expected)).advance(6_000, may_open=True)
    # tests of others stand far above the threshold, but for the rows that they share with it
    assert (tests.statistics > 1e6).sum() > 5
    assert {expected.slices[c.index].name for c in found} == {"tenth=v2"}


def test_rows_that_were_asked_for_lie_in_all_their_slices() -> None:
    base, expected, rows = story(harmed=("tenth", 2), harm="flip", since=1_000)
    names = [s.name for s in expected.slices]
    half = names.index("half=v1")
    random = np.arange(3_000) % 4 == 0
    asked = np.where(random, -1, half).astype(np.int8)  # all others are asked for by one half
    rows = replace(rows, asked=asked)[random | (rows.slices == half).any(axis=1)]
    fed = (rows.tested >= 0).sum(axis=1)
    assert set(fed[rows.asked == half].tolist()) == {1}
    assert (fed[rows.random] > 1).all()
    tests = SliceTests(expected, base, labels_per_alarm=1e4, share=0.25)
    found = SliceRun(tests, rows).advance(len(rows), may_open=True)
    assert tests.statistics[half] > 1e4  # for what it shares with the tenth
    assert {names[c.index] for c in found} == {"tenth=v2"}


@pytest.mark.parametrize("seed", range(3))
def test_where_all_rows_are_harmed_one_slice_opens_and_is_not_blamed(seed: int) -> None:
    base, expected, rows = story(seed, harm="+20", since=500)
    tests = SliceTests(expected, base, labels_per_alarm=1e6, share=1.0)
    found = SliceRun(tests, rows).advance(len(rows), may_open=True)
    assert (tests.statistics > 1e6).sum() > 20
    assert len({c.index for c in found}) == 1
    assert not any(c.localised for c in found)


def test_a_slice_is_blamed_when_enough_is_known_of_the_rows_outside_it() -> None:
    base, expected, rows = story(harmed=("tenth", 2), harm="flip")
    names = [s.name for s in expected.slices]
    mine = names.index("tenth=v2")
    early = np.arange(3_000) < 1_000
    asked = np.where(early, mine, -1).astype(np.int8)  # no others come at first
    rows = replace(rows, asked=asked)[(rows.slices == mine).any(axis=1) | ~early]
    tests = SliceTests(expected, base, labels_per_alarm=1e6, share=1.0)
    found = SliceRun(tests, rows).advance(len(rows), may_open=True)
    assert {names[c.index] for c in found} == {"tenth=v2"}
    assert [c.change.status for c in found][:2] == ["open", "update"]
    told = [c.localised for c in found]
    assert told == sorted(told)
    assert (told[0], told[-1]) == (False, True)
    assert tests.unlocalised == set()


def test_a_slice_that_is_not_blamed_explains_no_other() -> None:
    rng = np.random.default_rng(0)
    world = World.drawn(rng, 0.1)
    base, expected = reference(world.rows(rng, REFERENCE_ROWS))
    names = [s.name for s in expected.slices]
    rows = labelled(world.rows(rng, 2_000, harmed=("tenth", 2), harm="flip"), expected)
    tests = SliceTests(expected, base, labels_per_alarm=1e6, share=1.0)
    other = names.index("half=v1")
    few = SliceRun(tests, rows[:300])
    few.advance(300, may_open=False)
    tests.open[other] = tests.watching(base)
    tests.levels[other] = base.rate
    tests.unlocalised.add(other)
    found = SliceRun(tests, rows[300:]).advance(1_700, may_open=True)
    assert ("tenth=v2", True) in {(names[c.index], c.localised) for c in found}


def test_nothing_opens_on_less_than_twenty_labels_five_errors_and_five_points() -> None:
    base, expected, _ = story()
    s = next(i for i, s in enumerate(expected.slices) if s.column == "tenth")
    ids = np.full((1_600, len(expected.columns)), -1, np.int8)
    ids[::4, expected.columns.index("tenth")] = s  # three of four are elsewhere, and right

    def opened(errors: list[int], mu: float = 0.05) -> list[int]:
        tests = SliceTests(expected, base, labels_per_alarm=20.0, share=1.0)
        n = 4 * len(errors)
        part = LabelledRows(
            np.array([v for e in errors for v in (e, 0, 0, 0)], np.uint8),
            np.arange(n) * SECOND,
            np.full(n, mu, np.float32),
            ids[:n],
            np.full(n, -1, np.int8),
        )
        changes = SliceRun(tests, part).advance(n, may_open=True)
        return [c.position // 4 for c in changes if c.change.status == "open"]

    assert opened([1] * 30) == [19]
    assert opened([0] * 40 + [1] * 4) == []
    assert opened([0] * 40 + [1] * 5) == [44]
    slight = ([0] * 9 + [1]) * 40  # 10%: the statistic grows above 20, the estimate does not
    assert opened(slight, mu=0.07) == []


def test_a_copy_is_independent() -> None:
    base, expected, rows = story(harmed=("half", 1), harm="flip", since=500)
    tests = SliceTests(expected, base, labels_per_alarm=1e5, share=1.0)
    first = SliceRun(tests, rows[:1_500])
    first.advance(1_500, may_open=True)
    first.end()
    assert tests.open
    other, before = tests.copy(), tests.statistic.copy()
    SliceRun(other, rows[1_500:]).advance(1_500, may_open=True)
    assert (tests.statistic == before).all()
    assert tests.memory.total == 1_500
    assert next(iter(tests.open.values())).since_n < next(iter(other.open.values())).since_n

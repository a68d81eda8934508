"""Smallest change that a test of a slice sees."""

from __future__ import annotations

import numpy as np
from sliced_errors import REFERENCE_ROWS, World, labelled, reference

from redistill.streams.monitor import alarm_budget
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.slice_delay import LABELS, smallest_change
from redistill.streams.monitor.slice_run import SliceRun
from redistill.streams.monitor.slice_tests import SliceTests
from redistill.streams.wire.block import Schema

CONFIG = WatchConfig(model="sliced", schema=Schema(features=()))


def test_a_change_of_that_size_is_found_in_about_so_many_labels() -> None:
    rng = np.random.default_rng(0)
    world = World.drawn(rng, 0.1)
    base, expected = reference(world.rows(rng, REFERENCE_ROWS))
    s = next(s for s in expected.slices if s.column == "fifth")
    points = smallest_change(s, expected, base, CONFIG, 1.0)
    assert points is not None
    assert 5 <= points <= 12
    rows = world.rows(rng, 30_000)
    mine = (rows.slices["fifth"] == int(s.value[1:])) & (rng.random(30_000) < points / 100)
    rows.wrong[mine] = 1
    threshold = alarm_budget.slice_tests(CONFIG, 1.0, len(expected.columns))
    tests = SliceTests(expected, base, labels_per_alarm=threshold, share=1.0)
    found = SliceRun(tests, labelled(rows, expected)).advance(30_000, may_open=True)
    opened = next(c for c in found if expected.slices[c.index] == s)
    assert (rows.slices["fifth"][: opened.position] == int(s.value[1:])).sum() < 2 * LABELS


def test_small_slices_see_large_changes_only() -> None:
    rng = np.random.default_rng(1)
    base, expected = reference(World.drawn(rng, 0.1, 0.0).rows(rng, REFERENCE_ROWS))
    sizes = [smallest_change(s, expected, base, CONFIG, 0.1) for s in expected.slices]
    assert sizes[0] is not None
    assert sizes[-1] is not None
    assert sizes[0] + 2 <= sizes[-1]

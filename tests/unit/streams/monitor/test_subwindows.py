"""The first stage of ``observe``: where rows are cut, what is counted of each part, what ends."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from monitor_blocks import SCHEMA, block, cut, features

from redistill.streams.monitor.counts import columns, count
from redistill.streams.monitor.reference import build_profile
from redistill.streams.monitor.subwindows import (
    ClosedWindow,
    Counted,
    CountedRows,
    WindowCounts,
    close_overdue,
    count_rows,
    cuts,
)

PROFILE = build_profile(block(features(2_000, 0)), SCHEMA)
SECOND = 1_000_000


@given(
    rows=st.integers(0, 9_000),
    taken=st.integers(0, 3_000),
    window_rows=st.integers(1, 2_500),
)
def test_cuts_cover_all_rows_and_none_reaches_beyond_a_subwindow_or_a_window(
    rows: int, taken: int, window_rows: int
) -> None:
    parts = cuts(rows, taken, window_rows)
    assert sum(c.end - c.first for c in parts) == rows
    assert all(a.end == b.first for a, b in pairwise(parts))
    for part in parts:
        before, taken = taken, taken + part.end - part.first
        assert before // 500 == (taken - 1) // 500
        assert taken <= max(window_rows, before + 1)
        assert part.ends_window == (taken >= window_rows)
        assert part.ends_subwindow == (part.ends_window or taken % 500 == 0)
        taken = 0 if part.ends_window else taken


def test_a_window_that_is_full_already_ends_with_the_next_row() -> None:
    assert [(c.first, c.end, c.ends_window) for c in cuts(3, 700, 600)] == [
        (0, 1, True),
        (1, 3, False),
    ]


def counted(sizes: list[int], *, window_rows: int = 700) -> list[CountedRows]:
    whole = block(features(sum(sizes), 1))
    out, state, at = [], Counted(), 0
    for size in sizes:
        part = cut(whole, at, at + size)
        out.append(count_rows(state, part, profile=PROFILE, window_rows=window_rows))
        state, at = out[-1].after, at + size
    return out


def test_segments_tell_what_ends_with_them_and_the_window_up_to_their_last_row() -> None:
    (step,) = counted([1_300])
    assert [(s.first, s.end, s.ends_subwindow, s.ends_window) for s in step.segments] == [
        (0, 500, True, False),
        (500, 700, True, True),
        (700, 1_200, True, False),
        (1_200, 1_300, False, False),
    ]
    assert [s.subwindow.rows for s in step.segments if s.subwindow] == [500, 200, 500]
    assert Counted().window.number == 0
    assert [(s.window.number, *s.window.span) for s in step.segments] == [
        (0, 0, 499 * SECOND, 500),
        (0, 0, 699 * SECOND, 700),
        (1, 700 * SECOND, 1_199 * SECOND, 500),
        (1, 700 * SECOND, 1_299 * SECOND, 600),
    ]
    assert step.row_windows.tolist() == [0] * 700 + [1] * 600
    assert step.windows == [
        ClosedWindow(number=0, rows=700, first_served_at=0, last_served_at=699 * SECOND)
    ]
    ended = step.segments[1].window
    assert ended.complete is not None
    assert (ended.complete.rows, ended.partial) == (700, None)


def test_rows_of_a_subwindow_are_the_same_from_one_block_and_from_many() -> None:
    (one,) = counted([1_300])
    many = counted([130, 1, 400, 669, 100])
    ended = [s for step in many for s in step.segments if s.ends_subwindow]
    for mine, theirs in zip(ended, [s for s in one.segments if s.ends_subwindow], strict=True):
        assert mine.subwindow is not None
        assert theirs.subwindow is not None
        assert (mine.subwindow.below == theirs.subwindow.below).all()
        assert mine.window.span == theirs.window.span
    after, whole = many[-1].after, one.after
    assert (after.rows, after.first_served_at, after.last_served_at) == (
        whole.rows,
        whole.first_served_at,
        whole.last_served_at,
    )
    assert (after.rows, after.first_served_at, after.last_served_at) == (1_300, 0, 1_299 * SECOND)
    assert after.window.span == whole.window.span


def test_subwindows_counted_together_are_those_counted_alone() -> None:
    whole = block(features(1_500, 2))
    step = count_rows(Counted(), whole, profile=PROFILE, window_rows=2_000)
    values = columns(whole, SCHEMA.names, PROFILE.classes)
    for i, segment in enumerate(step.segments):
        alone = count(values[:, 500 * i : 500 * i + 500], PROFILE.layout)
        assert segment.subwindow is not None
        for name in ("valid", "below", "low", "high"):
            assert (getattr(segment.subwindow, name) == getattr(alone, name)).all()


def test_values_of_a_wrong_type_are_the_first_missing_ones_of_their_block() -> None:
    x = features(1_500, 3)
    x[::10, 2] = np.nan
    whole = dataclasses.replace(block(x), wrong_type={"x2": 60})
    step = count_rows(Counted(), whole, profile=PROFILE, window_rows=2_000)
    wrong = [s.subwindow.wrong[2] for s in step.segments if s.subwindow is not None]
    assert wrong == [50, 10, 0]
    unscored = dataclasses.replace(whole, scores=None)
    (first, *_) = count_rows(Counted(), unscored, profile=PROFILE, window_rows=2_000).segments
    assert first.subwindow is not None
    assert first.subwindow.valid[-1] == 0  # without a confidence, which has no type
    assert first.subwindow.wrong[-2:].tolist() == [0, 0]


def test_without_a_profile_only_rows_are_counted() -> None:
    step = count_rows(Counted(), block(features(1_200, 1)), profile=None, window_rows=1_000)
    assert [(s.ends_subwindow, s.ends_window, s.subwindow) for s in step.segments] == [
        (True, False, None),
        (True, True, None),
        (False, False, None),
    ]
    assert step.after.window.rows == 200
    assert (step.after.window.partial, step.after.window.complete) == (None, None)
    assert step.segments[0].confidence.tolist() == pytest.approx(
        block(features(1_200, 1)).scores[:500].max(axis=1).tolist()  # type: ignore[index]
    )


def test_the_newest_unseen_values_replace_those_of_their_category() -> None:
    before = Counted(unseen={"region": ("old",), "x": ("a",)})
    rows = dataclasses.replace(
        block(features(10, 1)), unseen={"region": {f"v{i}": 1 for i in range(7)}}
    )
    after = count_rows(before, rows, profile=PROFILE, window_rows=100).after
    assert after.unseen == {"region": ("v0", "v1", "v2", "v3", "v4"), "x": ("a",)}
    assert before.unseen == {"region": ("old",), "x": ("a",)}


@pytest.mark.parametrize(
    ("rows", "age", "closes"),
    [
        (200, 3_600, True),
        (200, 3_599, False),
        (199, 3_600, False),
        (199, 24 * 3_600, True),
        (1, 24 * 3_600 - 1, False),
        (0, 10**9, False),
    ],
)
def test_the_clock_closes_a_window_that_is_old_and_large_enough(
    rows: int, age: int, closes: bool
) -> None:
    window = WindowCounts(number=4, rows=rows, first_served_at=5 * SECOND)
    before = Counted(rows=rows, window=window)
    step = close_overdue(before, (5 + age) * SECOND, window_seconds=3_600)
    assert [(s.last, s.ends_subwindow, s.ends_window) for s in step.segments] == (
        [(-1, True, True)] if closes else []
    )
    assert (step.after.window.number, step.after.window.rows) == ((5, 0) if closes else (4, rows))
    assert len(step.row_windows) == 0


def test_the_clock_takes_the_rows_of_an_unfinished_subwindow_along() -> None:
    (step,) = counted([650], window_rows=2_000)
    (segment,) = close_overdue(step.after, 10**12, window_seconds=60).segments
    assert segment.subwindow is not None
    assert segment.window.complete is not None
    assert (segment.subwindow.rows, segment.window.complete.rows) == (150, 650)


def test_what_is_counted_under_another_profile_is_dropped_and_the_window_goes_on() -> None:
    (step,) = counted([650], window_rows=2_000)
    window = step.after.restarted().window
    assert (window.partial, window.complete) == (None, None)
    assert window.span == step.after.window.span

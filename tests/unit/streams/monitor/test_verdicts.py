"""The second stage of ``observe``: what is said of subwindows and windows that ended, and of the
confidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from monitor_blocks import CONFIG, SCHEMA, block, features

from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.input_profile import Profile
from redistill.streams.monitor.reference import build_profile
from redistill.streams.monitor.subwindows import Counted, close_overdue, count_rows
from redistill.streams.monitor.verdicts import (
    ConfidenceFell,
    ConfidenceLevel,
    Judged,
    Recent,
    SubwindowVerdict,
    WindowVerdict,
    judge,
)

PROFILE = build_profile(block(features(10_000, 0)), SCHEMA)


def judged(
    x: np.ndarray,
    *,
    before: Recent | None = None,
    confidence: np.ndarray | None = None,
    profile: Profile | None = PROFILE,
    window_rows: int = 2_000,
    config: WatchConfig = CONFIG,
) -> Judged:
    rows = block(x, 1, confidence=confidence)
    parts = count_rows(Counted(), rows, profile=profile, window_rows=window_rows).segments
    return judge(before or Recent(), parts, profile=profile, config=config)


def of(step: Judged, kind: type) -> list:  # type: ignore[type-arg]
    return [v for v in step.verdicts if isinstance(v, kind)]


def test_healthy_rows_have_no_breaches_and_a_window_is_judged() -> None:
    step = judged(features(4_100, 1))
    assert of(step, SubwindowVerdict) == []
    windows = of(step, WindowVerdict)
    assert [(w.row, w.breaches, w.lasting) for w in windows] == [
        (1_999, [], []),
        (3_999, [], []),
    ]
    assert [d.windows for w in windows for d in w.drifts] == [0, 0, 0, 0]


def test_a_blatant_break_is_told_at_the_end_of_its_subwindow() -> None:
    x = features(1_500, 1)
    x[600:900, 3] = np.nan
    (verdict,) = of(judged(x), SubwindowVerdict)
    assert verdict.row == 999
    assert verdict.span == (0, 999_000_000, 1_000)
    assert [(b.rule, b.name, b.hits) for b in verdict.breaches] == [("missing", "x3", 300)]


def test_a_stuck_column_is_told_after_two_subwindows_in_a_row() -> None:
    x = features(2_000, 1)
    x[:500, 2] = x[1_000:2_000, 2] = 0.25
    step = judged(x, window_rows=5_000)
    assert [v.row for v in of(step, SubwindowVerdict)] == [1_999]
    assert step.after.streaks == {"constant|2": 2}


def test_a_streak_goes_on_from_what_is_remembered() -> None:
    x = features(500, 1)
    x[:, 2] = 0.25
    first = judged(x)
    assert of(first, SubwindowVerdict) == []
    assert len(of(judged(x, before=first.after), SubwindowVerdict)) == 1
    assert judged(features(500, 2), before=first.after).after.streaks == {}


def test_what_is_remembered_is_not_changed() -> None:
    x = features(500, 1)
    x[:, 2] = 0.25
    before = judged(x).after
    assert before.confidence is not None
    streaks, width = dict(before.streaks), before.confidence.adwin.width
    judged(features(3_000, 2), before=before)
    assert (before.streaks, before.confidence.adwin.width) == (streaks, width)
    assert len(before.quartiles) == 1


def test_quartiles_of_the_last_five_subwindows_are_remembered() -> None:
    step = judged(features(4_000, 1), window_rows=700)
    assert len(step.after.quartiles) == 5
    assert all(q.base is None for q in step.after.quartiles)


def test_a_smaller_break_is_told_by_the_window_and_lasts_by_relaxed_limits() -> None:
    x = features(4_000, 1)
    x[:2_000:12, 1] = np.nan  # 8%
    x[2_000::25, 1] = np.nan  # 4%: less than opens, more than ends
    one, two = of(judged(x), WindowVerdict)
    assert [b.name for b in one.breaches] == ["x1"]
    assert [b.name for b in one.lasting] == ["x1"]
    assert two.breaches == []
    assert [b.name for b in two.lasting] == ["x1"]


def test_drift_counts_windows_in_a_row_per_kind() -> None:
    x = features(8_000, 1)
    x[:4_000, 4] += 3
    x[6_000:, 4] += 3
    windows = of(judged(x), WindowVerdict)
    assert [[(d.kind, d.windows) for d in w.drifts] for w in windows] == [
        [("input", 1), ("prediction", 0)],
        [("input", 2), ("prediction", 0)],
        [("input", 0), ("prediction", 0)],
        [("input", 1), ("prediction", 0)],
    ]
    assert [f.column.name for f in windows[0].drifts[0].far] == ["x4"]
    assert windows[0].drifted[0].column.name == "x4"
    assert {f.column.name for f in windows[0].drifts[1].columns} == {"prediction", "score"}


def test_a_window_of_too_few_rows_is_closed_and_not_judged() -> None:
    step = judged(features(300, 1), window_rows=150)
    assert of(step, WindowVerdict) == []
    assert step.after.drifting == {}


def test_a_window_that_the_clock_closed_is_judged_with_its_unfinished_subwindow() -> None:
    x = features(450, 3)
    x[:, 2] = np.nan
    counted = count_rows(Counted(), block(x), profile=PROFILE, window_rows=2_000).after
    closed = close_overdue(counted, 10**12, window_seconds=60).segments
    step = judge(Recent(), closed, profile=PROFILE, config=CONFIG)
    assert [(type(v), v.row) for v in step.verdicts] == [
        (SubwindowVerdict, -1),
        (WindowVerdict, -1),
    ]
    assert step.verdicts[0].span.rows == 450


def test_a_fall_of_confidence_is_told_in_its_row_and_a_rise_is_not() -> None:
    confidence = np.random.default_rng(0).uniform(0.7, 1.0, 4_000)
    confidence[1_300:2_600] -= 0.3
    step = judged(features(4_000, 1), confidence=confidence)
    falls = of(step, ConfidenceFell)
    assert 1_300 < falls[0].row < 1_450
    assert all(f.now < f.before and f.row < 2_600 for f in falls)
    assert falls[0].span == (0, falls[0].row * 1_000_000, falls[0].row + 1)
    assert (falls[0].before, falls[0].delta) == (pytest.approx(0.85, abs=0.01), 1e-5)
    levels = of(step, ConfidenceLevel)
    assert [v.row for v in levels] == list(range(499, 4_000, 500))
    assert levels[1].level > 0.8 > levels[4].level > 0.5
    rows = [v.row for v in step.verdicts]
    assert rows == sorted(rows)


def test_rows_without_a_score_are_passed_over() -> None:
    confidence = np.random.default_rng(0).uniform(0.7, 1.0, 4_000)
    confidence[1_300:2_600] -= 0.3
    sparse = np.full(8_000, np.nan)
    sparse[1::2] = confidence
    plain = of(judged(features(4_000, 1), confidence=confidence), ConfidenceFell)
    some = of(judged(features(8_000, 1), confidence=sparse), ConfidenceFell)
    # levels are taken at the ends of subwindows, of which there are twice as many
    assert [f.row for f in some] == [2 * f.row + 1 for f in plain]


def test_another_delta_starts_the_watch_again() -> None:
    before = judged(features(500, 1)).after
    after = judged(
        features(100, 2), before=before, config=replace(CONFIG, confidence_delta=1e-3)
    ).after
    assert before.confidence is not None
    assert after.confidence is not None
    assert (before.confidence.n, after.confidence.n, after.confidence.delta) == (500, 100, 1e-3)


def test_without_a_profile_only_the_confidence_is_judged() -> None:
    step = judged(features(2_000, 1), profile=None)
    assert {type(v) for v in step.verdicts} == {ConfidenceLevel}


def test_no_segments_change_nothing() -> None:
    before = judged(features(500, 1)).after
    step = judge(before, [], profile=PROFILE, config=CONFIG)
    assert step.after is before
    assert step.verdicts == []


def test_what_was_seen_under_another_profile_is_forgotten_but_for_the_confidence() -> None:
    before = judged(features(2_000, 1)).after
    again = before.restarted()
    assert (again.quartiles, again.streaks, again.drifting) == ((), {}, {})
    assert again.confidence is before.confidence


RECENT = replace(CONFIG, compare_with="recent")


def test_windows_without_a_finding_are_remembered_where_contributors_need_them() -> None:
    x = features(12_000, 2)
    x[4_000:6_000, 3] = np.nan
    assert judged(x).after.healthy == ()
    after = judged(x, config=RECENT).after
    assert [w.rows for w in after.healthy] == [2_000] * 5
    assert all(w.valid[3] == 2_000 for w in after.healthy)
    assert len(judged(features(2_000, 3), before=after, config=RECENT).after.healthy) == 5
    assert after.restarted().healthy == ()


def test_contributors_are_compared_with_recent_windows_where_that_is_asked_for() -> None:
    x = features(14_000, 2)
    x[:, 4] += 0.25  # since long ago, and no finding
    x[12_000:, 5] += 0.25
    first, *_, last = of(judged(x, config=RECENT), WindowVerdict)
    assert [d.column.name for d in first.drifted if d.clear] == ["x4"]
    assert [d.column.name for d in last.drifted if d.clear] == ["x5"]
    *_, last = of(judged(x), WindowVerdict)
    assert {d.column.name for d in last.drifted if d.clear} == {"x4", "x5"}

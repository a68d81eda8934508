"""The third stage of ``observe``: one finding for each break, from its verdict to its end."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import pytest
from monitor_blocks import SCHEMA, block, features

from redistill.streams.monitor.contract import Breach
from redistill.streams.monitor.drifted_features import DriftedFeature
from redistill.streams.monitor.finding_tracker import (
    Tracked,
    TrackedVerdicts,
    track,
)
from redistill.streams.monitor.findings import Span
from redistill.streams.monitor.reference import build_profile
from redistill.streams.monitor.reports import Origin
from redistill.streams.monitor.verdicts import (
    ConfidenceFell,
    ConfidenceLevel,
    Drift,
    SubwindowVerdict,
    Verdict,
    WindowVerdict,
)

ORIGIN = Origin(model="credit", version="7", partition=("topic", 3), provisional=False)
PROFILE = build_profile(block(features(500, 0)), SCHEMA)
NO_DRIFT = (
    Drift(kind="input", columns=[], far=[], windows=0, bins=20),
    Drift(kind="prediction", columns=[], far=[], windows=0, bins=20),
)


def at(row: int) -> Span:
    return Span(0, row * 1_000_000, row + 1)


def breach(column: int, share: float = 0.4, *, rule: str = "missing") -> Breach:
    return Breach(
        rule=rule,  # type: ignore[arg-type]
        column=column,
        name=f"x{column}",
        value=share,
        reference=0.0,
        hits=round(1_000 * share),
        rows=1_000,
        threshold=0.2,
    )


def subwindow(row: int, *breaches: Breach) -> SubwindowVerdict:
    return SubwindowVerdict(row=row, span=at(row), breaches=list(breaches))


def window(
    row: int,
    *breaches: Breach,
    lasting: Sequence[Breach] = (),
    drifted: Sequence[DriftedFeature] = (),
    drifts: tuple[Drift, Drift] = NO_DRIFT,
) -> WindowVerdict:
    return WindowVerdict(
        row=row,
        span=at(row),
        breaches=list(breaches),
        lasting=[*lasting, *breaches],
        drifted=list(drifted),
        drifts=drifts,
    )


def feature(index: int, psi: float, floor: float = 0.02) -> DriftedFeature:
    return DriftedFeature(
        index=index,
        column=PROFILE.columns[index],
        psi=psi,
        ks=0.1,
        floor=floor,
        threshold=0.25,
        rising=0.2,
        value=psi,
        noise=2 * floor,
        part=0.5,
    )


def drift(windows: int, *columns: DriftedFeature) -> tuple[Drift, Drift]:
    far = [c for c in columns if c.far]
    moved = Drift(kind="input", columns=list(columns), far=far, windows=windows, bins=20)
    return moved, NO_DRIFT[1]


def tracked(
    *verdicts: Verdict,
    before: Tracked | None = None,
    unseen: Mapping[str, Sequence[str]] | None = None,
) -> TrackedVerdicts:
    return track(before or Tracked(), verdicts, origin=ORIGIN, unseen=unseen or {})


def story(step: TrackedVerdicts) -> list[tuple[int, str, str]]:
    pairs = zip(step.rows, step.findings, strict=True)
    return [(row, f.scope, f.status) for row, f in pairs]


def test_a_break_opens_one_finding_however_long_it_goes_on() -> None:
    broken = [subwindow(row, breach(3)) for row in (499, 999)]
    step = tracked(*broken, window(1_999, breach(3)), subwindow(2_499, breach(3)))
    assert story(step) == [(499, "x3", "open")]
    assert step.findings[0].window.rows == 500
    assert list(step.after.open) == ["quality|missing|x3"]


def test_rules_and_columns_are_findings_of_their_own() -> None:
    step = tracked(subwindow(499, breach(1), breach(3), breach(3, rule="out_of_range")))
    assert [(f.scope, f.detector.name) for f in step.findings] == [
        ("x1", "contract.missing"),
        ("x3", "contract.missing"),
        ("x3", "contract.out_of_range"),
    ]


def test_more_than_five_columns_at_once_are_one_finding_that_names_the_worst_first() -> None:
    five = tracked(subwindow(499, *(breach(j) for j in range(5))))
    assert len(five.findings) == 5
    step = tracked(subwindow(499, *(breach(j, 0.3 + 0.05 * j) for j in range(6))))
    assert story(step) == [(499, "all", "open")]
    assert step.after.open["quality|missing|all"].columns == (0, 1, 2, 3, 4, 5)
    assert step.findings[0].contributors[0].column == "x5"
    assert step.findings[0].reason.startswith("6 columns at once, the worst: x5 is missing")


def test_another_group_that_breaks_the_same_rule_has_a_finding_beside_the_first() -> None:
    step = tracked(
        subwindow(499, *(breach(j) for j in range(6))),
        subwindow(999, *(breach(j) for j in range(12))),
    )
    assert list(step.after.open) == ["quality|missing|all", "quality|missing|all+"]
    assert step.after.open["quality|missing|all+"].columns == (6, 7, 8, 9, 10, 11)
    assert len({f.finding_id for f in step.findings}) == 2


def test_a_break_ends_after_two_windows_without_it() -> None:
    step = tracked(subwindow(499, breach(3)), window(1_999), window(3_999))
    assert story(step) == [(499, "x3", "open"), (3_999, "x3", "resolved")]
    ended = step.findings[-1]
    assert (ended.resolution, ended.revision) == ("reverted", 1)
    assert ended.reason.startswith("not seen for 2 windows: x3 is missing")
    assert step.after.open == {}


def test_a_break_within_relaxed_limits_goes_on_and_counts_again() -> None:
    lasting = window(3_999, lasting=[breach(3, 0.1)])
    step = tracked(subwindow(499, breach(3)), window(1_999), lasting, window(5_999))
    assert story(step) == [(499, "x3", "open")]
    assert step.after.open["quality|missing|x3"].quiet_windows == 1


def test_a_break_that_comes_back_has_another_id() -> None:
    first = tracked(subwindow(499, breach(3)), window(1_999), window(3_999))
    again = tracked(subwindow(4_499, breach(3)), before=first.after)
    assert again.findings[0].status == "open"
    assert again.findings[0].finding_id != first.findings[0].finding_id
    assert again.after.opened == {"quality|missing|x3": 2}


@pytest.mark.parametrize(("share", "told"), [(0.59, False), (0.61, True)])
def test_a_break_that_doubled_is_told_again(share: float, told: bool) -> None:
    step = tracked(subwindow(499, breach(3, 0.3)), window(1_999, breach(3, share)))
    assert [f.status for f in step.findings] == ["open", "update"][: 1 + told]
    known = step.after.open["quality|missing|x3"].finding
    assert known.statistic.value == (share if told else 0.3)


@pytest.mark.parametrize("rule", ["unit_change", "constant"])
def test_a_changed_unit_or_a_stuck_column_cannot_become_worse(rule: str) -> None:
    first, later = breach(3, 0.3, rule=rule), breach(3, 0.9, rule=rule)
    step = tracked(subwindow(499, first), window(1_999, later))
    assert [f.status for f in step.findings] == ["open"]


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [((50.0, 70.0), (900.0, 1_100.0), 2), ((50.0, 70.0), (60.0, 80.0), 1), (None, (2.0, 3.0), 2)],
)
def test_a_unit_that_changes_once_more_is_told_again(
    first: tuple[float, float] | None, second: tuple[float, float], told: int
) -> None:
    step = tracked(
        *(
            subwindow(row, dataclasses.replace(breach(3, rule="unit_change"), interval=interval))
            for row, interval in ((499, first), (2_499, second))
        )
    )
    assert [f.status for f in step.findings] == ["open", "update"][:told]
    if told == 2:
        assert (step.findings[-1].impact.low, step.findings[-1].impact.high) == second
        assert step.findings[0].finding_id == step.findings[1].finding_id


def test_a_finding_about_unseen_values_names_them() -> None:
    unseen = breach(8, rule="unseen_category")
    step = tracked(subwindow(499, unseen), unseen={"x8": ("MARS",), "x3": ("MOON",)})
    assert "never seen ('MARS')" in step.findings[0].reason


def test_drift_opens_after_two_windows_and_ends_after_three_without_it() -> None:
    far, near = feature(4, 0.9), feature(4, 0.01)
    step = tracked(
        window(1_999, drifts=drift(1, far)),
        window(3_999, drifts=drift(2, far, feature(1, 0.3), near)),
        window(5_999, drifts=drift(3, far)),
        window(7_999, drifts=drift(0, near)),
        window(9_999, drifts=drift(0, feature(4, 0.2))),  # neither far nor near
        window(11_999, drifts=drift(0, near)),
        window(13_999, drifts=drift(0, near)),
        window(15_999, drifts=drift(0, near)),
    )
    assert story(step) == [(3_999, "all", "open"), (15_999, "all", "resolved")]
    opened = step.findings[0]
    assert (opened.kind, opened.severity, opened.detector.parameters) == (
        "input",
        "info",
        {"windows": 2, "bins": 20},
    )
    assert opened.reason.startswith("2 of 3 columns moved: x4, x1;")
    assert [c.column for c in opened.contributors] == ["x4", "x1"]
    assert (opened.statistic.value, opened.statistic.threshold) == (0.9, 0.25)


def test_columns_beyond_what_chance_gives_are_contributors_of_the_newest_window() -> None:
    drifted = [feature(4, 0.9), feature(1, 0.041), feature(2, 0.039)]
    step = tracked(window(1_999, drifted=drifted))
    assert [c.column for c in step.after.drifted] == ["x4", "x1"]
    many = tracked(window(1_999, drifted=[feature(0, 1.0)] * 12))
    assert len(many.after.drifted) == 10
    assert tracked(window(3_999), before=many.after).after.drifted == ()


def fell(row: int, before: float = 0.9, now: float = 0.8) -> ConfidenceFell:
    return ConfidenceFell(row=row, span=at(row), before=before, now=now, width=32, delta=1e-5)


def level(row: int, value: float, *, width: int = 500) -> ConfidenceLevel:
    return ConfidenceLevel(row=row, span=at(row), level=value, width=width)


def test_a_fall_of_confidence_is_told_once_with_what_drifted_before() -> None:
    step = tracked(
        window(1_999, drifted=[feature(4, 0.9)]), fell(2_100), fell(2_200, before=0.8, now=0.6)
    )
    assert story(step) == [(2_100, "all", "open")]
    finding = step.findings[0]
    assert (finding.impact.reference, finding.impact.current) == (0.9, 0.8)
    assert [c.column for c in finding.contributors] == ["x4"]


@pytest.mark.parametrize(
    ("value", "width", "statuses"),
    [
        (0.88, 500, ["open", "resolved"]),  # within a quarter of the fall
        (0.87, 500, ["open", "update"]),  # back by more than half of it
        (0.84, 500, ["open"]),
        (0.76, 500, ["open"]),
        (0.74, 500, ["open", "update"]),  # further by more than half of it
        (0.74, 99, ["open"]),  # ADWIN's mean is not settled
    ],
)
def test_the_confidence_at_the_end_of_a_subwindow_ends_a_finding_or_tells_how_far_it_fell(
    value: float, width: int, statuses: list[str]
) -> None:
    step = tracked(fell(2_100), level(2_499, value, width=width))
    assert [f.status for f in step.findings] == statuses


def test_how_far_the_confidence_fell_is_told_once() -> None:
    step = tracked(fell(2_100), level(2_499, 0.7), level(2_999, 0.7))
    assert [f.status for f in step.findings] == ["open", "update"]
    assert step.findings[1].impact.current == 0.7
    assert step.findings[1].statistic.value == pytest.approx(0.2)


def test_a_level_without_an_open_finding_says_nothing() -> None:
    assert tracked(level(499, 0.2)).findings == []


def test_what_is_remembered_is_not_changed() -> None:
    before = tracked(subwindow(499, breach(3)), fell(600)).after
    open_, opened = dict(before.open), dict(before.opened)
    tracked(window(1_999), window(3_999, breach(5)), level(3_999, 0.9), before=before)
    assert (before.open, before.opened) == (open_, opened)


def test_no_verdicts_change_nothing() -> None:
    before = tracked(subwindow(499, breach(3))).after
    assert tracked(before=before).after is before


def test_findings_carry_whose_rows_they_are_about() -> None:
    step = track(
        Tracked(),
        [subwindow(499, breach(3))],
        origin=Origin(model="m", version="2", partition=("t", 0), provisional=True),
        unseen={},
    )
    finding = step.findings[0]
    assert (finding.model, finding.version, finding.provisional) == ("m", "2", True)
    other = tracked(subwindow(499, breach(3))).findings[0]
    assert finding.finding_id != other.finding_id


def test_open_findings_go_on_under_another_profile() -> None:
    before = tracked(subwindow(499, breach(3)), window(1_999, drifted=[feature(4, 0.9)])).after
    after = before.restarted()
    assert (after.open, after.opened, after.drifted) == (before.open, before.opened, ())

"""Each rule alone on symptoms that are written down, and what the order of the rules is for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from redistill.compress.judge import causes
from redistill.compress.judge.breakage import Broken, Tried
from redistill.compress.judge.class_mix import ClassMix
from redistill.compress.judge.diagnose import diagnose
from redistill.compress.judge.domain import Divided
from redistill.compress.judge.second_labels import SecondLabels
from redistill.compress.judge.symptoms import Symptoms
from redistill.compress.plan import ColumnCheck, Measure


def m(value: float, half: float = 4.0, n: int = 300) -> Measure:
    return Measure(value=value, low=value - half, high=value + half, n=n)


HARMED = Symptoms(
    labelled=300, tolerance_points=1.0, raised_points=14.0, lost=m(12.0), lost_at_most=15.4,
    teacher_lost=m(1.0), recoverable=m(11.0), recoverable_at_least=5.7, disagreement=m(0.2, 0.05), domain_auc=m(0.8, 0.02),
)  # fmt: skip
"""The teacher kept nearly all of what the student lost."""
SHARED = replace(HARMED, teacher_lost=m(11.0), recoverable=m(1.0), recoverable_at_least=-4.3)
"""It kept nothing."""
UNHARMED = replace(
    HARMED, lost=m(0.5), lost_at_most=3.9, teacher_lost=m(0.0), recoverable=m(0.5),
    recoverable_at_least=-4.8,
)  # fmt: skip


def cause(symptoms: Symptoms, **over: Any) -> str:
    return diagnose(replace(symptoms, **over)).cause


def check(column: str = "a", rule: Any = "missing", **over: Any) -> ColumnCheck:
    return ColumnCheck(**{"column": column, "rule": rule, "value": 0.4, "contributes": True} | over)


def broken(
    found: ColumnCheck | None = None,
    *,
    costs: Measure | None = None,
    regained: Measure | None = None,
    taught: Measure | None = None,
) -> dict[str, Any]:
    found = found or check()
    return {
        "checks": (found,),
        "broken": (
            Broken(
                checks=(found,),
                student=Tried(costs=costs, regained=regained),
                teacher=Tried(costs=costs, regained=taught),
            ),
        ),
    }


def mixed(explained: float, rest: float, chance: float = 1e-9) -> ClassMix:
    return ClassMix(chance=chance, moved=0.3, explained=m(explained), rest=m(rest))


# --- compression ---


def test_what_the_teacher_kept_is_a_compression_gap() -> None:
    found = diagnose(HARMED)
    assert found.cause == "compression_gap"
    assert found.repairable
    assert "11.0 points [7.0, 15.0] of the loss are the student's own" in found.why
    assert found.recoverable_points == m(11.0)


@pytest.mark.parametrize(
    "kept",
    [
        {"recoverable": m(5.0)},  # less than half
        {"recoverable_at_least": -0.1},  # sure at one look, not at a dozen
        {"recoverable_at_least": None},
    ],
)
def test_less_or_doubtful_is_no_compression_gap(kept: dict[str, Any]) -> None:
    assert cause(HARMED, **kept) != "compression_gap"


def test_a_part_that_the_teacher_kept_is_repairable_where_the_world_changed() -> None:
    kept: dict[str, Any] = {"recoverable": m(5.0), "recoverable_at_least": 0.1, "domain_auc": None}
    found = diagnose(replace(SHARED, **kept))
    assert found.cause == "concept_change"
    assert found.repairable
    assert not diagnose(SHARED).repairable


def test_fp32_that_kept_it_makes_the_ranges_stale() -> None:
    assert cause(HARMED, quantization=m(9.0), quantization_at_least=3.7) == "stale_quantization"
    assert cause(HARMED, quantization=m(9.0), quantization_at_least=-0.1) == "compression_gap"
    assert cause(HARMED, quantization=m(5.0), quantization_at_least=0.1) == "compression_gap"


# --- the world ---


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ({"domain_auc": None}, "concept_change"),
        ({"domain_auc": m(0.52, 0.03)}, "concept_change"),
        ({"divided": None}, "unknown_covariate"),
        ({"divided": Divided(same_inputs=m(10.0), moved_inputs=m(1.0), effective=90.0)}, "concept_change"),
        ({"divided": Divided(same_inputs=m(1.0), moved_inputs=m(10.0), effective=90.0)}, "unknown_covariate"),
        ({"divided": Divided(same_inputs=m(5.5, 9.0), moved_inputs=m(5.5, 9.0), effective=20.0)}, "unclear"),
        ({"teacher_lost": m(3.0), "recoverable": m(5.0, 6.0)}, "unclear"),
    ],
)  # fmt: skip
def test_loss_that_the_teacher_shares_is_the_worlds(over: dict[str, Any], expected: str) -> None:
    assert cause(SHARED, **over) == expected


def test_unknown_inputs_are_named_by_what_moved_and_matters() -> None:
    over = {"checks": (check("a", "drifted"), check("b", "drifted")), "divided": None}
    assert diagnose(replace(SHARED, **over)).columns == ("a", "b")
    assert diagnose(replace(SHARED, moved_within=("b",), **over)).columns == ("b",)


@pytest.mark.parametrize(
    ("mix", "over", "expected"),
    [
        (mixed(10.0, 1.0), {}, "prior_shift"),
        (mixed(10.0, 1.0, chance=0.2), {}, "concept_change"),
        (mixed(4.5, 7.0), {}, "concept_change"),  # less than half
        (mixed(7.0, 6.5), {}, "concept_change"),  # as much within the classes
        (mixed(10.0, 3.0), {"moved_within": ("a",)}, "concept_change"),
        (mixed(10.0, 1.0), {"moved_within": ("a",)}, "prior_shift"),  # it cost nothing
        (
            mixed(10.0, 1.0),
            {
                "moved_within": ("a",),
                "recoverable": m(7.0),
                "recoverable_at_least": 1.7,
                "teacher_lost": m(5.0),
            },
            "compression_gap",
        ),
        (
            mixed(10.0, 1.0),
            {"teacher_lost": m(1.0), "recoverable": m(11.0), "recoverable_at_least": 5.7},
            "compression_gap",
        ),
        (mixed(10.0, 1.0), {"teacher_lost": m(5.0), "recoverable": m(7.0)}, "prior_shift"),
    ],
)
def test_new_mix_of_classes_explains_what_is_lost_by_it(
    mix: ClassMix, over: dict[str, Any], expected: str
) -> None:
    assert cause(SHARED, domain_auc=None, mix=mix, **over) == expected


# --- nothing ---


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ({}, "none"),
        ({"lost_at_most": 7.1}, "unclear"),  # half of the alarm's 14 could be there
        ({"raised_points": None, "lost_at_most": 4.9}, "none"),
        ({"raised_points": None, "lost_at_most": 5.1}, "unclear"),
        ({"raised_points": 1.0, "tolerance_points": 4.0}, "none"),
        ({"recoverable": m(6.0)}, "unclear"),
        ({"mix": mixed(5.0, 0.0)}, "prior_shift"),
        ({"lost_at_most": None}, "unclear"),
    ],
)
def test_no_loss_is_none_only_where_it_is_surely_small(over: dict[str, Any], expected: str) -> None:
    assert cause(UNHARMED, **over) == expected


def test_loss_far_below_the_alarms_is_none_though_it_is_sure() -> None:
    small: dict[str, Any] = {"lost": m(3.0, 2.0), "lost_at_most": 4.7, "recoverable": m(3.0, 2.0)}
    assert cause(HARMED, raised_points=10.0, **small) == "none"
    assert cause(HARMED, raised_points=9.0, **small) == "compression_gap"
    assert cause(HARMED, raised_points=None, **small) == "compression_gap"


@pytest.mark.parametrize(
    "over", [{"labelled": 19}, {"lost": None, "labelled": 0}, {"recoverable": None}]
)
def test_too_little_is_unclear(over: dict[str, Any]) -> None:
    assert cause(HARMED, **over) == "unclear"


# --- labels ---


def test_sources_that_contradict_each_other_are_asked_first() -> None:
    second = SecondLabels(differ=m(0.2, 0.08, n=90), allowed=0.034, by_second=m(9.0))
    bug = broken(costs=m(10.0))
    assert cause(HARMED, second=second, **bug) == "labels_suspect"
    assert cause(UNHARMED, second=second) == "labels_suspect"
    usual = replace(second, allowed=0.15)
    assert cause(HARMED, second=usual) == "compression_gap"
    small = replace(second, differ=m(0.05, 0.01, n=900))  # explains 5 of 12 points
    assert cause(HARMED, second=small) == "compression_gap"


# --- broken data ---


@pytest.mark.parametrize(
    ("symptoms", "given", "expected"),
    [
        # missing values that cost what was lost, or all of it as far as is known
        (HARMED, broken(costs=m(11.0)), "data_bug"),
        (HARMED, broken(check(rule="repeated", slope=0.0, intercept=0.0), costs=m(11.0)), "data_bug"),
        (replace(HARMED, lost=m(12.0, 8.0)), broken(costs=m(5.0)), "data_bug"),
        (HARMED, broken(costs=m(5.0)), "compression_gap"),
        (HARMED, broken(costs=m(0.1, 0.3)), "compression_gap"),
        (HARMED, broken(check(open=True), costs=m(0.1, 0.3)), "compression_gap"),
        (UNHARMED, broken(costs=m(6.0)), "data_bug"),
        # a unit that gives it back
        (SHARED, broken(check(rule="rescaled"), costs=m(20.0), regained=m(10.0), taught=m(10.0)), "data_bug"),
        (SHARED, broken(check(rule="rescaled", contributes=False), regained=m(10.0), taught=m(10.0)), "data_bug"),
        (SHARED, broken(check(rule="rescaled"), costs=m(20.0), regained=m(10.0), taught=m(3.0)), "unknown_covariate"),
        # an offset must give nearly all back, a scale half of it
        (SHARED, broken(check(rule="unit_change", slope=1.0, intercept=9.0), regained=m(7.0), taught=m(10.0)), "unknown_covariate"),
        (SHARED, broken(check(rule="unit_change", slope=1.0, intercept=9.0), regained=m(10.0), taught=m(7.0)), "unknown_covariate"),
        (SHARED, broken(check(rule="unit_change", slope=3.0, intercept=9.0), regained=m(7.0), taught=m(7.0)), "data_bug"),
        (SHARED, broken(check(rule="rescaled"), costs=m(20.0), regained=m(3.0), taught=m(3.0)), "unknown_covariate"),
        # a teacher that loses nothing by it: a scale that gives the student nearly all back, at its cost
        (HARMED, broken(check(rule="rescaled", slope=2.54, intercept=0.0), regained=m(10.0), taught=m(1.0)), "data_bug"),
        (HARMED, broken(check(rule="rescaled", slope=0.4, intercept=0.0), regained=m(10.0), taught=m(-1.0)), "data_bug"),
        (HARMED, broken(check(rule="rescaled", slope=2.54, intercept=0.0), regained=m(7.0), taught=m(1.0)), "compression_gap"),
        (HARMED, broken(check(rule="rescaled", slope=2.54, intercept=0.0), regained=m(10.0), taught=m(-3.0)), "compression_gap"),
        (HARMED, broken(check(rule="rescaled", slope=2.54, intercept=0.0), regained=m(10.0), taught=m(-9.0)), "compression_gap"),
        (HARMED, broken(check(rule="rescaled", slope=1.1, intercept=9.0), regained=m(10.0), taught=m(1.0)), "compression_gap"),
        (replace(HARMED, quantization=m(10.0), quantization_at_least=4.7), broken(check(rule="rescaled", slope=2.5, intercept=0.0), regained=m(10.0), taught=m(1.0)), "stale_quantization"),
        (HARMED, broken(check(rule="unit_change", slope=2.5, intercept=0.0), regained=m(10.0), taught=m(5.0)), "compression_gap"),
        # an open finding needs no labels
        (SHARED, broken(check(rule="unit_change", open=True), costs=m(20.0), regained=m(1.0), taught=m(1.0)), "data_bug"),
        (SHARED, broken(check(rule="unit_change", open=True), costs=m(20.0), regained=m(-9.0), taught=m(-9.0)), "data_bug"),
        (SHARED, broken(check(rule="unit_change", open=True), costs=m(0.2, 0.5)), "unknown_covariate"),
        (SHARED, broken(check(rule="out_of_range", open=True)), "data_bug"),
        (SHARED, broken(check(rule="out_of_range")), "unknown_covariate"),
        # open, but among the rest
        (HARMED, {"checks": (check(rule="finding", open=True, contributes=False),)}, "compression_gap"),
        (HARMED, {"checks": (check(rule="drifted", open=True),)}, "data_bug"),
        (HARMED, {"checks": (check(rule="drifted"),)}, "compression_gap"),
    ],
)  # fmt: skip
def test_broken_columns_block_where_they_explain_the_loss(
    symptoms: Symptoms, given: dict[str, Any], expected: str
) -> None:
    found = diagnose(replace(symptoms, **given))
    assert found.cause == expected
    if expected == "data_bug":
        assert found.columns == ("a",)
        assert "mend the data first" in found.why


def test_worst_break_is_told() -> None:
    one, two = broken(costs=m(7.0)), broken(check("b"), costs=m(11.0))
    both = {"checks": one["checks"] + two["checks"], "broken": one["broken"] + two["broken"]}
    found = diagnose(replace(HARMED, **both))
    assert found.columns == ("b",)
    assert "b missing in 40% of rows" in found.why


def test_every_rule_has_its_turn_and_the_last_one_an_opinion() -> None:
    assert len({r.__name__ for r in causes.RULES}) == len(causes.RULES)
    assert causes.RULES[-1](HARMED) is not None


@pytest.mark.parametrize(
    ("moved", "worse", "over", "expected"),
    [
        (m(10.0), m(0.2, 3.0), {}, "harder_mix"),
        (m(10.0), m(-1.0, 3.0), {}, "harder_mix"),
        (m(10.0), m(6.0, 3.0), {}, "unknown_covariate"),  # it got worse as well
        (m(10.0), m(0.2, 9.0), {}, "unknown_covariate"),  # it may have
        (m(2.0), m(0.2, 3.0), {}, "unknown_covariate"),  # a mix that may not have moved
        (None, None, {}, "unknown_covariate"),
        (m(10.0), m(0.2, 3.0), {"checks": (check(open=True),)}, "data_bug"),  # it wins
        (m(10.0), m(0.2, 3.0), {"teacher_lost": m(1.0), "recoverable": m(11.0),
                                "recoverable_at_least": 5.7}, "compression_gap"),
    ],
)  # fmt: skip
def test_a_harder_mix_is_the_cause_where_it_explains_the_loss_and_nothing_got_worse(
    moved: Measure | None, worse: Measure | None, over: dict[str, Any], expected: str
) -> None:
    symptoms = replace(SHARED, mix_moved=moved, got_worse=worse)
    assert cause(symptoms, **over) == expected
    if expected == "harder_mix":
        assert "on rows of the same kind it lost" in diagnose(symptoms).why


def test_harm_of_a_slice_that_all_rows_hardly_show_is_not_called_none() -> None:
    assert cause(UNHARMED, raised_points=None) == "none"
    slices = replace(UNHARMED, raised_points=None, harmed_slices=("region=EU",))
    assert cause(slices) == "unclear"
    assert "harm is shown in region=EU" in diagnose(slices).why
    assert cause(HARMED, raised_points=None, harmed_slices=("region=EU",)) == "compression_gap"
    over = {"lost": m(2.0, 1.0), "lost_at_most": 3.0, "raised_points": 20.0}  # of an alarm before
    assert cause(SHARED, **over) == "none"
    assert cause(SHARED, **over, harmed_slices=("region=EU",)) != "none"

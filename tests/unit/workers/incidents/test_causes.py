"""What is done about each cause: a line of the table each."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from redistill.compress.plan import Cause, Diagnosis, Measure
from redistill.streams.wire import events
from redistill.workers.incidents.causes import REMEDIES
from redistill.workers.incidents.remedy import AskPerson, Nothing, Repair, WaitForLabels


def points(value: float) -> Measure:
    return Measure(value=value, low=value - 4.0, high=value + 4.0, n=300)


def of(
    cause: Any, lost: float = 10.0, kept: float = 0.0, tolerance: float | None = 1.0
) -> Diagnosis:
    return Diagnosis(
        cause=cause, why="because", student_loss_points=points(lost), teacher_loss_points=None,
        disagreement=None, labelled=300, recoverable_points=points(kept), recoverable_at_least=kept - 5.3, tolerance_points=tolerance,
    )  # fmt: skip


def test_every_cause_has_a_remedy_that_says_why() -> None:
    assert REMEDIES.keys() == set(get_args(Cause))
    for cause in get_args(Cause):
        assert "because" in REMEDIES[cause](of(cause)).why


def test_every_cause_has_its_word_on_the_wire() -> None:
    unclear = {"unclear", "undecided"}  # unknown
    assert set(get_args(Cause)) - unclear | {"unknown"} == set(get_args(events.Cause))


@pytest.mark.parametrize(
    ("cause", "expected", "says"),
    [
        ("data_bug", AskPerson, "not repaired by training"),
        ("compression_gap", Repair, "compression gap"),
        ("stale_quantization", Repair, "ranges of fresh rows"),
        ("prior_shift", Repair, "new mix of classes"),
        ("harder_mix", AskPerson, "see which slices grew"),
        ("unknown_covariate", AskPerson, "label rows like these"),
        ("concept_change", AskPerson, "teacher trained on new labels"),
        ("labels_suspect", AskPerson, "suspect"),
        ("unclear", WaitForLabels, "because"),
        ("world_changed", AskPerson, "cannot teach it"),
        ("undecided", WaitForLabels, "because"),
    ],
)
def test_cause_leads_to_its_remedy(cause: str, expected: type, says: str) -> None:
    remedy = REMEDIES[of(cause).cause](of(cause))
    assert isinstance(remedy, expected)
    assert says in remedy.why


@pytest.mark.parametrize(
    "cause", ["prior_shift", "harder_mix", "unknown_covariate", "concept_change"]
)
def test_recoverable_part_is_repaired_though_the_world_changed(cause: Any) -> None:
    remedy = REMEDIES[cause](of(cause, lost=12.0, kept=5.5))
    assert isinstance(remedy, Repair)
    assert "5.5 points [1.5, 9.5] can be recovered" in remedy.why
    unsure = REMEDIES[cause](of(cause, lost=12.0, kept=5.0))
    assert isinstance(unsure, Repair if cause == "prior_shift" else AskPerson)
    assert isinstance(REMEDIES[cause](of(cause, lost=3.0, kept=5.5)), AskPerson)  # nothing is lost


def test_prior_shift_that_the_teacher_shares_is_answered_by_correcting_scores() -> None:
    remedy = REMEDIES["prior_shift"](of("prior_shift", lost=12.0, kept=0.0))
    assert isinstance(remedy, Repair)
    assert "corrected to the new mix of classes" in remedy.why


@pytest.mark.parametrize("cause", ["data_bug", "labels_suspect"])
def test_nothing_is_repaired_by_rows_or_labels_that_are_wrong(cause: Any) -> None:
    assert isinstance(REMEDIES[cause](of(cause, lost=12.0, kept=11.0)), AskPerson)


def test_incident_of_nothing_is_closed_only_where_the_loss_is_within_the_tolerance() -> None:
    assert isinstance(REMEDIES["none"](of("none", lost=-4.0)), Nothing)
    assert isinstance(REMEDIES["none"](of("none", lost=0.0)), WaitForLabels)
    assert isinstance(REMEDIES["harmless"](of("harmless", lost=0.0, tolerance=None)), Nothing)

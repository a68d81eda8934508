"""The policy: one table of cases, and a few laws over all of them."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any, get_args

import pytest

from redistill.compress.plan import Cause, Diagnosis
from redistill.times import DAY
from redistill.workers.incidents.policy import (
    IncidentContext,
    JobBudget,
    RecentActions,
    decide,
)
from redistill.workers.incidents.remedy import (
    AskPerson,
    Nothing,
    Remedy,
    Repair,
    Wait,
    WaitForLabels,
)

NOW = 1_000_000_000_000
SUBJECT = IncidentContext(
    model="credit",
    incident_class="harm",
    level="repair",
    approval="automatic",
    has_teacher=True,
    predecessor="v1",
)
BUDGET = JobBudget(model_jobs=0, model_limit=2, fleet_jobs=0, fleet_limit=24, free_at=NOW + DAY)


def diagnosis(cause: Any) -> Diagnosis:
    return Diagnosis(
        cause=cause,
        why="because",
        student_loss_points=None,
        teacher_loss_points=None,
        disagreement=None,
        labelled=40,
    )


def ask(
    diagnosed: Diagnosis | None = None,
    *,
    budget: JobBudget = BUDGET,
    recent: RecentActions | None = None,
    **over: Any,
) -> Remedy:
    return decide(
        replace(SUBJECT, **over),
        diagnosed,
        budget=budget,
        recent=recent or RecentActions(),
        now=NOW,
    )


def test_harm_at_level_repair_is_repaired() -> None:
    assert isinstance(ask(), Repair)


@pytest.mark.parametrize(
    ("over", "says"),
    [
        ({"incident_class": "data_bug"}, "fix the pipeline"),
        ({"incident_class": "calibration"}, "not repaired automatically"),
        ({"incident_class": "serving"}, "not repaired automatically"),
        ({"level": "watch"}, "level watch"),
        ({"level": "rollback"}, "redistill rollback credit"),
        ({"level": "rollback", "predecessor": None}, "no earlier version"),
        ({"has_teacher": False}, "no teacher"),
        ({"approval": "paused"}, "paused in model.toml"),
        ({"approval": "on_request"}, "incidents approve"),
    ],
)
def test_person_is_asked_when_the_worker_may_not_act(over: dict[str, Any], says: str) -> None:
    remedy = ask(**over)
    assert isinstance(remedy, AskPerson)
    assert says in remedy.why


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        ("data_bug", AskPerson),
        ("concept_change", AskPerson),
        ("none", Nothing),
        ("unclear", WaitForLabels),
        ("compression_gap", Repair),
    ],
)
def test_diagnosis_drives_the_remedy(cause: str, expected: type) -> None:
    remedy = ask(diagnosis(cause))
    assert isinstance(remedy, expected)
    assert "because" in remedy.why


def test_waits_while_a_job_is_live() -> None:
    assert ask(recent=RecentActions(live_job="j1"), approved=True) == Wait(
        "job j1 of this model is still at work", until=None
    )


@pytest.mark.parametrize(
    "recent",
    [
        RecentActions(paused_until=NOW + 1, pause_reason="rolled back"),
        RecentActions(cooling_until=NOW + 1),
    ],
)
def test_waits_until_pause_and_cool_down_end(recent: RecentActions) -> None:
    remedy = ask(recent=recent)
    assert isinstance(remedy, Wait)
    assert remedy.until == NOW + 1
    assert isinstance(ask(recent=recent, approved=True), Repair)


def test_elapsed_pause_and_cool_down_do_not_bind() -> None:
    assert isinstance(ask(recent=RecentActions(paused_until=NOW, cooling_until=NOW)), Repair)


def test_two_failed_gates_open_the_circuit_breaker() -> None:
    assert isinstance(ask(recent=RecentActions(rejected_in_a_row=1)), Repair)
    assert isinstance(ask(recent=RecentActions(rejected_in_a_row=2)), AskPerson)
    assert isinstance(ask(recent=RecentActions(rejected_in_a_row=2), approved=True), Repair)


def test_after_three_candidates_on_fresh_rows_a_person_is_asked_and_cannot_ask_for_a_fourth() -> (
    None
):
    assert isinstance(ask(recent=RecentActions(tested=2)), Repair)
    for approved in (False, True):
        remedy = ask(recent=RecentActions(tested=3), approved=approved)
        assert isinstance(remedy, AskPerson)
        assert remedy.why.startswith("3 candidates of this incident have faced its fresh rows")
        assert "`redistill recompress credit`" in remedy.why


@pytest.mark.parametrize("spent", [{"model_jobs": 2}, {"fleet_jobs": 24}])
def test_budget_binds_even_what_a_person_approved(spent: dict[str, int]) -> None:
    remedy = ask(budget=replace(BUDGET, **spent), approved=True)
    assert isinstance(remedy, Wait)
    assert remedy.until == NOW + DAY


def test_budget_does_not_stop_a_job_that_has_begun() -> None:
    spent = replace(BUDGET, model_jobs=2)
    assert isinstance(ask(diagnosis("compression_gap"), budget=spent), Repair)


def test_never_repairs_below_level_repair_nor_a_data_bug() -> None:
    causes = [*get_args(Cause), None]
    for level, klass, approved, cause in itertools.product(
        ("watch", "rollback", "repair"), ("data_bug", "harm"), (False, True), causes
    ):
        diagnosed = None if cause is None else diagnosis(cause)
        remedy = ask(diagnosed, level=level, incident_class=klass, approved=approved)
        if isinstance(remedy, Repair):
            assert (level, klass) == ("repair", "harm")
            assert cause in (None, "compression_gap", "stale_quantization")

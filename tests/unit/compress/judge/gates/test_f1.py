from __future__ import annotations

from gate_evidence import evidence, versus

from redistill.compress.judge.gates import f1
from redistill.compress.judge.task import Classification, Regression


def test_f1_refuses_what_the_interval_shows_and_nothing_by_a_point_value() -> None:
    worse = f1.judge(evidence(trusted=versus(0, 120, 880)), f1.Limit())
    assert worse is not None
    assert worse.passed is False
    few = f1.judge(evidence(trusted=versus(0, 2, 38)), f1.Limit())
    assert few is not None
    assert "-" in few.why
    assert few.passed is True, "a point value decides nothing"


def test_f1_is_no_gate_of_numbers() -> None:
    assert f1.judge(evidence(task=Regression(clip=1.0)), f1.Limit()) is None


def test_f1_is_no_gate_where_mistakes_have_costs() -> None:
    """Twenty false alarms more for each fraud that is found may be what the owner wants."""
    task = Classification(classes=2, costs=((0.0, 1.0), (50.0, 0.0)))
    assert f1.judge(evidence(task=task, trusted=versus(0, 120, 880)), f1.Limit()) is None

from __future__ import annotations

from gate_evidence import evidence, versus

from redistill.compress.judge.evidence import Sample
from redistill.compress.judge.gates import futility
from redistill.compress.judge.task import Classification
from redistill.compress.plan import Gate, Measure


def judge(sample: Sample, limit: futility.Limit, **more: object) -> Gate:
    gate = futility.judge(evidence(fresh=sample, **more), limit)
    assert gate is not None
    return gate


def test_a_candidate_that_is_no_better_is_given_up() -> None:
    five = futility.Limit(min_gain_points=5.0)
    assert judge(versus(60, 60, 3_000), five).passed is False
    assert judge(versus(12, 12, 100), five).passed is True
    assert judge(versus(300, 100, 1_600), five).passed is True, "it gains ten points"


def test_half_of_the_measured_loss_is_asked_for_by_default() -> None:
    lost = Measure(value=10.0, low=7.0, high=13.0, n=300)
    asked = judge(versus(12, 12, 100), futility.Limit(), incident_loss=lost)
    assert "not better by 5 points" in asked.why
    unknown = judge(versus(12, 12, 100), futility.Limit())
    assert "not better by 1 points" in unknown.why


def test_no_more_is_asked_for_than_was_surely_lost() -> None:
    """An alarm is raised when a loss looks largest: 12 points that may be 4 are given back by 4."""
    few = versus(1, 1, 8)
    looks = Measure(value=12.0, low=4.0, high=20.0, n=60)
    assert "not better by 4 points" in judge(few, futility.Limit(), incident_loss=looks).why
    none = Measure(value=3.0, low=-2.0, high=8.0, n=60)
    assert "not better by 1 points" in judge(few, futility.Limit(), incident_loss=none).why


def test_a_candidate_that_is_better_by_less_is_given_up_only_where_more_was_asked_for() -> None:
    lost = Measure(value=20.0, low=18.0, high=22.0, n=900)
    better = versus(110, 30, 1_860)
    found = judge(better, futility.Limit(), incident_loss=lost)
    assert found.value is not None
    assert found.value > 20, "it is not better by 10 points"
    assert found.passed
    assert "but better all the same (e-value" in found.why
    assert judge(better, futility.Limit(min_gain_points=10.0)).passed is False
    equal = judge(versus(30, 30, 1_940), futility.Limit(), incident_loss=lost)
    assert equal.passed is False


def test_a_loss_in_answers_asks_for_no_gain_in_costs() -> None:
    """The alarm said 30 points, most of them false alarms that cost next to nothing: no candidate
    could give back 15 points of the largest cost."""
    task = Classification(classes=2, costs=((0.0, 1.0), (50.0, 0.0)))
    lost = Measure(value=30.0, low=28.0, high=32.0, n=1_000)
    alarms = versus(280, 0, 720)
    found = judge(alarms, futility.Limit(), incident_loss=lost, task=task)
    assert found.passed
    assert "not better by 0 points" in found.why


def test_without_fresh_rows_there_is_nothing_to_say() -> None:
    assert futility.judge(evidence(fresh=versus(0, 0, 0)), futility.Limit()) is None

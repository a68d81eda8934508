"""Reports: what findings about inputs say, and in which numbers."""

from __future__ import annotations

import dataclasses

import pytest

from redistill.stats import clopper_pearson
from redistill.streams.monitor.contract import Breach
from redistill.streams.monitor.findings import Span, finding_id
from redistill.streams.monitor.reports import (
    LISTED,
    Origin,
    breach_contributors,
    breach_impact,
    breach_severity,
    breach_statistic,
    breach_text,
    changed,
    confidence_impact,
    confidence_text,
    drift_impact,
    drift_text,
    opened,
)
from redistill.streams.wire.events import Contributor, Statistic

BREACH = Breach(
    rule="missing",
    column=3,
    name="income",
    value=0.4,
    reference=0.01,
    hits=200,
    rows=500,
    threshold=0.2,
)
UNIT = dataclasses.replace(BREACH, rule="unit_change", value=1.8, detail="about 1.8 x")
STUCK = dataclasses.replace(BREACH, rule="constant", value=0.25, reference=60, hits=500)
COLUMN = Contributor(column="income", distance="psi", value=1.0, noise_floor=0.1)


def finding(provisional: bool = False):  # type: ignore[no-untyped-def]
    return opened(
        Origin(model="credit", version="7", partition=("topic", 3), provisional=provisional),
        Span(1_000_000, 4_000_000, 200),
        kind="quality",
        scope="income",
        name="contract.missing",
        count=2,
        severity="critical",
        parameters={"rule": "missing"},
        statistic=Statistic(value=0.4, threshold=0.2),
        impact=breach_impact(BREACH),
        contributors=(COLUMN,),
        reason="income is missing",
    )


def test_a_finding_opens_at_the_last_of_its_rows_under_the_name_of_its_partition() -> None:
    made = finding(provisional=True)
    assert made.finding_id == finding_id(
        "credit", "7", "quality", "contract.missing@topic/3", "income", 2
    )
    assert (made.status, made.revision, made.provisional) == ("open", 0, True)
    assert made.at == made.opened_at == made.window.end
    assert (made.window.start.timestamp(), made.window.end.timestamp()) == (1, 4)
    assert (made.window.rows, made.detector.name) == (200, "contract.missing")
    assert made.contributors == [COLUMN]


def test_an_update_keeps_what_it_is_not_told_and_counts_revisions() -> None:
    before = finding()
    after = changed(before, Span(1_000_000, 9_000_000, 300), status="update", reason="worse")
    assert (after.revision, after.reason, after.severity) == (1, "worse", "critical")
    assert (after.finding_id, after.opened_at) == (before.finding_id, before.opened_at)
    assert (after.statistic, after.impact, after.contributors) == (
        before.statistic,
        before.impact,
        before.contributors,
    )
    assert after.at == after.window.end
    assert after.at.timestamp() == 9
    told = changed(before, Span(0, 1, 1), status="update", reason="x", contributors=())
    assert told.contributors == []


def test_a_finding_that_ended_is_no_more_than_information() -> None:
    ended = changed(
        finding(), Span(0, 1, 1), status="resolved", resolution="reverted", reason="over"
    )
    assert (ended.status, ended.resolution, ended.severity) == ("resolved", "reverted", "info")


def test_a_share_has_an_exact_interval_and_says_nothing_about_harm() -> None:
    impact = breach_impact(BREACH)
    assert (impact.metric, impact.reference, impact.current, impact.n) == (
        "missing_rate",
        0.01,
        0.4,
        500,
    )
    assert (impact.low, impact.high) == clopper_pearson(200, 500)
    assert (impact.harmful, impact.basis) == (None, "measured")
    assert breach_statistic(BREACH) == Statistic(value=0.4, threshold=0.2)


def test_a_change_of_unit_is_a_factor_between_its_bounds_or_none() -> None:
    impact = breach_impact(dataclasses.replace(UNIT, interval=(1.5, 2.1)))
    assert (impact.metric, impact.reference, impact.current) == ("scale_ratio", 1.0, 1.8)
    assert (impact.low, impact.high) == (1.5, 2.1)
    impact = breach_impact(UNIT)
    assert (impact.current, impact.low, impact.high) == (None, None, None)


def test_a_stuck_column_is_told_as_a_share_of_rows_and_not_by_its_value() -> None:
    assert breach_statistic(STUCK).value == 1.0
    assert (breach_impact(STUCK).reference, breach_impact(STUCK).current) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("breaches", "severity"),
    [
        ([dataclasses.replace(BREACH, hits=99)], "warning"),
        ([dataclasses.replace(BREACH, hits=100)], "critical"),
        ([dataclasses.replace(BREACH, hits=1), dataclasses.replace(UNIT, hits=1)], "critical"),
        ([dataclasses.replace(STUCK, hits=1)], "critical"),
    ],
)
def test_many_rows_or_a_broken_meaning_are_critical(breaches: list[Breach], severity: str) -> None:
    assert breach_severity(breaches) == severity


@pytest.mark.parametrize(
    ("breach", "text"),
    [
        (BREACH, "income is missing in 40.0% of 500 rows, in 1.0% of the reference"),
        (
            dataclasses.replace(BREACH, hits=500, value=1.0),
            "income is missing in all of 500 rows, in 1.0% of the reference",
        ),
        (
            dataclasses.replace(BREACH, rule="wrong_type"),
            "income has values of a wrong type in 40.0% of 500 rows",
        ),
        (
            dataclasses.replace(BREACH, rule="out_of_range"),
            "income is outside its declared range in 40.0% of 500 rows",
        ),
        (
            dataclasses.replace(BREACH, rule="unseen_category"),
            "income has values that are not declared or were never seen ('x', 'y') in 40.0% of"
            " 500 rows",
        ),
        (STUCK, "income is 0.25 in all of 500 rows, the reference has 60 different values or more"),
        (UNIT, "income looks like another unit: about 1.8 x"),
    ],
)
def test_each_rule_has_its_sentence(breach: Breach, text: str) -> None:
    assert breach_text(breach, ("x", "y")) == text


def test_the_columns_most_broken_are_named_first_and_not_all() -> None:
    many = [dataclasses.replace(BREACH, name=f"c{i}", hits=i, value=i / 500) for i in range(1, 31)]
    told = breach_contributors(many)
    assert [c.column for c in told] == [f"c{i}" for i in range(30, 30 - LISTED, -1)]
    assert (told[0].distance, told[0].value, told[0].noise_floor) == ("missing", 0.06, 0.2)


def test_drift_is_told_with_the_columns_that_drifted_most() -> None:
    assert drift_text(["a", "b"], 9) == (
        "2 of 9 columns moved: a, b; that alone says nothing about accuracy"
    )
    assert "moved: a, b, c;" in drift_text(["a", "b", "c"], 9)
    assert "a, b, c ...;" in drift_text(["a", "b", "c", "d"], 9)
    impact = drift_impact(0.7, 2_000)
    assert (impact.metric, impact.current, impact.n, impact.harmful) == ("psi", 0.7, 2_000, None)


def test_confidence_is_told_from_where_to_where() -> None:
    assert confidence_text(0.9, 0.75, settled=False).startswith(
        "confidence is falling, from 0.900 to 0.750 so far: labels"
    )
    assert confidence_text(0.9, 0.75, settled=True).startswith(
        "confidence fell from 0.900 to 0.750: labels"
    )
    impact = confidence_impact(0.9, 0.75, 40)
    assert (impact.metric, impact.reference, impact.current, impact.n) == (
        "confidence",
        0.9,
        0.75,
        40,
    )

"""Sentences about findings: figures with interval and number, slices, parts of a loss, columns."""

from __future__ import annotations

from typing import Any

import pytest

from redistill.streams.wire import sentences


def impact(**over: Any) -> dict[str, Any]:
    return {
        "metric": "accuracy", "reference": 0.95, "current": 0.4, "low": 0.3, "high": 0.5,
        "basis": "measured", "n": 1_234, "harmful": True,
    } | over  # fmt: skip


def finding(**over: Any) -> dict[str, Any]:
    return {
        "impact": impact(),
        "window": {"start": "2026-03-01T01:00:00Z", "end": "2026-03-01T05:00:00Z", "rows": 9},
        "change_point": {"low": "2026-03-01T02:00:00Z", "high": "2026-03-01T02:10:00.5Z"},
    } | over


@pytest.mark.parametrize(
    ("over", "text"),
    [
        ({}, "error 5.0% → 60.0% [50.0, 70.0], measured on 1,234 labels"),
        (
            {"reference": None, "harmful": None},
            "error 60.0% [50.0, 70.0], measured on 1,234 labels; whether that is harm is not known",
        ),
        (
            {
                "metric": "missing_rate",
                "reference": 0.0,
                "current": 1.0,
                "low": None,
                "basis": "estimated",
            },
            "missing rate 0.0% → 100.0%, estimated on 1,234 rows; its effect on accuracy is not measured",
        ),
        (
            {
                "metric": "scale_ratio",
                "reference": 1.0,
                "current": 1030.2,
                "low": 975,
                "high": 1098,
            },
            "values x 1,030 [975, 1,098], measured on 1,234 rows; its effect on accuracy is not measured",
        ),
        (
            {"metric": "psi", "reference": None, "current": 0.4128, "low": None, "high": None},
            "PSI 0.413, measured on 1,234 rows; its effect on accuracy is not measured",
        ),
        ({"current": None}, ""),
    ],
)
def test_how_bad_it_is_has_interval_basis_and_number(over: dict[str, Any], text: str) -> None:
    assert sentences.how_bad(impact(**over)) == text


def test_the_first_line_says_since_when() -> None:
    assert sentences.headline(finding()) == (
        "error 5.0% → 60.0% [50.0, 70.0], measured on 1,234 labels, since 2026-03-01 02:10 UTC"
    )
    assert sentences.since(finding(change_point=None)) == "since 2026-03-01 01:00 UTC"
    assert sentences.since({}) == ""
    assert sentences.headline({}) == ""


WORSE = {
    "key": "region", "value": "EU", "n": 300, "reference": 0.95, "current": 0.6, "low": 0.5,
    "high": 0.7,
}  # fmt: skip


def test_where_names_the_slice_and_what_is_outside_it() -> None:
    outside = {"value": 0.004, "low": -0.01, "high": 0.02, "basis": "measured", "n": 900}
    told = finding(localised_to="region=EU", outside=outside, slices=[WORSE | {"expected": 0.94}])
    assert sentences.where(told) == (
        "in region=EU: error 40.0% [30.0, 50.0] on 300 labels, 6.0% expected;"
        " outside it +0.4 points [-1.0, +2.0] beyond what was expected"
    )
    assert sentences.where(finding(localised_to="region=EU")) == "in region=EU"


def test_where_says_that_no_slice_is_named_and_which_are_surely_worse() -> None:
    assert sentences.where(finding()) == "everywhere, or not localised yet"
    told = finding(slices=[WORSE, WORSE | {"value": "US", "high": 0.96}])
    assert sentences.where(told) == (
        "everywhere, or not localised yet; worst: region=EU: error 40.0% [30.0, 50.0] on 300 labels"
    )
    assert sentences.where(finding(impact=impact(metric="missing_rate"))) == ""
    assert sentences.where({}) == ""


def test_a_loss_is_split_into_the_mix_and_the_model() -> None:
    part = {"value": 0.052, "low": 0.04, "high": 0.06, "basis": "estimated", "n": 500}
    told = finding(
        mix_moved=part, got_worse=part | {"value": -0.001, "low": -0.02, "basis": "measured"}
    )
    assert sentences.parts(told) == (
        "of that +5.2 points [+4.0, +6.0] because harder rows came (estimated),"
        " -0.1 points [-2.0, +6.0] because it got worse on like rows (measured)"
    )
    assert sentences.parts(finding()) == ""


def test_columns_that_moved_are_named_with_what_chance_gives() -> None:
    column = {"column": "income", "distance": "psi", "value": 0.48, "noise_floor": 0.02}
    found = [finding(contributors=[column, column | {"column": f"x{i}"}]) for i in range(5)]
    assert sentences.moved(found) == (
        "moved: income (PSI 0.48, chance gives 0.02), x0 (PSI 0.48, chance gives 0.02),"
        " x1 (PSI 0.48, chance gives 0.02)"
    )
    assert sentences.moved([{}]) == ""


def test_names_that_services_chose_steer_nothing_and_are_cut() -> None:
    evil = "a\x1b[2J\u202e\nb" * 50
    column = {"column": evil, "distance": evil, "value": 1.0, "noise_floor": 0.1}
    text = sentences.moved([{"contributors": [column]}])
    assert text.isprintable()
    assert len(text) < 150
    slice_ = WORSE | {"key": evil, "value": evil}
    for told in (
        finding(slices=[slice_]),
        finding(slices=[slice_], localised_to=f"{evil}={evil}"),
        finding(localised_to=evil),
    ):
        assert sentences.where(told).isprintable()
        assert len(sentences.where(told)) < 300


def test_measured_harm_of_everything_says_most() -> None:
    whole, slice_ = finding(scope="all"), finding(scope="slice:region=EU")
    shift = finding(impact=impact(harmful=None), scope="all")
    assert sentences.main_finding([shift, slice_, whole]) is whole
    assert sentences.main_finding([]) == {}


def test_one_label_is_one() -> None:
    one = impact(n=1)
    assert sentences.how_bad(one).endswith("measured on 1 label")
    assert sentences.loss(0.1, 0.2, None, 1) == "error 10.0% → 20.0%, measured on 1 label"
    assert "on 1 label;" in sentences.recovery(0.1, 0.2, (0.1, 0.3), 1)
    part = {"key": "a", "value": "b", "n": 1, "current": 0.0, "low": 0.0, "high": 0.975}
    told = sentences.where(finding(slices=[part], localised_to="a=b"))
    assert told.endswith(" on 1 label")

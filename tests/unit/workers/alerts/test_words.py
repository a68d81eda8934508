from __future__ import annotations

from typing import Any

import pytest

from redistill.workers.alerts import words


def impact(**over: Any) -> dict[str, Any]:
    return {
        "metric": "accuracy", "reference": 0.95, "current": 0.4, "low": 0.3, "high": 0.5,
        "basis": "measured", "n": 1_234, "harmful": True,
    } | over  # fmt: skip


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
        ({"current": None}, ""),
    ],
)
def test_how_bad_it_is_has_interval_basis_and_number(over: dict[str, Any], text: str) -> None:
    assert words.impact_text(impact(**over)) == text


def test_where_names_slices_that_are_surely_worse_and_columns_that_moved() -> None:
    worse = {
        "key": "region",
        "value": "EU",
        "n": 300,
        "reference": 0.95,
        "current": 0.6,
        "low": 0.5,
        "high": 0.7,
    }
    column = {"column": "income", "distance": "psi", "value": 0.48, "noise_floor": 0.02}
    found = {"slices": [worse, worse | {"value": "US", "high": 0.96}], "contributors": [column]}
    assert words.where_text([found]) == (
        "region=EU error 40.0% [30.0, 50.0] on 300 labels; moved: income (psi 0.48, chance gives 0.02)"
    )
    assert words.where_text([{}]) == ""


def test_names_that_services_chose_steer_nothing_and_are_cut() -> None:
    column = {
        "column": "a\x1b[2J\u202e\nb" * 50,
        "distance": "psi",
        "value": 1.0,
        "noise_floor": 0.1,
    }
    text = words.where_text([{"contributors": [column]}])
    assert text.isprintable()
    assert len(text) < 120

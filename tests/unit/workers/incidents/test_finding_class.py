from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from loop import NOW, finding

from redistill.times import SECOND
from redistill.workers.incidents.finding_class import (
    change_bounds,
    class_while_open,
    incident_class_of,
)


@pytest.mark.parametrize(
    ("over", "incident_class", "why"),
    [
        ({}, "harm", ""),
        ({"harmful": None}, None, "not established"),
        ({"harmful": False}, None, "not established"),
        ({"kind": "quality", "severity": "warning", "harmful": None}, "data_bug", ""),
        ({"kind": "quality", "severity": "info", "harmful": None}, None, "quality explains"),
        ({"kind": "calibration"}, "calibration", ""),
        ({"kind": "calibration", "harmful": None}, None, "calibration explains"),
        ({"kind": "latency"}, "serving", ""),
        ({"kind": "latency", "harmful": False}, None, "latency explains"),
        ({"kind": "confidence"}, None, "asks for labels"),
        ({"kind": "input"}, None, "input explains"),
        ({"kind": "prediction"}, None, "prediction explains"),
    ],
)
def test_class_follows_from_kind_and_measured_harm(
    over: dict[str, Any], incident_class: str | None, why: str
) -> None:
    found, reason = incident_class_of(finding(**over))
    assert found == incident_class
    assert why in reason
    assert bool(reason) == (incident_class is None)


def test_estimated_harm_calls_nobody() -> None:
    measured = finding()
    estimated = replace(measured, impact=replace(measured.impact, basis="estimated"))
    assert incident_class_of(estimated)[0] is None


@pytest.mark.parametrize(
    ("kind", "incident_class"),
    [
        ("accuracy", "harm"),
        ("quality", "data_bug"),
        ("calibration", "calibration"),
        ("latency", "serving"),
        ("input", None),
        ("confidence", None),
    ],
)
def test_class_of_a_resolved_finding_is_that_of_its_kind(
    kind: str, incident_class: str | None
) -> None:
    resolved = finding(kind=kind, status="resolved", harmful=False, severity="info")
    assert class_while_open(resolved) == incident_class


def test_change_lies_between_its_bounds_or_began_with_the_window() -> None:
    with_point = finding()
    assert change_bounds(with_point) == (NOW - 10 * SECOND, NOW - 8 * SECOND)
    assert change_bounds(replace(with_point, change_point=None)) == (
        NOW - 10 * SECOND,
        NOW - 10 * SECOND,
    )

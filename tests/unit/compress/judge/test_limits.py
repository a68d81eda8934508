"""Ranges of limits: what is refused, and in which words."""

from __future__ import annotations

import dataclasses
from datetime import date
from typing import Any

import pytest

from redistill.compress.judge import limits


@dataclasses.dataclass(frozen=True)
class Limit:
    e_value: limits.EValue = 20.0
    points: limits.Points | None = None
    rows: limits.RowCount = 50
    least_ms: limits.Milliseconds | None = None
    size: limits.ByteCount | None = None
    on: bool = False


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("e_value", 9.9, "9.9: a number from 10 to 1,000,000,000 was expected"),
        ("e_value", float("nan"), "nan: a number from 10 to 1,000,000,000 was expected"),
        ("e_value", 10**400, f"1{'0' * 36}...: a number from 10 to 1,000,000,000 was expected"),
        ("points", "3", "'3': a number from 0 to 50 was expected"),
        ("points", True, "True: a number from 0 to 50 was expected"),
        ("rows", 2.5, "2.5: a whole number from 1 to 1,000,000 was expected"),
        ("rows", None, "None: a whole number from 1 to 1,000,000 was expected"),
        ("least_ms", 0, "0: a number from 0.001 to 1,000,000 was expected"),
        ("size", 0, "0: a whole number of at least 1 was expected"),
        ("on", 1, "1: true or false was expected"),
        ("on", date(2026, 1, 2), "datetime.date(2026, 1, 2): true or false was expected"),
    ],
)
def test_a_wrong_value_is_shown_with_what_was_expected(field: str, value: Any, said: str) -> None:
    assert dict(limits.wrong(Limit, {field: value})) == {field: said}


def test_what_makes_sense_is_taken() -> None:
    good = {"e_value": 10, "points": None, "rows": 1, "least_ms": 0.001, "on": True}
    assert not [*limits.wrong(Limit, good)]
    assert not [*limits.wrong(Limit, {"no_such_field": -1})]

"""``[gates]`` of model.toml: a section for each gate, short and old keys, and what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from redistill.workers.models.spec_gates import read_gates


def read(table: dict[str, Any]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    problems: list[str] = []
    return read_gates(table, problems), problems


@pytest.mark.parametrize("table", [{"trade": True}, {"trusted": {"trade": True}}])
def test_a_trade_is_allowed_in_short_or_in_its_section(table: dict[str, Any]) -> None:
    assert read(table) == ({"trusted": {"trade": True}}, [])


def test_a_trade_stands_beside_other_limits_of_its_gate() -> None:
    given = {"trade": True, "trusted": {"margin_points": 3.0}}
    assert read(given) == ({"trusted": {"margin_points": 3.0, "trade": True}}, [])


@pytest.mark.parametrize("value", ["yes", 1])
def test_a_trade_is_true_or_false(value: object) -> None:
    found, problems = read({"trade": value})
    assert found == {}
    assert problems[0].startswith("[gates] trade = ")

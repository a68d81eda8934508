"""What judged a model, as people read it."""

from __future__ import annotations

from typing import Any

from redistill.workers.cli import common
from redistill.workers.cli.judged import gap_lines, gate_table, measured_lines


def measure(value: float, *, exact: bool = True) -> dict[str, Any]:
    low, high = (value - 0.01, value + 0.01) if exact else (None, None)
    return {"value": value, "low": low, "high": high, "n": 1_200}


def test_gates_are_told_with_their_words() -> None:
    gates = [
        {"name": "fresh", "value": 210.5, "limit": 200.0, "passed": True, "why": "better"},
        {"name": "size", "value": None, "limit": None, "passed": False, "why": "too large"},
        {"name": "trusted", "value": -1.0, "limit": -2.0, "passed": None, "why": "few rows"},
    ]
    console = common.console()
    with console.capture() as said:
        console.print(gate_table(gates))
    lines = said.get().splitlines()
    assert [line.split()[:4] for line in lines[1:4]] == [
        ["fresh", "210.5", "200", "passed"],
        ["size", "-", "-", "FAILED"],
        ["trusted", "-1", "-2", "undecided"],
    ]


def test_gaps_are_points_with_intervals_beside_chance() -> None:
    gap = {
        "key": "sex",
        "chance": 0.021,
        "accuracy": {"candidate": {"f": measure(0.8), "m": measure(0.9)}},
        "gap": {"candidate": measure(0.1), "incumbent": measure(0.08)},
        "added": {"incumbent": measure(0.02)},
    }
    assert gap_lines([gap]) == [
        "sex: f 80.0% [79.0, 81.0] of 1,200 rows, m 90.0% [89.0, 91.0] of 1,200 rows",
        "  gap of this model: 10.0 points [9.0, 11.0] (chance alone: 2.1)",
        "  gap of the one before: 8.0 points [7.0, 9.0]",
        "  added to that of the one before: +2.0 points [+1.0, +3.0]",
    ]


def test_measures_of_older_reports_are_told_as_far_as_they_go() -> None:
    assert measured_lines({}) == []
    assert measured_lines({"bytes": 1_234, "p50_ms": 0.5}) == ["1,234 bytes, p50 0.5000 ms"]
    told = measured_lines({"bytes": 1, "p50_ms": 0.1, "temperature": measure(1.4)})
    assert told[-1] == "temperature 1.4 ([1.39, 1.41], fitted to 1,200 labels)"
    told = measured_lines({"bytes": 1, "p50_ms": 0.1, "temperature": measure(1.4, exact=False)})
    assert told[-1] == "temperature 1.4 (matched to the confidence of its teacher)"

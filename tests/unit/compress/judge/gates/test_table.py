"""Registry of the gates: a file, a line of the table and a test for each, and nothing beside."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gate_evidence import evidence, versus
from msgspec import inspect

from redistill.compress.judge.gates.rule import GateRule
from redistill.compress.judge.gates.table import RULES

ROOT = Path(__file__).resolve().parents[5]
HELPERS = {"__init__", "rule", "table"}


def test_every_gate_is_a_file_a_line_and_a_test() -> None:
    files = {p.stem for p in (ROOT / "compress/judge/gates").glob("*.py")} - HELPERS
    tests = {p.stem.removeprefix("test_") for p in Path(__file__).parent.glob("test_*.py")}
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    assert set(names) == files
    assert files <= tests


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_says_what_it_is(rule: GateRule) -> None:
    module = type(rule.limit).__module__
    assert module.endswith(f".{rule.name}"), "its limit stands in its file"
    assert dataclasses.is_dataclass(rule.limit)
    assert rule.limit.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert rule.split in ("fresh", "trusted", "machine")
    assert rule.requirements


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_gate_has_its_rules_name_and_a_reason(rule: GateRule) -> None:
    for requirement in rule.requirements:
        found = rule.judge(evidence(requirement=requirement), rule.limit)
        if found is not None:
            assert found.name == rule.name
            assert found.why


def ends(rule: GateRule) -> Iterator[tuple[str, Any]]:
    """Each limit of a gate at both ends of its range."""
    kinds = typing.get_type_hints(type(rule.limit), include_extras=True)
    for name, kind in kinds.items():
        known = inspect.type_info(kind)
        for one in known.types if isinstance(known, inspect.UnionType) else (known,):
            if isinstance(one, inspect.IntType | inspect.FloatType):
                yield from ((name, value) for value in (one.ge, one.le) if value is not None)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_gate_judges_at_either_end_of_each_limits_range(rule: GateRule) -> None:
    """What a model.toml may say must not end a job in the middle of judging."""

    def rows(*counts: int) -> Any:
        few = np.arange(sum(counts)) % 3 == 0
        more: dict[str, Any] = {"groups": {"g": few, "h": ~few}, "classes": {"c": few, "d": ~few}}
        hashes = np.arange(sum(counts), dtype=np.uint64)
        return versus(*counts, **more, hashes=hashes, source=("x",) * sum(counts))

    found = evidence(fresh=rows(8, 3, 89), trusted=rows(5, 5, 290), labels_in_loss=True)
    for name, value in ends(rule):
        gate = rule.judge(found, dataclasses.replace(rule.limit, **{name: value}))
        assert gate is None or gate.name == rule.name, (name, value)

from __future__ import annotations

from typing import Any

import pytest
from gate_evidence import evidence, machines, versus

from redistill.compress.judge.evidence import Machine
from redistill.compress.judge.gates import gain

SAME = {"fresh": versus(1, 1, 998), "trusted": versus(2, 1, 997), "requirement": "keep"}


@pytest.mark.parametrize(
    ("found", "passed"),
    [
        ({}, False),
        ({"machine": machines(incumbent=Machine(bytes=33_300))}, False),  # 90.1% of it
        ({"machine": machines(incumbent=Machine(bytes=33_400))}, True),
        ({"machine": machines(incumbent=Machine(bytes=30_000, p50_ms=0.056))}, True),
        ({"fresh": versus(30, 3, 967)}, True),
        ({"trusted": versus(20, 2, 978)}, True),
    ],
)
def test_gain_is_better_smaller_or_faster(found: dict[str, Any], passed: bool) -> None:
    gate = gain.judge(evidence(**SAME | found), gain.Limit())
    assert gate is not None
    assert gate.passed is passed

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


@pytest.mark.parametrize(
    ("own", "incumbent", "passed"),
    [
        (0.27, 0.04, False),  # within what gate `latency` lets pass
        (0.09, 0.06, True),
        (0.091, 0.06, False),
        (0.05, 0.02, True),  # the call costs more than either model
        (None, 0.04, True),
    ],
)
def test_smaller_but_slower_is_no_gain(own: float | None, incumbent: float, passed: bool) -> None:
    """A scheduled job would replace what is faster by what is no better."""
    machine = machines({"p50_ms": own}, incumbent=Machine(bytes=60_000, p50_ms=incumbent))
    gate = gain.judge(evidence(**SAME | {"machine": machine}), gain.Limit())
    assert gate is not None
    assert gate.passed is passed
    assert ("but slower" in gate.why) is not passed
    better = evidence(**SAME | {"machine": machine, "trusted": versus(20, 2, 978)})
    assert gain.judge(better, gain.Limit()).passed  # type: ignore[union-attr]

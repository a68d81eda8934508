from __future__ import annotations

import pytest
from gate_evidence import evidence, machines

from redistill.compress.judge.evidence import Machine
from redistill.compress.judge.gates import throughput


@pytest.mark.parametrize(
    ("own", "incumbent", "passed"),
    [(661.0, 1_000.0, True), (659.0, 1_000.0, False), (2_000.0, 10**6, True),
     (1_999.0, 10**6, False)],
)  # fmt: skip
def test_a_candidate_may_lose_a_third_while_there_are_enough(
    own: float, incumbent: float, passed: bool
) -> None:
    other = Machine(bytes=1, rows_per_s=incumbent)
    machine = machines({"rows_per_s": own}, incumbent=other)
    gate = throughput.judge(evidence(machine=machine), throughput.Limit())
    assert gate is not None
    assert gate.passed is passed
    assert gate.value == own


def test_throughput_that_was_not_measured_is_no_gate() -> None:
    silent = machines({"rows_per_s": None})
    assert throughput.judge(evidence(machine=silent), throughput.Limit()) is None

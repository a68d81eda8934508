from __future__ import annotations

import pytest
from gate_evidence import evidence, machines

from redistill.compress.judge.evidence import Machine
from redistill.compress.judge.gates import memory

MB = 1_000_000


@pytest.mark.parametrize(
    ("own", "incumbent", "passed"),
    [(45, 30, True), (46, 30, False), (16, 1, True), (17, 1, False)],
)
def test_a_candidate_may_need_half_as_much_again_or_16_mib(
    own: int, incumbent: int, passed: bool
) -> None:
    other = Machine(bytes=1, peak_bytes=incumbent * MB)
    machine = machines({"peak_bytes": own * MB}, incumbent=other)
    gate = memory.judge(evidence(machine=machine), memory.Limit())
    assert gate is not None
    assert gate.passed is passed
    assert f"{own}.0 MB at its peak, the incumbent {incumbent}.0 MB" in gate.why


def test_memory_that_could_not_be_measured_is_no_gate() -> None:
    silent = machines({"peak_bytes": None})
    assert memory.judge(evidence(machine=silent), memory.Limit()) is None
    other = machines(incumbent=Machine(bytes=1))
    assert memory.judge(evidence(machine=other), memory.Limit()) is None

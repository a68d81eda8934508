from __future__ import annotations

import pytest
from gate_evidence import evidence, machines

from redistill.compress.judge.evidence import Machine
from redistill.compress.judge.gates import latency
from redistill.compress.plan import Gate


@pytest.mark.parametrize(
    ("own", "passed", "said"),
    [
        ({"p50_ms": 0.104}, True, "fp32 student"),
        ({"p50_ms": 0.106}, False, "fp32 student"),
        ({"p95_ms": 0.31}, False, "p95"),
    ],
)
def test_latency_tells_the_limit_that_is_nearest(
    own: dict[str, float], passed: bool, said: str
) -> None:
    limit = latency.Limit(max_p95_ms=0.3, max_incumbent_ratio=3.0)
    gate = latency.judge(evidence(machine=machines(own)), limit)
    assert gate is not None
    assert gate.passed is passed
    assert said in gate.why


def alone(own: float, **others: float) -> Gate | None:
    """Of a candidate that is no quantization."""
    rivals = {role: Machine(bytes=1, p50_ms=p50) for role, p50 in others.items()}
    given = evidence(quantized=False, machine=machines({"p50_ms": own}, **rivals))
    return latency.judge(given, latency.Limit())


@pytest.mark.parametrize(
    ("own", "incumbent", "most"),
    [(0.050, 0.004, 0.05), (0.051, 0.004, 0.05), (0.30, 0.2, 0.3), (0.31, 0.2, 0.3)],
)
def test_a_candidate_may_take_half_as_long_again_or_50_microseconds(
    own: float, incumbent: float, most: float
) -> None:
    gate = alone(own, incumbent=incumbent)
    assert gate is not None
    assert gate.limit == pytest.approx(most)
    assert gate.passed is (own <= most)
    assert "the incumbent's is" in gate.why


def test_what_is_slower_than_its_teacher_is_not_compressed() -> None:
    gate = alone(0.2, incumbent=0.2, teacher=0.1)
    assert gate is not None
    assert gate.passed is False
    assert "its teacher's is 0.1000 ms" in gate.why


def test_what_a_person_adds_may_take_as_long_as_they_like() -> None:
    slow = machines({"p50_ms": 9.0, "p95_ms": 9.0})
    given = evidence(quantized=False, machine=slow, requirement="admit")
    assert latency.judge(given, latency.Limit()) is None

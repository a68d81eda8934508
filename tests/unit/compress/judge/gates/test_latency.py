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


OLD = latency.Limit(free_ms=0)


def alone(
    own: float, *, p95: float = 0.0, limit: latency.Limit | None = None, **others: float
) -> Gate | None:
    """Of a candidate that is no quantization."""
    rivals = {role: Machine(bytes=1, p50_ms=p50) for role, p50 in others.items()}
    times = {"p50_ms": own, "p95_ms": max(own, p95)}
    given = evidence(quantized=False, machine=machines(times, **rivals))
    return latency.judge(given, limit or latency.Limit())


@pytest.mark.parametrize(
    ("own", "incumbent", "most"),
    [(0.050, 0.004, 0.05), (0.051, 0.004, 0.05), (0.30, 0.2, 0.3), (0.31, 0.2, 0.3)],
)
def test_where_nothing_is_free_it_may_take_half_as_long_again_or_50_microseconds(
    own: float, incumbent: float, most: float
) -> None:
    gate = alone(own, limit=OLD, incumbent=incumbent)
    assert gate is not None
    assert gate.limit == pytest.approx(most)
    assert gate.passed is (own <= most)
    assert "the incumbent's is" in gate.why


@pytest.mark.parametrize(
    ("own", "p95", "incumbent", "most"),
    [
        (0.27, 0.31, 0.04, 0.5),  # trees after an int8 perceptron
        (0.50, 0.50, 0.04, 0.5),
        (0.27, 0.51, 0.04, 0.06),
        (0.51, 0.51, 0.04, 0.06),
        (0.89, 0.95, 0.60, 0.9),
        (0.91, 0.95, 0.60, 0.9),
    ],
)
def test_half_a_millisecond_is_never_too_slow_beside_the_incumbent(
    own: float, p95: float, incumbent: float, most: float
) -> None:
    gate = alone(own, p95=p95, incumbent=incumbent)
    assert gate is not None
    assert gate.limit == pytest.approx(most)
    assert gate.passed is (own <= most)
    assert ("p95 0.5100 ms is more than 0.5000 ms" in gate.why) is (own < 0.5 < p95)


def test_a_p95_that_was_not_measured_is_not_free() -> None:
    given = evidence(quantized=False, machine=machines({"p50_ms": 0.2, "p95_ms": None}))
    gate = latency.judge(given, latency.Limit())
    assert gate is not None
    assert (gate.passed, gate.limit) == (False, pytest.approx(0.075))


def test_what_its_owner_allows_holds_whatever_is_free() -> None:
    gate = alone(0.2, p95=0.3, limit=latency.Limit(max_p95_ms=0.29), incumbent=0.2)
    assert gate is not None
    assert (gate.passed, gate.limit) == (False, 0.29)


def test_what_is_slower_than_its_teacher_is_not_compressed() -> None:
    gate = alone(0.2, incumbent=0.2, teacher=0.1)
    assert gate is not None
    assert gate.passed is False
    assert "its teacher's is 0.1000 ms" in gate.why


def test_what_a_person_adds_may_take_as_long_as_they_like() -> None:
    slow = machines({"p50_ms": 9.0, "p95_ms": 9.0})
    given = evidence(quantized=False, machine=slow, requirement="admit")
    assert latency.judge(given, latency.Limit()) is None

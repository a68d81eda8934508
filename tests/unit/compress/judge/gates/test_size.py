from __future__ import annotations

from typing import Any

import pytest
from gate_evidence import evidence, machines

from redistill.compress.judge.evidence import Machine
from redistill.compress.judge.gates import size
from redistill.compress.plan import Gate


def judge(own: int, limit: size.Limit | None = None, **fields: Any) -> Gate | None:
    others = {k: Machine(bytes=v) for k, v in fields.items() if k in ("incumbent", "teacher")}
    rest = {k: v for k, v in fields.items() if k not in others}
    machine = machines({"bytes": own}, **others)
    return size.judge(evidence(machine=machine, **rest), limit or size.Limit())


@pytest.mark.parametrize(("most", "passed"), [(30_000, True), (29_999, False)])
def test_size_passes_up_to_what_is_allowed(most: int, passed: bool) -> None:
    gate = judge(30_000, size.Limit(max_bytes=most))
    assert gate is not None
    assert (gate.value, gate.limit, gate.passed) == (30_000.0, float(most), passed)


@pytest.mark.parametrize(
    ("own", "incumbent", "most"),
    [(65_536, 480, 65_536), (65_537, 480, 65_536), (615_000, 480, 65_536),
     (150_000, 100_000, 150_000), (150_001, 100_000, 150_000)],
)  # fmt: skip
def test_a_candidate_may_grow_by_half_or_up_to_64_kb(own: int, incumbent: int, most: int) -> None:
    gate = judge(own, incumbent=incumbent)
    assert gate is not None
    assert (gate.limit, gate.passed) == (most, own <= most)
    assert f"the incumbent has {incumbent:,}" in gate.why


def test_what_is_larger_than_its_teacher_is_not_compressed() -> None:
    gate = judge(60_000, teacher=20_000)
    assert gate is not None
    assert (gate.limit, gate.passed) == (24_096.0, False)
    assert gate.why == "60,000 bytes, its teacher has 20,000: at most 24,096"
    like = judge(20_300, teacher=20_000)  # the same layers, and a temperature
    assert like is not None
    assert like.passed is True


def test_model_toml_may_allow_more() -> None:
    lax = size.Limit(max_incumbent_ratio=2_000.0, max_teacher_ratio=50.0)
    gate = judge(615_000, lax, incumbent=480, teacher=20_000)
    assert gate is not None
    assert gate.passed is True
    free = judge(615_000, size.Limit(free_bytes=700_000), incumbent=480)
    assert free is not None
    assert free.passed is True


@pytest.mark.parametrize("requirement", ["admit", "first"])
def test_what_a_person_adds_may_be_as_large_as_they_like(requirement: str) -> None:
    assert judge(10**7, incumbent=480, teacher=900, requirement=requirement) is None

from __future__ import annotations

from gate_evidence import evidence, machines

from redistill.compress.judge.gates import quantized


def test_a_quantization_that_does_nothing_is_told_by_size_or_by_operators() -> None:
    real = quantized.judge(evidence(), quantized.Limit())
    assert real is not None
    assert (real.passed, real.value) == (True, 0.3)
    for noop in (
        evidence(machine=machines({"bytes": 95_000})),
        evidence(integer_operators=()),
    ):
        gate = quantized.judge(noop, quantized.Limit())
        assert gate is not None
        assert gate.passed is False
    assert quantized.judge(evidence(quantized=False), quantized.Limit()) is None


def test_weights_in_16_bits_need_no_integers_but_must_save_bytes() -> None:
    half = evidence(integers=False, integer_operators=(), machine=machines({"bytes": 55_000}))
    gate = quantized.judge(half, quantized.Limit())
    assert gate is not None
    assert gate.passed
    assert "does nothing" not in gate.why
    noop = evidence(integers=False, integer_operators=(), machine=machines({"bytes": 95_000}))
    gate = quantized.judge(noop, quantized.Limit())
    assert gate is not None
    assert gate.passed is False

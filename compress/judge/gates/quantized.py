"""Gate ``quantized``: a quantization that does something; three in ten do nothing, silently."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.compress.judge.evidence import Evidence
from redistill.compress.judge.gates.rule import EVERY, GateRule
from redistill.compress.judge.limits import Ratio
from redistill.compress.plan import Gate

__all__ = ["RULE", "Limit"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """What is no quantization."""

    max_size_ratio: Ratio = 0.9
    """A "quantized" file larger than this share of the fp32 file is no quantization."""


def judge(e: Evidence, limit: Limit) -> Gate | None:
    """By the size, and by the operators that ONNX Runtime made of the graph."""
    if not e.quantized or "fp32" not in e.machine:
        return None
    ratio = e.own.bytes / e.machine["fp32"].bytes
    operators = ", ".join(e.integer_operators)
    small = ratio < limit.max_size_ratio
    why = f"{ratio:.2f} of the fp32 student's size" + ("" if small else "; a no-op leaves about 1")
    if operators:
        why += f"; the graph computes on integers with {operators}"
    elif e.integers:
        why += "; ONNX Runtime made no integer operator of it: the quantization does nothing"
    return Gate(
        name="quantized",
        value=ratio,
        limit=limit.max_size_ratio,
        passed=small and (bool(operators) or not e.integers),
        why=why,
    )


RULE = GateRule(name="quantized", split="machine", limit=Limit(), judge=judge, requirements=EVERY)

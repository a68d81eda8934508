"""Gate ``memory``: what loading and calling a model adds to a process at its peak."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.compress.judge.evidence import Evidence
from redistill.compress.judge.gates.rule import MADE, GateRule, worst
from redistill.compress.judge.limits import ByteCount, Ratio
from redistill.compress.plan import Gate

__all__ = ["RULE", "Limit"]

MB = 1e6


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """How much memory a candidate may need."""

    max_incumbent_ratio: Ratio = 1.5
    """Largest peak of resident memory, loading and calls at the serving batch, as a share of the
    incumbent's ..."""
    free_bytes: ByteCount = 16_777_216
    """... unless it is at most so many bytes: below, pages of the allocator are measured."""


def judge(e: Evidence, limit: Limit) -> Gate | None:
    """Each is measured in a process of its own; nothing is said where it could not be."""
    other = e.machine.get("incumbent")
    own = e.own.peak_bytes
    if other is None or other.peak_bytes is None or own is None:
        return None
    most = max(limit.max_incumbent_ratio * other.peak_bytes, float(limit.free_bytes))
    why = (
        f"{own / MB:.1f} MB at its peak, the incumbent {other.peak_bytes / MB:.1f} MB: at most"
        f" {most / MB:.1f} MB"
    )
    return worst("memory", [(float(own), most, why)])


RULE = GateRule(name="memory", split="machine", limit=Limit(), judge=judge, requirements=MADE)

"""Gate ``latency``: thread CPU time of a call at the serving batch."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.compress.judge.evidence import Evidence, Role
from redistill.compress.judge.gates.rule import EVERY, MADE, GateRule, worst
from redistill.compress.judge.limits import Milliseconds, Ratio
from redistill.compress.plan import Gate

__all__ = ["RULE", "Limit"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """How slow a model may be."""

    max_p95_ms: Milliseconds | None = None
    """Largest p95 of thread CPU time at the serving batch; written as `[repair] max_p95_ms`."""
    max_fp32_ratio: Ratio = 1.05
    """Largest p50 of a quantized model, as a share of the fp32 student's: slower is no gain."""
    max_incumbent_ratio: Ratio = 1.5
    """Largest p50 of a candidate that a job makes, as a share of the incumbent's ..."""
    max_teacher_ratio: Ratio = 1.0
    """... and of the teacher's ..."""
    free_ms: Milliseconds = 0.05
    """... unless it takes at most so long: there the call itself costs more than the model."""


def judge(e: Evidence, limit: Limit) -> Gate | None:
    """The limit that is missed by most, or that is nearest."""
    own, found = e.own, []
    fp32 = e.machine.get("fp32")
    if e.quantized and own.p50_ms is not None and fp32 is not None and fp32.p50_ms:
        why = f"p50 {own.p50_ms:.4f} ms of CPU time, the fp32 student's is {fp32.p50_ms:.4f} ms"
        found.append((own.p50_ms, limit.max_fp32_ratio * fp32.p50_ms, why))
    if limit.max_p95_ms is not None and own.p95_ms is not None:
        why = f"p95 {own.p95_ms:.4f} ms of CPU time at the serving batch"
        found.append((own.p95_ms, limit.max_p95_ms, why))
    rivals: tuple[tuple[Role, str, float], ...] = (
        ("incumbent", "the incumbent's", limit.max_incumbent_ratio),
        ("teacher", "its teacher's", limit.max_teacher_ratio),
    )
    for role, whose, ratio in rivals:
        other = e.machine.get(role)
        if e.requirement not in MADE or other is None or not other.p50_ms or own.p50_ms is None:
            continue
        most = max(ratio * other.p50_ms, limit.free_ms)
        why = (
            f"p50 {own.p50_ms:.4f} ms of CPU time, {whose} is {other.p50_ms:.4f} ms: at most"
            f" {most:.4f} ms"
        )
        found.append((own.p50_ms, most, why))
    return worst("latency", found)


RULE = GateRule(name="latency", split="machine", limit=Limit(), judge=judge, requirements=EVERY)

"""Gate ``latency``: thread CPU time of a call at the serving batch."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.compress.judge.evidence import Evidence, Role
from redistill.compress.judge.gates.rule import EVERY, MADE, GateRule, worst
from redistill.compress.judge.limits import Milliseconds, MillisecondsOrZero, Ratio
from redistill.compress.plan import Gate

__all__ = ["CALL_MS", "RULE", "Limit"]

CALL_MS = 0.05
"""Up to here the call itself costs more than the model: no ratio of two such times counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """How slow a model may be."""

    max_p95_ms: Milliseconds | None = None
    """Largest p95 of thread CPU time at the serving batch; written as `[repair] max_p95_ms`."""
    max_fp32_ratio: Ratio = 1.05
    """Largest p50 of a quantized model, as a share of the fp32 student's: slower is no gain."""
    max_incumbent_ratio: Ratio = 1.5
    """Largest p50 of a candidate that a job makes, as a share of the incumbent's, or 0.05 ms, where
    the call itself costs more than the model ..."""
    free_ms: MillisecondsOrZero = 0.5
    """... unless its p50 and p95 are at most so long: beside a request through a broker or HTTP,
    which takes milliseconds, nobody notices; 0: nothing is free."""
    max_teacher_ratio: Ratio = 1.0
    """Largest p50 as a share of the teacher's, or 0.05 ms: what is slower is not compressed."""


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
    rivals: tuple[tuple[Role, str, float, float], ...] = (
        ("incumbent", "the incumbent's", limit.max_incumbent_ratio, limit.free_ms),
        ("teacher", "its teacher's", limit.max_teacher_ratio, 0.0),
    )
    for role, whose, ratio, free in rivals:
        other = e.machine.get(role)
        if e.requirement not in MADE or other is None or not other.p50_ms or own.p50_ms is None:
            continue
        most = max(ratio * other.p50_ms, CALL_MS)
        why = f"p50 {own.p50_ms:.4f} ms of CPU time, {whose} is {other.p50_ms:.4f} ms: at most"
        if own.p95_ms is not None and max(own.p50_ms, own.p95_ms) <= free:
            most = max(most, free)
        elif most < own.p50_ms <= free and own.p95_ms is not None:
            why = f"p95 {own.p95_ms:.4f} ms is more than {free:.4f} ms; {why}"
        found.append((own.p50_ms, most, f"{why} {most:.4f} ms"))
    return worst("latency", found)


RULE = GateRule(name="latency", split="machine", limit=Limit(), judge=judge, requirements=EVERY)

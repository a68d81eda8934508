"""Gate ``gain``: a scheduled or manual job must be better, smaller or faster; else why publish."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.compress.judge import betting, intervals
from redistill.compress.judge.evidence import Evidence
from redistill.compress.judge.gates.latency import CALL_MS
from redistill.compress.judge.gates.rule import POINTS, GateRule
from redistill.compress.judge.gates.trusted import ONE_SIDED
from redistill.compress.judge.limits import EValue, Ratio, Share
from redistill.compress.plan import Gate

__all__ = ["RULE", "Limit"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """What is worth a release."""

    least: Share = 0.10
    """A candidate must be better, or smaller or faster by this share."""
    max_latency_ratio: Ratio = 1.5
    """Smaller is a gain only where the p50 is at most this share of the incumbent's, or 0.05 ms:
    what gate `latency` lets pass may be slower than that."""
    e_value: EValue = 100.0
    """Evidence on fresh rows that it is better."""


def judge(e: Evidence, limit: Limit) -> Gate | None:
    """Any one gain will do."""
    most, gains, ratios = 1.0 - limit.least, [], []
    sample = e.fresh
    if len(sample):
        bet = betting.e_value(sample.difference(e.task), p=sample.p, missing=sample.missing)
        if min(bet.e, bet.e_missing) >= limit.e_value:
            gains.append(f"better on fresh rows (e-value {bet.e:.3g})")
    if "incumbent" in e.trusted and len(e.trusted):
        low, _ = intervals.paired_mean(e.trusted.difference(e.task), confidence=ONE_SIDED)
        if low > 0.0:
            gains.append(f"better on trusted rows (at least {low * POINTS:+.2f} points)")
    other = e.machine.get("incumbent")
    none = f"neither better nor smaller or faster by {limit.least:.0%}"
    if other is not None and other.bytes:
        ratios.append(e.own.bytes / other.bytes)
        if ratios[-1] <= most:
            smaller = f"smaller ({ratios[-1]:.2f} of the incumbent's size)"
            if (slower := _slower(e.own.p50_ms, other.p50_ms, limit)) is None:
                gains.append(smaller)
            else:
                none = f"not better, and {smaller} but {slower}"
    if other is not None and other.p50_ms and e.own.p50_ms is not None:
        ratios.append(e.own.p50_ms / other.p50_ms)
        if ratios[-1] <= most:
            gains.append(f"faster ({ratios[-1]:.2f} of the incumbent's CPU time)")
    return Gate(
        name="gain",
        value=min(ratios) if ratios else None,
        limit=most,
        passed=bool(gains),
        why=", ".join(gains) if gains else f"no gain: {none}",
    )


def _slower(own: float | None, other: float | None, limit: Limit) -> str | None:
    """How much slower, where that is more than a smaller file makes up for."""
    if own is None or not other or own <= max(limit.max_latency_ratio * other, CALL_MS):
        return None
    return f"slower ({own / other:.2f} of the incumbent's CPU time)"


RULE = GateRule(
    name="gain", split="fresh", limit=Limit(), judge=judge, requirements=frozenset({"keep"})
)

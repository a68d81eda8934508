"""Gate ``gain``: a scheduled or manual job must be better, smaller or faster; else why publish."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.compress.judge import betting, intervals
from redistill.compress.judge.evidence import Evidence
from redistill.compress.judge.gates.rule import POINTS, GateRule
from redistill.compress.judge.gates.trusted import ONE_SIDED
from redistill.compress.judge.limits import EValue, Share
from redistill.compress.plan import Gate

__all__ = ["RULE", "Limit"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """What is worth a release."""

    least: Share = 0.10
    """A candidate must be better, or smaller or faster by this share."""
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
    if other is not None and other.bytes:
        ratios.append(e.own.bytes / other.bytes)
        if ratios[-1] <= most:
            gains.append(f"smaller ({ratios[-1]:.2f} of the incumbent's size)")
    if other is not None and other.p50_ms and e.own.p50_ms is not None:
        ratios.append(e.own.p50_ms / other.p50_ms)
        if ratios[-1] <= most:
            gains.append(f"faster ({ratios[-1]:.2f} of the incumbent's CPU time)")
    return Gate(
        name="gain",
        value=min(ratios) if ratios else None,
        limit=most,
        passed=bool(gains),
        why=", ".join(gains)
        if gains
        else f"no gain: neither better nor smaller or faster by {limit.least:.0%}",
    )


RULE = GateRule(
    name="gain", split="fresh", limit=Limit(), judge=judge, requirements=frozenset({"keep"})
)

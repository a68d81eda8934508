"""Gate ``throughput``: rows a second on one thread, in calls of the serving batch."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.compress.judge.evidence import Evidence
from redistill.compress.judge.gates.rule import MADE, GateRule
from redistill.compress.judge.limits import Rate, Share
from redistill.compress.plan import Gate

__all__ = ["RULE", "Limit"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """How few rows a candidate may manage."""

    least_incumbent_share: Share = 0.66
    """Least rows a second, as a share of the incumbent's ..."""
    enough_rows_per_s: Rate = 2_000.0
    """... unless there are at least so many: calls of one row that take 0.5 ms, which gate
    `latency` lets pass."""


def judge(e: Evidence, limit: Limit) -> Gate | None:
    """By the mean of all timed calls: unlike the p50 it pays for slow ones, too."""
    other = e.machine.get("incumbent")
    own = e.own.rows_per_s
    if other is None or other.rows_per_s is None or own is None:
        return None
    least = min(limit.least_incumbent_share * other.rows_per_s, limit.enough_rows_per_s)
    return Gate(
        name="throughput",
        value=own,
        limit=least,
        passed=own >= least,
        why=f"{own:,.0f} rows a second of CPU time, the incumbent {other.rows_per_s:,.0f}: at"
        f" least {least:,.0f}",
    )


RULE = GateRule(name="throughput", split="machine", limit=Limit(), judge=judge, requirements=MADE)

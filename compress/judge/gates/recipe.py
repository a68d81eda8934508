"""Gate ``recipe``: at most three candidates of an incident face its fresh rows."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.compress.judge.evidence import Evidence
from redistill.compress.judge.gates.rule import GateRule
from redistill.compress.plan import Gate

__all__ = ["MOST", "RULE", "Limit"]

MOST = 3
"""Candidates of one incident that may face fresh rows, however many jobs make them: the first needs
an e-value, the second twice, the third four times as much (gate ``fresh``)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """Nothing can be set."""


def judge(e: Evidence, limit: Limit) -> Gate:
    """Which of them this one is, or would be."""
    left = 1 <= e.recipe <= MOST
    return Gate(
        name="recipe",
        value=float(e.recipe),
        limit=float(MOST),
        passed=left,
        why=f"candidate {e.recipe} of at most {MOST} of this incident that face fresh rows"
        if left
        else f"{MOST} candidates of this incident have faced its fresh rows: one more could pass by"
        " luck",
    )


RULE = GateRule(
    name="recipe", split="machine", limit=Limit(), judge=judge, requirements=frozenset({"beat"})
)

"""Gate ``loads``: the file loads and answers in a child with little memory and time."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.compress.judge.evidence import Evidence
from redistill.compress.judge.gates.rule import EVERY, GateRule
from redistill.compress.plan import Gate

__all__ = ["RULE", "Limit"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """Nothing can be set."""


def judge(e: Evidence, limit: Limit) -> Gate:
    """Whether the child refused it."""
    return Gate(
        name="loads",
        value=None,
        limit=None,
        passed=e.load_error is None,
        why=e.load_error or "loads and answers in a child with little memory and time",
    )


RULE = GateRule(name="loads", split="machine", limit=Limit(), judge=judge, requirements=EVERY)

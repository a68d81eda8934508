"""Gate ``worst_class``: no class loses much, however rare it is, on fresh and trusted rows."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.compress.judge import hurt_gate
from redistill.compress.judge.evidence import Evidence
from redistill.compress.judge.gates.rule import COMPARED, GateRule
from redistill.compress.judge.limits import ExcludedLoss, Loss, Risk, RowCount
from redistill.compress.plan import Gate

__all__ = ["RULE", "Limit"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """How much a class may lose."""

    max_loss_points: Loss = 5.0
    """A class that loses more than this, where that is no accident, refuses a candidate."""
    excluded_loss_points: ExcludedLoss = 15.0
    """A loss of so much must be excluded (one-sided 97.5% bound); until it is, the gate waits."""
    error: Risk = 0.05
    """Largest probability that a candidate that costs no class anything is ever refused here, over
    all classes and looks."""
    reach_rows: RowCount = 4_000
    """Labelled rows that are waited for at most: a class too rare for them blocks nobody."""


def judge(e: Evidence, limit: Limit) -> Gate | None:
    """See ``redistill.compress.judge.hurt``."""
    return hurt_gate.gate(
        "worst_class",
        e,
        limit,
        fresh=e.fresh.classes,
        trusted=e.trusted.classes,
        what="classes",
    )


RULE = GateRule(
    name="worst_class", split="fresh", limit=Limit(), judge=judge, requirements=COMPARED
)

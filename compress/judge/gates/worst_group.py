"""Gate ``worst_group``: no slice and no declared group loses much, on fresh and trusted rows."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.compress.judge import hurt_gate
from redistill.compress.judge.evidence import Evidence
from redistill.compress.judge.gates.rule import COMPARED, GateRule
from redistill.compress.judge.limits import ExcludedLoss, Loss, Risk, RowCount, RowCountOrAuto
from redistill.compress.plan import Gate

__all__ = ["RULE", "Limit"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """How much a slice or group may lose."""

    max_loss_points: Loss = 5.0
    """A slice or group that loses more than this, where that is no accident, refuses a
    candidate."""
    excluded_loss_points: ExcludedLoss = 15.0
    """A loss of so much must be excluded (one-sided 97.5% bound); until it is, the gate waits."""
    error: Risk = 0.05
    """Largest probability that a candidate that costs no group anything is ever refused here, over
    all groups and looks."""
    reach_rows: RowCount = 4_000
    """Labelled rows that are waited for at most: groups too small for them block nobody."""
    min_rows: RowCountOrAuto = 0
    """Labelled rows that a group needs at least before it is judged alone; smaller ones are judged
    together. 0: as many as the limits need."""


def judge(e: Evidence, limit: Limit) -> Gate | None:
    """See ``redistill.compress.judge.hurt``."""
    return hurt_gate.gate(
        "worst_group",
        e,
        limit,
        fresh=e.fresh.groups,
        trusted=e.trusted.groups,
        what="groups",
        min_rows=limit.min_rows,
    )


RULE = GateRule(
    name="worst_group", split="fresh", limit=Limit(), judge=judge, requirements=COMPARED
)

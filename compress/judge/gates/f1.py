"""Gate ``f1``: macro F1 on trusted rows, by its interval: a point value decides nothing."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.compress.judge import measures
from redistill.compress.judge.evidence import Evidence
from redistill.compress.judge.gates.rule import COMPARED, POINTS, GateRule
from redistill.compress.judge.limits import Loss, Seed
from redistill.compress.judge.task import Classification
from redistill.compress.plan import Gate

__all__ = ["RULE", "Limit"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """How much macro F1 a release may lose."""

    max_loss_points: Loss = 2.0
    """Refused where the whole 95% interval of the loss of macro F1, against the incumbent, lies
    above this."""
    seed: Seed = 0
    """Of the bootstrap."""


def judge(e: Evidence, limit: Limit) -> Gate | None:
    """Refuses what is shown; accuracy and the classes have gates that ask for proof. Where mistakes
    have costs these say what matters: F1 would refuse who takes ten false alarms for a fraud."""
    if not isinstance(e.task, Classification) or e.task.costs is not None:
        return None
    if "incumbent" not in e.trusted:
        return None
    own, other = (e.task.answers(e.trusted.scores[r]) for r in ("candidate", "incumbent"))
    m = measures.f1_difference(own, other, e.trusted.truth, e.task.classes, seed=limit.seed)
    if m.low is None or m.high is None:
        return None
    return Gate(
        name="f1",
        value=m.high * POINTS,
        limit=-limit.max_loss_points,
        passed=m.high * POINTS >= -limit.max_loss_points,
        why=f"macro F1 {m.value * POINTS:+.2f} points against the incumbent, 95% interval"
        f" [{m.low * POINTS:+.2f}, {m.high * POINTS:+.2f}], on {m.n} trusted rows",
        low=m.low * POINTS,
        high=m.high * POINTS,
    )


RULE = GateRule(name="f1", split="trusted", limit=Limit(), judge=judge, requirements=COMPARED)

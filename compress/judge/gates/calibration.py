"""Gate ``calibration``: confidence may not become much less honest, by its interval: a point value
decides nothing."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.compress.judge import calibration_error
from redistill.compress.judge.calibration_error import Confidence
from redistill.compress.judge.evidence import Evidence, Sample
from redistill.compress.judge.gates.rule import COMPARED, POINTS, GateRule
from redistill.compress.judge.limits import Loss, Seed
from redistill.compress.judge.task import Classification
from redistill.compress.plan import Gate, Measure

__all__ = ["RULE", "Limit"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """How much calibration error a release may add."""

    max_rise_points: Loss = 5.0
    """Refused where the whole 95% interval of the rise of the calibration error (the root of the
    mean squared gap between confidence and share of right answers), against the incumbent, lies
    above this: on fresh or on trusted rows."""
    seed: Seed = 0
    """Of the bootstrap."""


def judge(e: Evidence, limit: Limit) -> Gate | None:
    """The sample with the larger lower bound decides; with fewer than 200 rows it says nothing."""
    if not isinstance(e.task, Classification):
        return None
    samples = (("fresh", e.fresh), ("trusted", e.trusted))
    found = [(name, m) for name, s in samples if (m := _rise(s, limit.seed)) is not None]
    if not found:
        return None
    name, m = max(found, key=lambda f: f[1].low or 0.0)
    low, high = (m.low or 0.0) * POINTS, (m.high or 0.0) * POINTS
    return Gate(
        name="calibration",
        value=low,
        limit=limit.max_rise_points,
        passed=low <= limit.max_rise_points,
        why=f"calibration error {m.value * POINTS:+.1f} points against the incumbent, 95% interval"
        f" [{low:+.1f}, {high:+.1f}], on {m.n} {name} rows",
        have=m.n,
        low=low,
        high=high,
    )


def _rise(sample: Sample, seed: int) -> Measure | None:
    if "incumbent" not in sample:
        return None
    own, other = (Confidence.of(sample.scores[r], sample.truth) for r in ("candidate", "incumbent"))
    return calibration_error.rise(own, other, seed=seed)


RULE = GateRule(
    name="calibration", split="fresh", limit=Limit(), judge=judge, requirements=COMPARED
)

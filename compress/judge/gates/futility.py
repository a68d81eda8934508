"""Gate ``futility``: stop waiting for labels when a candidate is shown not to be worth it."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.compress.judge import betting
from redistill.compress.judge.evidence import Evidence
from redistill.compress.judge.gates import fresh
from redistill.compress.judge.gates.rule import POINTS, GateRule, said
from redistill.compress.judge.limits import EValue, Points
from redistill.compress.judge.task import Classification
from redistill.compress.plan import Gate

__all__ = ["RULE", "Limit"]

LEAST_GAIN_POINTS = 1.0
"""Where nothing says how much was lost, and for losses below two points."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """What a repair must be worth."""

    min_gain_points: Points | None = None
    """Gain on fresh rows below which a candidate is given up; by default half of the loss that was
    measured (but no more than it surely is), and one point at least. Where `[model] costs` are set
    nobody measured the loss in costs: then a candidate is given up if it is no better at all."""
    e_value: EValue = 20.0
    """Evidence against a gain of so much at which it is given up."""


def judge(e: Evidence, limit: Limit) -> Gate | None:
    """Evidence that the gain is below what is asked; without it there is still hope. Where nobody
    asked for so much, a candidate that is shown to be better by less is no waste either."""
    sample = e.fresh
    if not len(sample):
        return None
    gain = _gain(e) if limit.min_gain_points is None else limit.min_gain_points
    d = sample.difference(e.task)
    bet = betting.e_value(-d, above=-gain / POINTS, p=sample.p)
    futile, told = bet.e >= limit.e_value, ""
    if futile and limit.min_gain_points is None:
        better = betting.e_value(d, p=sample.p, missing=sample.missing)
        sure = min(better.e, better.e_missing)
        futile = sure < limit.e_value
        told = "" if futile else f", but better all the same (e-value {sure:.3g})"
    return Gate(
        name="futility",
        value=bet.e,
        limit=limit.e_value,
        passed=not futile,
        why=f"{said(e.task, d)}: {fresh.shown(bet)} that it is not better by {gain:.2g} points"
        + (": more labels are not worth waiting for" if futile else told),
    )


def _gain(e: Evidence) -> float:
    """Points that a repair must be worth where nobody said it: an alarm is raised when a loss looks
    largest, and a candidate that gives back all that was truly lost is not futile."""
    if isinstance(e.task, Classification) and e.task.costs is not None:
        return 0.0
    if e.incident_loss is None:
        return LEAST_GAIN_POINTS
    half, low = e.incident_loss.value / 2, e.incident_loss.low
    return max(LEAST_GAIN_POINTS, half if low is None else min(half, low))


RULE = GateRule(
    name="futility", split="fresh", limit=Limit(), judge=judge, requirements=frozenset({"beat"})
)

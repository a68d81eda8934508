"""Gate ``auc``: the area under the ROC curve, on trusted rows, by disjoint pairs of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from redistill.compress.judge import betting, pairs
from redistill.compress.judge.evidence import Evidence, Role, Sample
from redistill.compress.judge.gates.rule import COMPARED, POINTS, GateRule
from redistill.compress.judge.limits import EValue, Points
from redistill.compress.judge.task import Classification, Floats
from redistill.compress.plan import Gate
from redistill.stats import softmax

__all__ = ["RULE", "Limit"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """How much of the area a release may lose."""

    margin_points: Points | None = None
    """Largest loss of the area under the ROC curve against the incumbent, in hundredths (more than
    two classes: Hand and Till's mean). Not set: the gate is not asked. Each pair takes a row of
    the rarer class, so that some thousand trusted rows are needed where one class is rare."""
    e_value: EValue = 20.0
    """Evidence for "not worse by the margin", and against it."""


def judge(e: Evidence, limit: Limit) -> Gate | None:
    """By a bet on pairs: where scores and not answers are what services use."""
    sample = e.trusted
    if limit.margin_points is None or not isinstance(e.task, Classification):
        return None
    if "incumbent" not in sample or sample.hashes is None:
        return None
    own, other = (_probabilities(sample, role) for role in ("candidate", "incumbent"))
    known = np.isfinite(own).all(axis=1) & np.isfinite(other).all(axis=1)
    d = pairs.auc_differences(own[known], other[known], sample.truth[known], sample.hashes[known])
    margin = limit.margin_points / POINTS
    kept, worse = betting.e_value(d, above=-margin), betting.e_value(-d, above=margin)
    passed = True if kept.e >= limit.e_value else False if worse.e >= limit.e_value else None
    need = None
    if passed is None and len(d):
        wanted = betting.rows_to_decide(d, limit.e_value, above=-margin)
        need = None if wanted is None else round(wanted * len(sample) / len(d))
    mean = float(d.mean()) * POINTS if len(d) else 0.0
    return Gate(
        name="auc",
        value=kept.e,
        limit=limit.e_value,
        passed=passed,
        why=f"area under the ROC curve {mean:+.2f} points on {len(d)} pairs of rows: e-value"
        f" {kept.e:.3g} that it is not worse by {limit.margin_points:g} points, {worse.e:.3g} that"
        " it is",
        have=len(sample),
        need=need,
        ask="trusted rows of the rarer classes: register more of them to decide it",
    )


def _probabilities(sample: Sample, role: Role) -> Floats:
    return softmax(np.asarray(sample.scores[role], np.float64))


RULE = GateRule(name="auc", split="trusted", limit=Limit(), judge=judge, requirements=COMPARED)

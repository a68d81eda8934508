"""Gate ``agreement``: a quantized model answers like the fp32 student that it was made from.

Nobody asks who is right, so that no label is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

from redistill.compress.judge import intervals, measures
from redistill.compress.judge.evidence import Evidence, Sample
from redistill.compress.judge.gates.rule import COMPARED, GateRule
from redistill.compress.judge.limits import Share
from redistill.compress.judge.task import Classification
from redistill.compress.plan import Gate, Measure

__all__ = ["RULE", "Limit"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """How often it may differ."""

    least: Share = 0.97
    """Least share of trusted rows on which the quantized student's answer equals the fp32
    student's; on fresh rows the upper bound of the share is held to it."""


def judge(e: Evidence, limit: Limit) -> Gate | None:
    """Trusted rows are judged by their share, fresh ones by the upper bound of it: where the ranges
    of a calibration do not fit any more it shows there, and one flip among few rows says nothing
    against 97%."""
    if not e.quantized:
        return None
    found = []
    for where, sample in (("trusted", e.trusted), ("fresh", e.unlabelled)):
        if "fp32" in sample and len(sample):
            share = _agreement(e, sample)
            high = share.value if where == "trusted" or share.high is None else share.high
            found.append((high, where, share))
    if not found:
        return None
    judged, where, share = min(found, key=lambda f: f[0])
    told = "same answer as the fp32 student on"
    if not isinstance(e.task, Classification):
        told = "as near to the fp32 student's numbers as if they were the same on"
    return Gate(
        name="agreement",
        value=judged,
        limit=limit.least,
        passed=judged >= limit.least,
        low=share.low,
        high=share.high,
        why=f"{told} {share.value:.1%} of {share.n} {where} rows [{share.low:.1%},"
        f" {share.high:.1%}]",
    )


def _agreement(e: Evidence, sample: Sample) -> Measure:
    """Share of equal answers; of numbers, how near they are, as the loss measures it."""
    own, fp32 = (e.task.answers(sample.scores[r]) for r in ("candidate", "fp32"))
    if isinstance(e.task, Classification):
        return measures.agreement(own, fp32)
    apart = e.task.loss(sample.scores["candidate"], fp32)
    low, high = intervals.paired_mean(apart)
    near = 1.0 - float(apart.mean())
    return Measure(value=near, low=1.0 - high, high=min(1.0, 1.0 - low), n=len(apart))


RULE = GateRule(
    name="agreement", split="machine", limit=Limit(), judge=judge, requirements=COMPARED
)

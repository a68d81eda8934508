"""Gate ``kept``: a scheduled, manual or added model may not be worse on fresh rows by a margin."""

from __future__ import annotations

from dataclasses import dataclass

from redistill.compress.judge import betting
from redistill.compress.judge.evidence import Evidence
from redistill.compress.judge.gates import fresh
from redistill.compress.judge.gates.rule import POINTS, GateRule, said
from redistill.compress.judge.limits import EValue, Points
from redistill.compress.plan import Gate

__all__ = ["RULE", "Limit"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """How much a regular recompression may cost."""

    margin_points: Points = 1.0
    """Fresh rows may not show a larger loss than this."""
    e_value: EValue = 20.0
    """Evidence for "not worse by the margin": the 95% of the trusted gate, but anytime valid."""


def judge(e: Evidence, limit: Limit) -> Gate | None:
    """An added model may have no fresh rows; then trusted rows judge it alone."""
    sample = e.fresh
    if not len(sample):
        optional = e.requirement == "admit"
        why = "no labelled fresh rows" + (": judged on trusted rows alone" if optional else " yet")
        passed = True if optional else None
        return Gate(
            name="kept", value=None, limit=limit.e_value, passed=passed, why=why, have=0, need=None
        )
    d, margin = sample.difference(e.task), limit.margin_points / POINTS
    kept = betting.e_value(d, above=-margin, p=sample.p, missing=sample.missing)
    worse = betting.e_value(-d, above=margin, p=sample.p)
    sure = min(kept.e, kept.e_missing)
    passed = True if sure >= limit.e_value else False if worse.e >= limit.e_value else None
    why = (
        f"{said(e.task, d)}: {fresh.shown(kept)} that the candidate is not worse by"
        f" {limit.margin_points:g} points, {worse.e:.3g} that it is"
    )
    need = None
    if passed is None:
        need = fresh.rows_needed(sample, d, limit.e_value, above=-margin)
        why += fresh.unanswered(kept, limit.e_value)
    return Gate(
        name="kept", value=sure, limit=limit.e_value, passed=passed, why=why, have=len(d), need=need
    )


RULE = GateRule(
    name="kept",
    split="fresh",
    limit=Limit(),
    judge=judge,
    requirements=frozenset({"keep", "admit"}),
)

"""Gate ``fresh``: after an incident the candidate must be better than the incumbent on fresh rows,
by evidence that may be looked at any time."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from redistill.compress.judge import betting
from redistill.compress.judge.evidence import Evidence, Sample
from redistill.compress.judge.gates.rule import GateRule, said
from redistill.compress.judge.limits import EValue
from redistill.compress.judge.task import Floats
from redistill.compress.plan import Gate

__all__ = ["RULE", "Limit", "needed", "rows_needed", "shown", "unanswered"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """How much evidence is asked for."""

    e_value: EValue = 200.0
    """E-value that the first recipe of an incident needs; the second needs twice, the third four
    times as much, so that all together publish one that is not better at most once in a hundred
    incidents (Ville)."""


def needed(e: Evidence, limit: Limit) -> float:
    """The e-value that this recipe needs: the error of all of them adds up to 1/200 + 1/400 +
    1/800."""
    return float(limit.e_value * 2.0 ** (e.recipe - 1))


def judge(e: Evidence, limit: Limit) -> Gate | None:
    """Better by evidence; worse by as much evidence refuses; else more labels decide."""
    sample, threshold = e.fresh, needed(e, limit)
    if not len(sample):
        why = "no labelled fresh rows yet"
        return Gate(
            name="fresh", value=None, limit=threshold, passed=None, why=why, have=0, need=None
        )
    d = sample.difference(e.task)
    better = betting.e_value(d, p=sample.p, missing=sample.missing)
    worse = betting.e_value(-d, p=sample.p)
    sure = min(better.e, better.e_missing)
    passed = True if sure >= threshold else False if worse.e >= threshold else None
    why = f"{said(e.task, d)}: {shown(better)} that the candidate is better"
    if passed is False:
        why += f", {worse.e:.3g} that it is worse"
    need = None
    if passed is None:
        need = rows_needed(sample, d, threshold)
        why += unanswered(better, threshold)
    if e.recipe > 1:
        why += f"; recipe {e.recipe} of this incident needs {threshold:g}"
    return Gate(
        name="fresh", value=sure, limit=threshold, passed=passed, why=why, have=len(d), need=need
    )


def rows_needed(sample: Sample, d: Floats, threshold: float, *, above: float = 0.0) -> int | None:
    """Labelled rows that would decide, if the mix stays and as many requests as now are left
    unanswered, each of them the worst case."""
    absent = len(sample.missing)
    p = None if sample.p is None else np.concatenate([sample.p, sample.missing])
    all_of_them = np.concatenate([d, np.full(absent, -1.0)])
    wanted = betting.rows_to_decide(all_of_them, threshold, above=above, p=p)
    return None if wanted is None else math.ceil(wanted * len(d) / (len(d) + absent))


def unanswered(bet: betting.Bet, threshold: float) -> str:
    """Why what would be enough is not: nothing where it is not enough anyway."""
    if bet.e < threshold or bet.e_missing >= threshold:
        return ""
    return (
        f"; {bet.missing} rows that were asked for have no label: were all of them against the"
        f" candidate, it would be {bet.e_missing:.3g}"
    )


def shown(bet: betting.Bet) -> str:
    """An e-value with the rows behind it."""
    text = f"e-value {bet.e:.3g}"
    if bet.effective_n < bet.n:
        text += f" on {bet.effective_n:.0f} effective rows"
    if bet.left_out:
        text += f" ({bet.left_out} rows drawn with p < {1 / betting.W_MAX:g} left out)"
    return text


RULE = GateRule(
    name="fresh", split="fresh", limit=Limit(), judge=judge, requirements=frozenset({"beat"})
)

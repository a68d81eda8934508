"""Gates of a candidate: evidence in, a decision out, with a reason for every condition. Pure.

Each condition is a ``Gate`` that passed, failed, or could not be decided with the rows at hand.
One that failed rejects; otherwise the first that is open makes the whole wait: for labels, or for a
person where no label that comes in can help; otherwise the candidate is accepted.

Fresh labels of an incident are looked at last, and only for a candidate that nothing else refuses:
how many candidates of one incident may face them is limited, and one that is too slow spends none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from redistill.compress.judge.evidence import NOBODY, Evidence
from redistill.compress.judge.gates.rule import GateRule
from redistill.compress.judge.gates.table import RULES
from redistill.compress.judge.policy import Policy
from redistill.compress.plan import Accepted, Decision, Gate, NeedsPerson, Rejected, Undecidable
from redistill.compress.trusted_rows import MIN_RANKING_ROWS

__all__ = ["Judgement", "choose", "decide", "ranking_loss"]

OLD = "concept_change"
"""The cause under which trusted rows may hold what is true no more."""
NEW_LABELS = "trusted rows that were labelled since the concept changed"


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """A decision and the gates that it stands on."""

    decision: Decision
    gates: tuple[Gate, ...]
    faced: bool = False
    """Whether labelled fresh rows were looked at."""
    sources: tuple[str, ...] = ()
    """Who labelled those rows."""

    @property
    def open(self) -> tuple[Gate, ...]:
        """What could not be decided."""
        return tuple(g for g in self.gates if g.passed is None)


def decide(
    evidence: Evidence,
    policy: Policy,
    *,
    waived: Mapping[str, str] | None = None,
    rules: Sequence[GateRule] = RULES,
) -> Judgement:
    """Judge one candidate.

    Parameters
    ----------
    evidence
        What was found, and what has to be shown.
    policy
        What is asked.
    waived
        Gates that a person takes upon themselves, with who and why: what is not passed there
        counts as passed, and says so. No other gate can be waived than one of trusted rows: the
        evidence of harm and of gain is the fresh rows', and a file that does not load serves
        nobody.
    rules
        The gates, in the order in which they are told.

    Raises
    ------
    ValueError
        There is an incumbent to be compared with, but no comparison on trusted rows.
    """
    e = evidence
    if "verified" in policy and e.blind_at(policy["verified"].blind_auc):
        e = replace(e, fresh=e.verified())  # the sources that taught it cannot judge it
    asked = [r for r in rules if e.requirement in r.requirements]
    if e.load_error:
        asked = [r for r in asked if r.name == "loads"]
    facing = {r.name for r in asked if r.faces_fresh(e, policy[r.name])}
    found: dict[str, Gate] = {}
    spared = e.requirement == "beat" or (e.requirement == "admit" and len(e.fresh) > 0)
    for rule in sorted(asked, key=lambda r: r.name in facing):
        refused = any(g.passed is False for g in found.values())
        if refused and rule.name in facing and spared:
            break  # a look costs the incident something, or the next version that is added
        gate = rule.judge(_seen(e, rule), policy[rule.name])
        if gate is not None:
            gate = replace(gate, split=gate.split or rule.split)
            found[rule.name] = _waived(_old_concept(gate, e), (waived or {}).get(rule.name))
    gates = tuple(found[r.name] for r in asked if r.name in found)
    faced = len(e.fresh) > 0 and any(g.name in facing for g in gates)
    return Judgement(
        decision=_decision(e.variant, gates),
        gates=gates,
        faced=faced,
        sources=tuple(sorted({s for s in e.fresh.source if s})) if faced else (),
    )


def _seen(e: Evidence, rule: GateRule) -> Evidence:
    """Where a concept changed, gates of fresh rows look at no trusted ones beside: these may hold
    what was right before."""
    if e.cause == OLD and rule.split == "fresh":
        return replace(e, trusted=NOBODY)
    return e


def _old_concept(gate: Gate, e: Evidence) -> Gate:
    """For the same reason, who is wrong on trusted rows is a question to a person."""
    if e.cause != OLD or gate.split != "trusted" or gate.passed is not False:
        return gate
    return replace(gate, passed=None, need=None, ask=NEW_LABELS)


def _waived(gate: Gate, who: str | None) -> Gate:
    if who is None or gate.passed is True or gate.split != "trusted":
        return gate
    return replace(gate, passed=True, why=f"waived by {who}; {gate.why}")


def _decision(variant: str, gates: Sequence[Gate]) -> Decision:
    if failed := tuple(f"{g.name}: {g.why}" for g in gates if g.passed is False):
        return Rejected(reasons=failed)
    open_ = next((g for g in gates if g.passed is None), None)
    if open_ is None:
        return Accepted(variant=variant)
    have, why = open_.have or 0, open_.why
    if open_.ask is not None:
        return NeedsPerson(gate=open_.name, have=have, need=open_.need, why=why, ask=open_.ask)
    return Undecidable(gate=open_.name, have=have, need=open_.need, why=why)


def _machine_failures(judgement: Judgement) -> int:
    """Gates that failed without a look at any label."""
    return sum(g.passed is False and g.split == "machine" for g in judgement.gates)


def choose(judged: Sequence[tuple[Evidence, Judgement]]) -> str:
    """The variant with the best trade, without a look at a label that any gate looks at.

    Of those that load, where any does, and fail the fewest gates of the machine: within half a
    standard error of the least loss on the ranking rows, then the fastest (10% count as equal),
    then the smallest. So one variant is tested on fresh and trusted labels and not three: the
    promises of the gates are not diluted.

    Parameters
    ----------
    judged
        Each variant with its judgement; at least one.
    """
    # one that does not load fails one gate only, as nothing else was measured
    able = [(e, j) for e, j in judged if e.load_error is None] or judged
    fewest = min(_machine_failures(j) for _, j in able)
    left = [e for e, j in able if _machine_failures(j) == fewest]
    ranked = [(e, _ranking_loss(e)) for e in left if len(e.ranking) >= MIN_RANKING_ROWS]
    if ranked:
        _, best = min(ranked, key=lambda r: float(r[1].mean()))
        error = float(best.std()) / len(best) ** 0.5
        left = [e for e, loss in ranked if loss.mean() <= best.mean() + error / 2]
    times = [e.own.p50_ms for e in left if e.machine and e.own.p50_ms is not None]
    if times:
        left = [e for e in left if e.own.p50_ms is not None and e.own.p50_ms <= 1.1 * min(times)]
    return min(left, key=lambda e: (e.own.bytes if e.machine else 0, e.variant)).variant


def ranking_loss(e: Evidence) -> float | None:
    """Mean loss of a candidate on the trusted rows that only rank, which no gate looks at.

    Returns
    -------
    float or None
        ``None``: they are too few, or the candidate has no finite scores there.
    """
    if e.load_error is not None or len(e.ranking) < MIN_RANKING_ROWS:
        return None
    mean = float(_ranking_loss(e).mean())
    return mean if np.isfinite(mean) else None


def _ranking_loss(e: Evidence) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.asarray(e.task.loss(e.ranking.scores["candidate"], e.ranking.truth))

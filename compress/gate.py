"""Gate of a candidate: evidence in, a decision out, with a reason for every condition. Pure.

Each condition is a ``Gate`` that passed, failed, or could not be decided with the rows at hand.
One that failed rejects; otherwise one that is open makes the whole undecidable; otherwise the
candidate is accepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from redistill.compress.judge import gate_rules
from redistill.compress.judge.evidence import Evidence
from redistill.compress.judge.gate_rules import Requirement, Ruling
from redistill.compress.plan import Accepted, Decision, Gate, Limits, Rejected, Undecidable

__all__ = ["Judgement", "choose", "decide"]

FRESH_GATES = frozenset({"fresh_e_value", "fresh_margin_e_value", "verified_rows", "gain"})
"""Gates that look at fresh labels. ``choose`` does not, so that only one variant is tested
there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """A decision and the gates that it stands on."""

    decision: Decision
    gates: tuple[Gate, ...]
    open: tuple[Undecidable, ...] = ()
    """What could not be decided, the decision's own among it."""


def decide(evidence: Evidence, limits: Limits, *, rule: Requirement = "beat") -> Judgement:
    """Judge one variant.

    Parameters
    ----------
    evidence
        What was found.
    limits
        What is asked.
    rule
        What it has to show.

    Returns
    -------
    Judgement
        ``Rejected`` names every failed gate; ``Undecidable`` the first open one, where a missing
        second source of labels comes first, then missing labels.

    Raises
    ------
    ValueError
        There is an incumbent to be compared with, but no comparison on trusted rows.
    """
    gates: list[Gate] = [gate_rules.loads(evidence)]
    open_: list[Undecidable] = []
    if evidence.load_error is None:
        gates += [g for g in (gate_rules.size(evidence, limits),) if g is not None]
        gates += gate_rules.really_quantized(evidence, limits)
        gates += gate_rules.speed(evidence, limits)
        with_doubt: list[Ruling | None] = []
        if rule != "first":
            margin = (
                limits.trusted_margin_points if rule == "beat" else limits.scheduled_margin_points
            )
            fresh = (
                gate_rules.fresh_beat(evidence, limits)
                if rule == "beat"
                else gate_rules.fresh_keep(evidence, limits, rule)
            )
            with_doubt = [
                gate_rules.verified(evidence, limits),
                fresh,
                gate_rules.trusted(evidence, limits, margin),
                gate_rules.worst_slice(evidence, limits),
            ]
        for pair in with_doubt:
            if pair is not None:
                gate, waits = pair
                gates.append(gate)
                open_ += [waits] if waits is not None else []
        gates += [
            g
            for g in (gate_rules.f1(evidence, limits), gate_rules.agreement(evidence, limits))
            if g is not None
        ]
        if rule == "keep":
            gates.append(gate_rules.gain(evidence, limits))
    failed = tuple(f"{g.name}: {g.why}" for g in gates if g.passed is False)
    decision: Decision
    if failed:
        decision = Rejected(reasons=failed)
    elif open_:
        decision = open_[0]
    else:
        decision = Accepted(variant=evidence.variant)
    return Judgement(decision=decision, gates=tuple(gates), open=tuple(open_))


def choose(judged: Sequence[tuple[Evidence, Judgement]]) -> str:
    """The variant with the best trade, without a look at the fresh labels.

    Of those that fail no gate but perhaps a fresh one: within half a standard error of the best
    accuracy on trusted rows, then the fastest (10% count as equal), then the smallest. Since fresh
    labels have no say, one variant is tested on them and not three: the promise of the e-value
    (wrong once in a hundred) is not diluted.

    Parameters
    ----------
    judged
        Each variant with its judgement; at least one.

    Returns
    -------
    str
        Name of the variant; where all fail, of the one that fails the fewest gates.
    """

    def failures(j: Judgement) -> int:
        return sum(g.passed is False and g.name not in FRESH_GATES for g in j.gates)

    fewest = min(failures(j) for _, j in judged)
    left = [e for e, j in judged if failures(j) == fewest]
    measured = [(e, e.accuracy) for e in left if e.accuracy is not None]
    if measured:
        best = max((a for _, a in measured), key=lambda a: a.value)
        error = (best.value * (1.0 - best.value) / max(1, best.n)) ** 0.5
        left = [e for e, a in measured if a.value >= best.value - error / 2]
    times = [e.p50_ms for e in left if e.p50_ms is not None]
    if times:
        left = [e for e in left if e.p50_ms is not None and e.p50_ms <= 1.1 * min(times)]
    return min(left, key=lambda e: (e.bytes, e.variant)).variant

"""A candidate before all gates, from its first look to its last."""

from __future__ import annotations

from dataclasses import replace

from gatebench.streams import FRESH, LOOK, RULES, Outcome, Stream, judged, looks, outcome

from redistill.compress import gate
from redistill.compress.judge.evidence import NOBODY, Evidence
from redistill.compress.judge.policy import Policy

OTHERS = tuple(rule for rule in RULES if rule not in FRESH)


def published(
    stream: Stream,
    about: Evidence,
    policy: Policy,
    *,
    labels: int,
    first: int = LOOK,
    without: str | None = None,
) -> Outcome:
    """By all gates, or all but one: those that look at no fresh rows decide first, and once, since
    no label that comes in changes them; where the others accept all of them are asked, together."""
    others, of_fresh, every = (
        tuple(rule for rule in rules if rule.name != without) for rules in (OTHERS, FRESH, RULES)
    )
    found = outcome(gate.decide(replace(about, fresh=NOBODY), policy, rules=others), 0)
    if found.decision == "rejected":
        return found
    for seen in looks(stream, labels, first):
        found = judged(stream, about, policy, seen, rules=of_fresh)
        if found.decision == "accepted":
            whole = gate.decide(replace(about, fresh=stream.at(seen)), policy, rules=every)
            found = outcome(whole, seen)
        if found.decision != "open":
            break
    return found

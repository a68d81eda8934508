"""Streams of labelled rows, and the first look at which the gates decide on one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from redistill.compress import gate
from redistill.compress.gate import Judgement
from redistill.compress.judge import betting
from redistill.compress.judge.evidence import Evidence, Sample
from redistill.compress.judge.gates import fresh
from redistill.compress.judge.gates.rule import GateRule
from redistill.compress.judge.policy import Policy
from redistill.compress.plan import Accepted, NeedsPerson, Rejected

LOOK = 25
"""Labels between two looks."""
AUDITED = 400
"""Of so many streams one is judged at every look, whatever the screen says."""
NEARLY = 1.0 - 1e-9
"""The screen adds in another order than a gate."""
LEFT_OUT = ("calibration",)
"""Gates of confidence: what is simulated is who is right, and not how sure."""
RULES = tuple(rule for rule in gate.RULES if rule.name not in LEFT_OUT)
FRESH = tuple(rule for rule in RULES if rule.split == "fresh")
"""The gates whose answer changes with the labels that come in."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stream:
    """Rows in the order in which their labels were asked for; candidate and incumbent answered
    each."""

    d: Floats  # (n,) 1: only the candidate was right, -1: only the incumbent, 0: both
    p: Floats | None = None
    """``(n,)`` probabilities that our requests recorded."""
    answered: NDArray[np.bool_] | None = None
    """``(n,)``; ``None``: every one was."""
    truth: NDArray[np.int64] | None = None
    """``(n,)`` class, 0 or 1; ``None``: classes are not told apart."""
    groups: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)  # each (n,)

    @cached_property
    def labelled(self) -> NDArray[np.int64]:
        """``(labels,)`` positions of the rows that have a label."""
        return np.arange(len(self.d)) if self.answered is None else np.flatnonzero(self.answered)

    @cached_property
    def _all(self) -> Sample:
        at = self.labelled
        return sample(
            self.d[at],
            truth=None if self.truth is None else self.truth[at],
            p=None if self.p is None else self.p[at],
            groups={name: member[at] for name, member in self.groups.items()},
        )

    @cached_property
    def _unanswered(self) -> NDArray[np.int64]:
        return np.empty(0, np.int64) if self.answered is None else np.flatnonzero(~self.answered)

    def asked(self, labels: int) -> int:
        """Rows that were asked for when so many labels were there."""
        return int(self.labelled[labels - 1]) + 1 if labels else 0

    def at(self, labels: int) -> Sample:
        """What the gates see of it when so many labels are there."""
        whole, absent = self._all, self._unanswered
        absent = absent[: int(np.searchsorted(absent, self.asked(labels)))]
        return replace(
            whole,
            truth=whole.truth[:labels],
            scores={role: s[:labels] for role, s in whole.scores.items()},
            p=None if whole.p is None else whole.p[:labels],
            missing=np.ones(len(absent)) if self.p is None else self.p[absent],
            groups={name: member[:labels] for name, member in whole.groups.items()},
            classes={name: member[:labels] for name, member in whole.classes.items()},
        )


def sample(d: Floats, *, truth: NDArray[np.int64] | None = None, **fields: Any) -> Sample:
    """Rows of two classes, ``(n,)``, on which candidate and incumbent differ by ``d``."""
    classes = {} if truth is None else {"class=no": truth == 0, "class=yes": truth == 1}
    real = np.zeros(len(d), np.int64) if truth is None else truth
    return Sample(
        truth=real,
        scores={"candidate": _scores(real, d >= 0), "incumbent": _scores(real, d <= 0)},
        classes=classes,
        **fields,
    )


def _scores(truth: NDArray[np.int64], right: NDArray[np.bool_]) -> NDArray[np.float32]:
    return np.eye(2, dtype=np.float32)[np.where(right, truth, 1 - truth)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of one candidate."""

    decision: Literal["accepted", "rejected", "person", "open"]
    labels: int
    """Labels that were there when it was decided; all, where it never was."""
    gates: tuple[str, ...] = ()
    """Those that refused it; where nothing was decided, those that were open."""


Shares = float | Floats
"""One for all rows, or ``(n,)``."""


def drawn(rng: np.random.Generator, n: int, gain: Shares, churn: Shares) -> Floats:
    """Differences, ``(n,)``: ``churn`` of the rows are decided otherwise, and the candidate is
    better by ``gain``, both as shares."""
    win, loss = (churn + gain) / 2, (churn - gain) / 2
    u = rng.random(n)
    return (u < win).astype(np.float64) - ((u >= win) & (u < win + loss))


def walked(
    stream: Stream, evidence: Evidence, policy: Policy, *, labels: int, first: int = LOOK
) -> Outcome:
    """Judge at each look until the gates of fresh rows decide, or so many labels were there; the
    first look is at ``first`` labels."""
    found = Outcome(decision="open", labels=0)
    for seen in looks(stream, labels, first):
        found = judged(stream, evidence, policy, seen)
        if found.decision != "open":
            break
    return found


def looks(stream: Stream, labels: int, first: int = LOOK) -> range:
    """Numbers of labels at which one looks."""
    return range(first, min(labels, len(stream.labelled)) + 1, LOOK)


def judged(
    stream: Stream,
    evidence: Evidence,
    policy: Policy,
    labels: int,
    *,
    rules: Sequence[GateRule] = FRESH,
) -> Outcome:
    """One look, by the gates themselves."""
    found = gate.decide(replace(evidence, fresh=stream.at(labels)), policy, rules=rules)
    return outcome(found, labels)


def outcome(found: Judgement, labels: int) -> Outcome:
    """A judgement in a word."""
    decisions = {Accepted: "accepted", Rejected: "rejected", NeedsPerson: "person"}
    decision: Any = decisions.get(type(found.decision), "open")
    speaks = None if decision in ("open", "person") else False
    names = tuple(g.name for g in found.gates if g.passed is speaks)
    return Outcome(decision=decision, labels=labels, gates=names)


@dataclass(frozen=True, kw_only=True, slots=True)
class Screen:
    """Looks at which nothing can be decided are passed over: the evidence that a gate asks for is not
    there. It only saves time: what decides is ``gate.decide``, and every
    ``AUDITED``-th stream is judged at all looks, and must come out the same.

    Streams with groups have no screen: those have gates of their own.
    """

    evidence: Evidence
    policy: Policy
    gain: float
    """The share below which the gate of futility gives up."""

    def first(self, stream: Stream, *, labels: int, number: int = 0) -> Outcome:
        """As ``walked``; ``number`` of the stream says whether it is audited."""
        found = self._first(stream, labels)
        if number % AUDITED == 0:
            checked = walked(stream, self.evidence, self.policy, labels=labels)
            if checked != found:
                raise RuntimeError(f"the screen passed over a look that decides: {checked}")
        return found

    def _first(self, stream: Stream, labels: int) -> Outcome:
        found = Outcome(decision="open", labels=0)
        for seen in self.worth_a_look(stream, labels):
            found = judged(stream, self.evidence, self.policy, int(seen))
            if found.decision != "open":
                break
        return found

    def worth_a_look(self, stream: Stream, labels: int) -> NDArray[np.int64]:
        """Numbers of labels at which a gate may decide, and the last."""
        at = np.array(looks(stream, labels), np.int64)
        d, p = stream.d[stream.labelled], stream.p
        has = None if p is None else p[stream.labelled]
        worst = d if stream.answered is None else np.where(stream.answered, stream.d, -1.0)
        asked = [stream.asked(int(n)) for n in at]
        much = fresh.needed(self.evidence, self.policy["fresh"]) * NEARLY
        few = self.policy["futility"].e_value * NEARLY
        may = betting.e_values(worst, asked, p=p) >= much
        may |= betting.e_values(-d, at, p=has) >= much
        may |= betting.e_values(-d, at, above=-self.gain, p=has) >= few
        may[-1:] = True
        return at[may]

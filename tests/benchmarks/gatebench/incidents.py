"""Incidents from the first candidate to the end, on the level of evidence: what is published.

No model is trained and no graph is run. Simulated are the candidates' worth, their answers on labelled
rows, the labels' arrival and the loop over recipes; what is decided is decided by ``gate.decide``
with all gates but those of ``LEFT_OUT``. The diagnosis is simulated by its result: a part of the incidents is repaired although
there is nothing to repair.

The truth model, drawn anew for each incident and independently, unless said otherwise:

* The incumbent lost 4 to 60 points (log-uniform). The loss that the diagnosis measured, which futility
  goes by, is off by a standard error of 3 points.
* Cause: in 55% a compression gap; in 10% stale quantization; in 20% a gap of which the teacher knows
  only half; in 15% there is nothing to win: the diagnosis was wrong.
* The recipes of the cause, in their order (``redistill.compress.remedies``): three, and four for
  stale quantization. Each wins back a share of what can be won, Beta(5, 2), mean 71%; where there is nothing
  to win its gain is N(-0.5, 1.5) points; in 5% of candidates training goes wrong, and it loses 0 to 8
  points (uniform).
* Rows that are decided otherwise on traffic: the gain, and another 3 to 25% of the rows
  (log-uniform; as many gained as lost).
* On trusted rows the candidate changes by N(0, 0.7) points, as half of what it learns from is
  replayed (the two repairs of ``bench_repair`` gained two points there); one in ten forgets, and
  loses 3 points (mean, exponential) more. Churn there: the change, and another 2 to 5%.
* Trusted rows: 600 to 5,000 (log-uniform), of which one in five only ranks.
* Two classes; the rarer has 2 to 30% of the rows (log-uniform). Three regions (60, 30, 10%). One
  candidate in twenty loses 20 points of the rarer class's recall, on traffic and on trusted rows;
  its gain on traffic is as drawn all the same.
* Labels of gate rows until the deadline: 300 to 6,000 (log-uniform), each 25 are a look. In 70% of
  the incidents they are drawn evenly; in 30% by our requests, with p = 1 for the rows on which a
  request expects a difference (it knows 8 of 10) and for 1 in 10 of the others, with p = .1 for the
  rest. Every request is answered.
* The file loads, is small and fast: the gates of the machine pass.

A refused candidate is followed by the next recipe, on all labels that are there by then; one that did
not face fresh rows leaves its number to the next. One that needs a person, or is open at the deadline,
ends the incident: nobody waives anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from gate_evidence import evidence
from gatebench import known_truth
from gatebench.lines import Bar, Line, progress, share
from gatebench.rare_class import two_classes
from gatebench.streams import LOOK, Outcome, Stream, sample
from gatebench.whole import published

from redistill.compress import remedies
from redistill.compress.judge.evidence import Evidence, Sample
from redistill.compress.judge.policy import Policy
from redistill.compress.plan import Measure
from redistill.compress.remedies import RemedyFacts


@dataclass(frozen=True, kw_only=True, slots=True)
class Cause:
    """Why a model got worse."""

    share: float
    """Of the incidents."""
    diagnosed: str
    repairable: float
    """Share of the loss that a recipe can win back."""


CAUSES = (
    Cause(share=0.55, diagnosed="compression_gap", repairable=1.0),
    Cause(share=0.10, diagnosed="stale_quantization", repairable=1.0),
    Cause(share=0.20, diagnosed="compression_gap", repairable=0.5),
    Cause(share=0.15, diagnosed="compression_gap", repairable=0.0),
)
REGIONS = (0.6, 0.3, 0.1)
MUCH = 0.05
"""The gain of a candidate that should be published."""
OVER = 0.01
"""Worse by more than this must not happen in a thousand incidents."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """What a candidate is worth; shares, not points."""

    gain: float
    churn: float
    trusted_gain: float
    trusted_churn: float
    rare_lost: float

    @property
    def harmless(self) -> bool:
        """Whether it costs no class and, within the margin, no trusted row anything."""
        return self.rare_lost == 0.0 and self.trusted_gain > -0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class Incident:
    """What an incident is."""

    lost: float
    measured: float
    repairable: float
    trusted_rows: int
    rare: float
    labels: int
    requested: bool
    """Whether labels were drawn by our requests."""
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """How it ended."""

    incident: Incident
    outcomes: tuple[Outcome, ...]
    """One a candidate that was judged."""
    known: bool
    """Whether who knows what candidates are worth would have published one."""

    @property
    def first(self) -> Candidate:
        """What the first recipe made."""
        return self.incident.candidates[0]

    @property
    def waits_for_trusted_rows(self) -> bool:
        """Whether a person was asked about the trusted gate."""
        last = self.outcomes[-1]
        return last.decision == "person" and "trusted" in last.gates

    @property
    def published(self) -> Candidate | None:
        """What was published."""
        if self.outcomes[-1].decision != "accepted":
            return None
        return self.incident.candidates[len(self.outcomes) - 1]


def lines(policy: Policy, *, incidents: int, seed: int) -> Iterator[Line]:
    """Published candidates that are worse, and those that are better by 5; then the same if
    model.toml allows that fresh rows pay for a loss on trusted ones."""
    ends = [
        run(np.random.default_rng([seed, 8, i]), policy)
        for i in progress("incidents", range(incidents))
    ]
    yield from worse(ends)
    yield from better(ends)
    trade = {**policy, "trusted": replace(policy["trusted"], trade=True)}
    traded = [
        run(np.random.default_rng([seed, 8, i]), trade) if end.waits_for_trusted_rows else end
        for i, end in progress("incidents, with a trade", list(enumerate(ends)))
    ]
    much = [e for e in traded if e.first.gain >= MUCH]
    yield Line(
        part="incidents",
        what="the same with [gates] trade = true: published",
        found=share(e.published is not None for e in much),
        beside={
            "worse at all": share(e.published is not None and e.published.gain < 0 for e in traded)
        },
        detail=told(much),
    )


def worse(ends: list[End]) -> Iterator[Line]:
    """What must not be published."""
    out, first = [e.published for e in ends], [e.first for e in ends]
    yield Line(
        part="incidents",
        what="published a candidate that is worse by over a point",
        found=share(c is not None and c.gain < -OVER for c in out),
        bar=Bar(most=0.0),
        beside={"the first always": share(c.gain < -OVER for c in first)},
        detail=told(ends),
    )
    yield Line(
        part="incidents",
        what="published a candidate that is worse at all",
        found=share(c is not None and c.gain < 0.0 for c in out),
        bar=Bar(most=0.01, upper=True),
        beside={"the first always": share(c.gain < 0.0 for c in first)},
    )


def better(ends: list[End]) -> Iterator[Line]:
    """What should be published."""
    should = [e for e in ends if e.first.gain >= MUCH]
    harmless = [e for e in should if e.first.harmless]
    for what, those, bar in (
        ("first candidate better by 5 or more", should, Bar(least=0.7)),
        ("of these, it costs no class and no old row much", harmless, None),
    ):
        yield Line(
            part="incidents",
            what=f"{what}: published",
            found=share(e.published is not None for e in those),
            bar=bar,
            beside={"knows the truth": share(e.known for e in those)},
            detail=told(those),
        )


def told(ends: list[End]) -> dict[str, object]:
    """How incidents ended, and by which gates."""
    reasons: dict[str, int] = {}
    for end in ends:
        last = end.outcomes[-1]
        name = f"{last.decision}: {', '.join(last.gates)}" if last.gates else last.decision
        reasons[name] = reasons.get(name, 0) + 1
    return {
        "ended": dict(sorted(reasons.items(), key=lambda r: -r[1])),
        "first_refused_by": _first_refusals(ends),
        "median_labels": float(np.median([e.outcomes[-1].labels for e in ends])) if ends else None,
    }


def _first_refusals(ends: list[End]) -> dict[str, int]:
    out: dict[str, int] = {}
    for end in ends:
        for name in end.outcomes[0].gates if end.outcomes[0].decision == "rejected" else ():
            out[name] = out.get(name, 0) + 1
    return out


def run(rng: np.random.Generator, policy: Policy) -> End:
    """One incident, to its end."""
    incident = draw(rng)
    about = evidence(
        incident_loss=Measure(
            value=100 * incident.measured,
            low=100 * incident.measured - 6.0,
            high=100 * incident.measured + 6.0,
            n=300,
        )
    )
    outcomes: list[Outcome] = []
    faced, seen, known = 0, 0, False
    streams = [fresh(rng, incident, c) for c in incident.candidates]
    for candidate, stream in zip(incident.candidates, streams, strict=True):
        judged = replace(about, trusted=trusted(rng, incident, candidate), recipe=faced + 1)
        known = known or would_publish(incident, candidate, stream, policy, judged)
        if outcomes and outcomes[-1].decision != "rejected":
            continue
        outcome = published(stream, judged, policy, labels=incident.labels, first=max(LOOK, seen))
        outcomes.append(outcome)
        faced += outcome.labels > 0
        seen = max(seen, outcome.labels)
    return End(incident=incident, outcomes=tuple(outcomes), known=known)


def would_publish(
    incident: Incident, candidate: Candidate, stream: Stream, policy: Policy, about: Evidence
) -> bool:
    """Whether a bettor that knows how often it is better and worse, and everything else, would;
    evenly drawn labels as many as there are."""
    if candidate.gain <= 0.0 or not candidate.harmless:
        return False
    win, loss = ((candidate.churn + s * candidate.gain) / 2 for s in (1, -1))
    threshold = policy["fresh"].e_value * 2.0 ** (about.recipe - 1)
    d = stream.d[: incident.labels]
    if stream.p is not None:  # as it would have been without requests
        d = np.random.default_rng(len(d)).choice(
            [1.0, -1.0, 0.0], len(d), p=[win, loss, 1.0 - win - loss]
        )
    return math.isfinite(known_truth.labels_needed(d, win=win, loss=loss, threshold=threshold))


def draw(rng: np.random.Generator) -> Incident:
    """An incident by the truth model."""
    lost = log_uniform(rng, 0.04, 0.60)
    cause = CAUSES[rng.choice(len(CAUSES), p=[c.share for c in CAUSES])]
    repairable = lost * cause.repairable
    rare = log_uniform(rng, 0.02, 0.30)
    return Incident(
        lost=lost,
        measured=max(0.01, lost + rng.normal(0.0, 0.03)),
        repairable=repairable,
        trusted_rows=round(log_uniform(rng, 600, 5_000)),
        rare=rare,
        labels=round(log_uniform(rng, 300, 6_000)),
        requested=rng.random() < 0.3,
        candidates=tuple(
            draw_candidate(rng, repairable, rare)
            for _ in remedies.sequence(
                remedies.consider(RemedyFacts(cause=cause.diagnosed, weights=True))
            )
        ),
    )


def draw_candidate(rng: np.random.Generator, repairable: float, rare: float) -> Candidate:
    """A candidate of it."""
    gain = repairable * rng.beta(5, 2) if repairable else rng.normal(-0.005, 0.015)
    if rng.random() < 0.05:
        gain = -rng.uniform(0.0, 0.08)
    trusted_gain = rng.normal(0.0, 0.007)
    if rng.random() < 0.10:
        trusted_gain -= rng.exponential(0.03)
    rare_lost = 0.20 if rng.random() < 0.05 else 0.0
    return Candidate(
        gain=float(gain),
        churn=abs(gain) + 2 * rare_lost * rare + log_uniform(rng, 0.03, 0.25),
        trusted_gain=float(trusted_gain),
        trusted_churn=abs(trusted_gain) + 2 * rare_lost * rare + rng.uniform(0.02, 0.05),
        rare_lost=rare_lost,
    )


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Between two bounds, each factor as likely as another."""
    return float(low * (high / low) ** rng.random())


def rows(
    rng: np.random.Generator, n: int, incident: Incident, gain: float, churn: float, lost: float
) -> Stream:
    """Rows with classes and regions; what the rarer class loses the other gains."""
    if lost:
        share_ = 1.0 - incident.rare
        other = (gain + lost * incident.rare) / share_
        majority = (other, max(abs(other), (churn - 0.24 * incident.rare) / share_))
        d, truth = two_classes(rng, n, incident.rare, majority, (-lost, 0.24))
    else:
        d, truth = two_classes(rng, n, incident.rare, (gain, churn), (gain, churn))
    region = rng.choice(len(REGIONS), n, p=REGIONS)
    groups = {f"region={r}": region == r for r in range(len(REGIONS))}
    return Stream(d=d, truth=truth, groups=groups)


def fresh(rng: np.random.Generator, incident: Incident, c: Candidate) -> Stream:
    """Labelled rows of traffic until the deadline."""
    n = incident.labels
    if not incident.requested:
        return rows(rng, n, incident, c.gain, c.churn, c.rare_lost)
    whole = rows(rng, 10 * n, incident, c.gain, c.churn, c.rare_lost)
    sure = rng.random(len(whole.d)) < np.where(whole.d != 0.0, 0.8, 0.1)
    p = np.where(sure, 1.0, 0.1)
    at = np.flatnonzero(rng.random(len(p)) < p)[:n]
    return Stream(
        d=whole.d[at],
        p=p[at],
        truth=None if whole.truth is None else whole.truth[at],
        groups={name: member[at] for name, member in whole.groups.items()},
    )


def trusted(rng: np.random.Generator, incident: Incident, c: Candidate) -> Sample:
    """Trusted rows that gates look at."""
    n = incident.trusted_rows
    s = rows(rng, n, incident, c.trusted_gain, c.trusted_churn, c.rare_lost)
    return sample(s.d, truth=s.truth, groups=s.groups).take(rng.random(n) >= 0.2)

"""Better by 5 points, or equal, on fresh rows: what is accepted, refused, given up, and when."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from gate_evidence import evidence
from gatebench import known_truth
from gatebench.lines import Bar, Line, progress, share
from gatebench.streams import Outcome, Screen, Stream, drawn

from redistill.compress.judge.policy import Policy
from redistill.compress.plan import Measure

GAIN, CHURN = 0.05, 0.30
RECIPES = (1, 2, 3)
LABELS = 4_000
"""That equal candidates face, each: more than an incident waits for."""


def lines(policy: Policy, *, runs: int, incidents: int, seed: int) -> Iterator[Line]:
    """Both, one after the other."""
    yield from better(policy, runs=runs, seed=seed)
    yield from equal(policy, incidents=incidents, seed=seed)
    yield from given_up(policy, runs=runs, seed=seed)


def better(policy: Policy, *, runs: int, seed: int) -> Iterator[Line]:
    """Better by 5 at churn 30%, the incident's first recipe. The measured loss is 5 points, so that
    futility asks for 2.5; told beside it: 10 points, where the truth lies on futility's edge."""
    threshold = policy["fresh"].e_value
    screen = screen_of(policy, lost=5.0)
    edge = screen_of(policy, lost=10.0)
    found, at_edge, oracle = [], [], []
    for run in progress("better by 5", range(runs)):
        d = drawn(np.random.default_rng([seed, 2, run]), 3_000, GAIN, CHURN)
        found.append(screen.first(Stream(d=d), labels=len(d), number=run))
        at_edge.append(edge.first(Stream(d=d), labels=len(d), number=run))
        oracle.append(
            known_truth.labels_needed(
                d, win=(CHURN + GAIN) / 2, loss=(CHURN - GAIN) / 2, threshold=threshold
            )
        )
    for labels, least in ((2_000, 0.7), (3_000, 0.85)):
        yield Line(
            part="fresh rows",
            what=f"better by 5, churn 30%: accepted within {labels:,} labels",
            found=share(_accepted(o, labels) for o in found),
            bar=Bar(least=least),
            beside={
                "knows the truth": share(n <= labels for n in oracle),
                "loss 10": share(_accepted(o, labels) for o in at_edge),
            },
            detail=_told(found),
        )


def equal(policy: Policy, *, incidents: int, seed: int) -> Iterator[Line]:
    """Incidents whose three recipes are all equal to the incumbent, and independent; nothing says
    how much was lost, so that futility asks for no more than a point."""
    screens = [screen_of(policy, lost=None, recipe=k) for k in RECIPES]
    for churn in (0.03, 0.30):
        found: list[list[Outcome]] = []
        for run in progress(f"equal at churn {churn:.0%}", range(incidents)):
            rng = np.random.default_rng([seed, 3, round(churn * 100), run])
            streams = [Stream(d=drawn(rng, LABELS, 0.0, churn)) for _ in RECIPES]
            found.append(
                [
                    screen.first(stream, labels=LABELS, number=run)
                    for screen, stream in zip(screens, streams, strict=True)
                ]
            )
        yield Line(
            part="fresh rows",
            what=f"equal, churn {churn:.0%}: any of three recipes accepted in {LABELS:,} labels",
            found=share(any(o.decision == "accepted" for o in recipes) for recipes in found),
            bar=Bar(most=0.01),
            beside={
                "first recipe": share(recipes[0].decision == "accepted" for recipes in found),
                "promised at most": f"{sum(1 / (200 * 2**k) for k in range(3)):.3%}",
            },
        )


def given_up(policy: Policy, *, runs: int, seed: int) -> Iterator[Line]:
    """Equal candidates that futility ends, where a gain of 5 points is asked for."""
    screen = screen_of(policy, lost=10.0)
    for churn in (0.03, 0.30):
        found, oracle = [], []
        for run in progress(f"given up at churn {churn:.0%}", range(runs)):
            d = drawn(np.random.default_rng([seed, 4, round(churn * 100), run]), 2_000, 0.0, churn)
            found.append(screen.first(Stream(d=d), labels=len(d), number=run))
            needed = known_truth.labels_needed(
                -d, win=churn / 2, loss=churn / 2, above=-GAIN, threshold=policy["futility"].e_value
            )
            oracle.append(needed <= len(d))
        yield Line(
            part="fresh rows",
            what=f"equal, churn {churn:.0%}: given up within 2,000 labels (gain 5)",
            found=share(_given_up(o) for o in found),
            bar=Bar(least=0.8),
            beside={"knows the truth": share(oracle)},
            detail=_told(found),
        )


def screen_of(policy: Policy, *, lost: float | None, recipe: int = 1) -> Screen:
    """Judges a candidate of an incident that lost so many points, ``None``: not known."""
    points = 1.0 if lost is None else max(1.0, lost / 2)
    loss = None if lost is None else Measure(value=lost, low=0.6 * lost, high=1.4 * lost, n=300)
    about = evidence(incident_loss=loss, recipe=recipe)
    return Screen(evidence=about, policy=policy, gain=points / 100.0)


def _accepted(o: Outcome, labels: int) -> bool:
    return o.decision == "accepted" and o.labels <= labels


def _given_up(o: Outcome) -> bool:
    return o.decision == "rejected" and "futility" in o.gates


def _told(found: list[Outcome]) -> dict[str, object]:
    return {
        "median_labels": float(np.median([o.labels for o in found])),
        "refused_by": {
            name: sum(o.decision == "rejected" and name in o.gates for o in found)
            for name in ("fresh", "futility")
        },
    }

"""Worse over traffic, where the rows that have labels make it look better: what is accepted.

Requests are drawn with probabilities that depend on whether the candidate is better on the row, the
most that a request which knows the models could do, or answers stay away where it is worse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from gatebench.fresh_rows import screen_of
from gatebench.lines import Bar, Line, progress, share
from gatebench.streams import Stream

from redistill.compress.judge.policy import Policy

LABELS = 2_000
CHURN = 0.2
WORSE, BETTER = -0.016, 0.05
KINDS = np.array([1.0, 0.0, -1.0])  # the candidate is better, as good, worse


@dataclass(frozen=True, kw_only=True, slots=True)
class Design:
    """How rows come by a label; each by the three kinds of rows."""

    name: str
    p: tuple[float, float, float] | None = None
    """Probabilities of a request, recorded; ``None``: all rows the same, not recorded."""
    answers: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Shares of the requests that are answered."""

    def draw(self, rng: np.random.Generator, gain: float) -> Stream:
        """Requests with ``LABELS`` answers, or a few less, in a world of this difference."""
        shares = np.array([(CHURN + gain) / 2, 1.0 - CHURN, (CHURN - gain) / 2])
        chance = np.ones(3) if self.p is None else np.array(self.p)
        asked = shares * chance / (shares @ chance)
        answered = np.array(self.answers)
        n = round(LABELS / float(asked @ answered))
        kind = rng.choice(3, n, p=asked)
        return Stream(
            d=KINDS[kind],
            p=None if self.p is None else chance[kind],
            answered=None
            if answered.all() and answered.min() == 1.0
            else rng.random(n) < answered[kind],
        )


WITH_P = (
    Design(name="all with p = .3", p=(0.3, 0.3, 0.3)),
    Design(name="p = 1 where better, .1 elsewhere", p=(1.0, 0.1, 0.1)),
    Design(name="p = 1 where better, .05 elsewhere", p=(1.0, 0.05, 0.05)),
    Design(name="p = 1 where better, .1 where alike, .05 where worse", p=(1.0, 0.1, 0.05)),
    Design(name="1 in 5 unanswered where alike, 4 in 5 where worse", answers=(1.0, 0.8, 0.2)),
    Design(name="p = 1 where better, .1 elsewhere; 1 in 5 unanswered where alike, 4 in 5 where worse", p=(1.0, 0.1, 0.1), answers=(1.0, 0.8, 0.2)),
)  # fmt: skip
"""Plain counting calls the worse candidate better in all but the first."""
POWER = (
    Design(name="all the same"),
    Design(name="all with p = .3", p=(0.3, 0.3, 0.3)),
    Design(name="p = 1 where they differ, .1 elsewhere", p=(1.0, 0.1, 1.0)),
    Design(name="1 in 50 unanswered, at random", answers=(0.98, 0.98, 0.98)),
    Design(name="1 in 20 unanswered, at random", answers=(0.95, 0.95, 0.95)),
)


def lines(policy: Policy, *, runs: int, seed: int) -> Iterator[Line]:
    """Worse by 1.6 points at churn 20%, beside the same labels plainly counted; then what a
    candidate that is better by 5 can hope for."""
    screen = screen_of(policy, lost=None)
    for i, design in enumerate(WITH_P):
        accepted, plain = [], []
        for run in progress(f"worse, {design.name}", range(runs)):
            stream = design.draw(np.random.default_rng([seed, 5, i, run]), WORSE)
            accepted.append(screen.first(stream, labels=LABELS, number=run).decision == "accepted")
            counted = Stream(d=stream.d[stream.labelled])
            if run < COUNTED:
                plain.append(screen.first(counted, labels=LABELS, number=1).decision == "accepted")
        yield Line(
            part="weighted rows",
            what=f"worse by 1.6 over traffic; {design.name}: accepted",
            found=share(accepted),
            bar=Bar(most=0.01),
            beside={"plainly counted": share(plain)},
        )
    for i, design in enumerate(POWER):
        found = [
            screen.first(
                design.draw(np.random.default_rng([seed, 6, i, run]), BETTER),
                labels=LABELS,
                number=run,
            )
            for run in progress(f"better, {design.name}", range(runs // 2))
        ]
        yield Line(
            part="weighted rows",
            what=f"better by 5, churn 20%; {design.name}: accepted in {LABELS:,} labels",
            found=share(o.decision == "accepted" for o in found),
        )


COUNTED = 100
"""Runs that are also plainly counted."""

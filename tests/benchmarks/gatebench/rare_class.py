"""A rare class that loses 20 points of recall while the rest gains: what is accepted all the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from gate_evidence import evidence
from gatebench.lines import Bar, Line, Share, progress, share
from gatebench.streams import Outcome, Stream, drawn, sample
from gatebench.whole import published

from redistill.compress.judge.policy import Policy
from redistill.compress.plan import Measure

ROWS, TRUSTED = 4_000, 1_000
"""Labelled rows in all, and the trusted ones among them."""
RARE = 1 / 51
LOSSES = (0.0, 0.20)
MAJORITY = (0.05, 0.07)
"""Gain and churn on fresh rows of the other class; on trusted rows it is as good, at churn 3%."""
RARE_CHURN = (0.10, 0.24)
"""Of the rare class, for either loss."""
GATE = "worst_class"
"""Whose power is shown."""
WORDS = (("accepted",), ("rejected",), ("open", "person"))
"""What may come of a candidate: accepted, refused, undecided."""


def lines(policy: Policy, *, runs: int, seed: int) -> Iterator[Line]:
    """At 1:50, after an incident; the candidate is better by 5 on the other class. Fresh labels
    come in until there are 4,000 labelled rows, and trusted ones, of which one in five only ranks,
    show the same recall. Beside stands what comes of the same candidates without the gate."""
    for lost, churn in zip(LOSSES, RARE_CHURN, strict=True):
        found, unguarded = zip(
            *(
                candidate(
                    np.random.default_rng([seed, 7, round(lost * 100), run]), lost, churn, policy
                )
                for run in progress(f"rare class, loses {lost:.0%}", range(runs))
            ),
            strict=True,
        )
        accepted, refused, undecided = (_of(found, *words) for words in WORDS)
        accepts, refuses, stays = ({f"without {GATE}": _of(unguarded, *words)} for words in WORDS)
        detail = {
            "median_fresh_labels": float(np.median([o.labels for o in found])),
            "refused_by": counted(found),
        }
        told = f"rare class (1:50) {'loses 20 points of recall' if lost else 'as good'}"
        if lost:
            yield _line(f"{told}: accepted", accepted, Bar(most=0.05), accepts, detail)
            what = f"{told}: undecided at 4,000 rows"
            yield _line(what, undecided, Bar(most=0.2), stays, detail)
        else:
            yield _line(f"{told}: refused", refused, Bar(most=0.05), refuses, detail)
            yield _line(f"{told}: accepted", accepted, None, accepts, detail)


def candidate(
    rng: np.random.Generator, lost: float, churn: float, policy: Policy
) -> tuple[Outcome, Outcome]:
    """What comes of one, and what would come of it without the gate."""
    labels = ROWS - TRUSTED
    fresh, trusted = (
        two_classes(rng, n, RARE, majority, (-lost, churn))
        for n, majority in ((labels, MAJORITY), (TRUSTED, (0.0, 0.03)))
    )
    d, truth = trusted
    about = evidence(
        trusted=sample(d, truth=truth).take(rng.random(TRUSTED) >= 0.2),
        incident_loss=Measure(value=5.0, low=2.0, high=8.0, n=300),
    )
    stream = Stream(d=fresh[0], truth=fresh[1])
    with_it = published(stream, about, policy, labels=labels)
    return with_it, published(stream, about, policy, labels=labels, without=GATE)


def two_classes(
    rng: np.random.Generator,
    n: int,
    rare: float,
    majority: tuple[float, float],
    minority: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Differences and classes, each ``(n,)``, with the gain and the churn of either class."""
    truth = (rng.random(n) < rare).astype(np.int64)
    gain, churn = (np.where(truth == 1, minority[i], majority[i]) for i in range(2))
    return drawn(rng, n, gain, churn), truth


def counted(found: Sequence[Outcome]) -> dict[str, int]:
    """How many each gate refused, or left open."""
    names = sorted({name for o in found for name in o.gates})
    return {name: sum(name in o.gates for o in found) for name in names}


def _of(found: Sequence[Outcome], *words: str) -> Share:
    return share(o.decision in words for o in found)


def _line(
    what: str, found: Share, bar: Bar | None, beside: Mapping[str, Share], detail: Mapping[str, Any]
) -> Line:
    return Line(part="rare class", what=what, found=found, bar=bar, beside=beside, detail=detail)

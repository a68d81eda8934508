"""Equal, or worse by the margin, on 1,000 trusted rows: what passes the gates of trusted rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from gate_evidence import evidence
from gatebench.lines import Bar, Line, progress, share
from gatebench.streams import drawn, sample
from numpy.typing import NDArray

from redistill.compress import gate
from redistill.compress.judge.evidence import Evidence, Sample
from redistill.compress.judge.gates.rule import GateRule
from redistill.compress.judge.policy import Policy
from redistill.compress.plan import Accepted
from redistill.compress.rows import Rows
from redistill.compress.trusted_rows import ranking

ROWS = 1_000
CHURN = 0.03
REGIONS = (0.6, 0.3, 0.1)
POSITIVE = 0.3
GATES = tuple(rule for rule in gate.RULES if rule.split == "trusted")
ALONE = tuple(rule for rule in GATES if rule.name == "trusted")


def lines(policy: Policy, *, runs: int, alone: int, seed: int) -> Iterator[Line]:
    """The trusted gate by itself, and on the first of the same runs all gates of trusted rows.

    Two classes (70 and 30%) and three regions (60, 30 and 10%), the candidate is as good, or as
    bad, in each. One row in five only ranks, as in a job. Beside: a gate of the same rows that
    knows the churn, and asks whether the mean difference lies 1.645 standard errors above the
    margin.
    """
    margin = policy["trusted"].margin_points / 100.0
    about = evidence()
    masks = rankings(np.random.default_rng([seed, 1]))
    for what, gain, bar in (
        (f"equal, churn {CHURN:.0%}", 0.0, Bar(least=0.9)),
        (f"worse by the margin of {margin * 100:g}", -margin, Bar(most=0.05)),
    ):
        passes, every, known = [], [], []
        for run in progress(f"trusted rows, {what}", range(alone)):
            rng = np.random.default_rng([seed, 1, round(-gain * 1e4), run])
            rows = trusted(rng, gain).take(~masks[run % len(masks)])
            found = replace(about, trusted=rows)
            d = found.trusted.difference(found.task)
            error = (CHURN - gain**2) ** 0.5 / len(d) ** 0.5
            known.append(d.mean() + margin >= 1.645 * error)
            passes.append(accepted(found, policy, ALONE))
            if run < runs:
                every.append(accepted(found, policy, GATES))
        yield Line(
            part="trusted rows",
            what=f"{what}, {ROWS:,} trusted rows: the trusted gate passes",
            found=share(passes),
            bar=bar,
            beside={"knows the churn": share(known)},
        )
        yield Line(
            part="trusted rows",
            what=f"{what}, {ROWS:,} trusted rows: all their gates pass",
            found=share(every),
            bar=bar if bar.least else None,  # fewer pass than the one gate lets through
            detail={"gates": [rule.name for rule in GATES]},
        )


def accepted(found: Evidence, policy: Policy, rules: Sequence[GateRule]) -> bool:
    """By these gates."""
    return isinstance(gate.decide(found, policy, rules=rules).decision, Accepted)


def trusted(rng: np.random.Generator, gain: float) -> Sample:
    """Trusted rows with classes and regions."""
    truth = (rng.random(ROWS) < POSITIVE).astype(np.int64)
    region = rng.choice(len(REGIONS), ROWS, p=REGIONS)
    groups = {f"region={r}": region == r for r in range(len(REGIONS))}
    return sample(drawn(rng, ROWS, gain, CHURN), truth=truth, groups=groups)


def rankings(rng: np.random.Generator) -> list[NDArray[np.bool_]]:
    """Which of ``ROWS`` rows only rank, in some sets of trusted rows."""
    return [ranking(rows_of(rng.random((ROWS, 2), np.float32))) for _ in range(50)]


def rows_of(x: NDArray[np.float32]) -> Rows:
    """Rows with these features, and nothing else known."""
    n = len(x)
    nothing = np.zeros(n, np.int64)
    return Rows(
        x=x,
        y=nothing,
        gate=np.zeros(n, np.bool_),
        id_hash=nothing,
        served_at=nothing,
        source=[None] * n,
        prediction=nothing - 1,
    )

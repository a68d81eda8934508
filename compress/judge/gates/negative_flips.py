"""Gate ``negative_flips``: rows that the incumbent had right and the candidate has wrong.

Who relies on an answer notices a new mistake more than an old one that is gone: a candidate that is
better on the whole may still break what worked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redistill.compress.judge import betting
from redistill.compress.judge.evidence import Evidence, Sample
from redistill.compress.judge.gates.rule import COMPARED, POINTS, GateRule
from redistill.compress.judge.limits import Share
from redistill.compress.judge.task import Floats
from redistill.compress.plan import Gate
from redistill.stats import clopper_pearson

__all__ = ["RULE", "Limit", "flips"]

MISS = 0.02
"""Two-sided: the lower bound that refuses is missed once in a hundred."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """How many rows may turn wrong."""

    max_share: Share = 0.25
    """Refused where more of the rows than this surely turn wrong (lower 99% bound): on fresh or on
    trusted rows."""


def flips(sample: Sample, e: Evidence) -> NDArray[np.bool_]:
    """``(n,)`` rows on which the incumbent made no mistake and the candidate makes one; no rows
    where there is no incumbent.

    References
    ----------
    Yan, Xiong, Kundu, Yang, Deng, Wang, Xia, Soatto 2021, Positive-congruent training: towards
    regression-free model updates (CVPR): the negative flip rate.
    """
    if "incumbent" not in sample:
        return np.zeros(0, np.bool_)
    before, now = (e.task.loss(sample.scores[r], sample.truth) for r in ("incumbent", "candidate"))
    return np.asarray((before == 0.0) & (now > 0.0), np.bool_)


def judge(e: Evidence, limit: Limit) -> Gate | None:
    """By the exact lower bound: a share that may be an accident refuses nobody."""
    found = []
    for name, sample in (("fresh", e.fresh), ("trusted", e.trusted)):
        worse = flips(sample, e)
        share, rows = _of_traffic(worse, sample.p)
        if rows:
            low, high = clopper_pearson(share * rows, rows, MISS)
            found.append((low, share, high, int(worse.sum()), len(worse), name))
    if not found:
        return None
    low, share, high, n_worse, n, name = max(found)
    return Gate(
        name="negative_flips",
        value=share,
        limit=limit.max_share,
        passed=low <= limit.max_share,
        why=f"{n_worse} of {n} {name} rows turn wrong: {share * POINTS:.1f}%"
        f" [{low * POINTS:.1f}, {high * POINTS:.1f}]",
        have=n,
        low=low,
        high=high,
    )


def _of_traffic(worse: NDArray[np.bool_], p: Floats | None) -> tuple[float, float]:
    """Share of traffic that turns wrong, and the number of equally weighted rows that would tell as
    much (Kish 1965): requests may prefer rows on which models differ, where flips are frequent."""
    weight = np.ones(len(worse))
    if p is not None and len(worse):
        weight = np.where(p * betting.W_MAX >= 1.0, 1.0 / p, 0.0)
    total = float(weight.sum())
    if not total:
        return 0.0, 0.0
    return float(weight[worse].sum()) / total, total**2 / float((weight**2).sum())


RULE = GateRule(
    name="negative_flips", split="fresh", limit=Limit(), judge=judge, requirements=COMPARED
)

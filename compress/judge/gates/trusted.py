"""Gate ``trusted``: not worse than the best release so far on trusted rows.

Against the best, and not against the last: five releases that each lose almost the margin would
add up.

A trade, where model.toml allows it: after an incident a candidate that may have lost more than the
margin is let through if fresh rows show by evidence that it gains more than it may have lost. L,
the lower 97.5% bound of the trusted difference, lies above the truth in one sample of forty; given
the trusted rows it is a fixed number, so that evidence against "the gain is at most -L" is wrong in
one case of 200 (400, 800 for later recipes, as in gate ``fresh``). A candidate that loses more on
trusted rows than it gains on fresh ones passes by the trade with a probability of at most .025 +
.005. If it loses more than the margin, too, it passes by the one or the other with at most .05 +
.005: where the trade's bound lies above the truth, the margin's does as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri

from redistill.compress.judge import betting, intervals
from redistill.compress.judge.bounded_mean import Differences
from redistill.compress.judge.evidence import Evidence, Role
from redistill.compress.judge.gates import fresh
from redistill.compress.judge.gates.rule import COMPARED, POINTS, GateRule, said
from redistill.compress.judge.limits import EValue, Points
from redistill.compress.judge.task import Floats
from redistill.compress.plan import Gate

__all__ = ["ONE_SIDED", "RULE", "Limit"]

ONE_SIDED = 0.90
"""A two-sided 90% interval has the two one-sided 95% bounds of a test of non-inferiority."""
TRADED = 0.95
"""The same for the one-sided 97.5% bound of what is traded."""
MOST_TRADED = 0.05
"""No gain pays for a larger loss on trusted rows than this may be."""
HOPELESS = 20.0
"""E-value against a gain as large as the loss at which a trade is given up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """How much a release may lose on trusted rows."""

    margin_points: Points = 2.0
    """After an incident the lower 95% bound of the paired difference must be above minus this. It
    is never widened by itself."""
    labels_margin_points: Points = 1.0
    """The same where labels entered the loss: wrong ones must not publish a wrong model."""
    scheduled_margin_points: Points = 1.0
    """The same for scheduled and manual jobs, and for added models."""
    trade: bool = False
    """After an incident, unless labels entered the loss: whether a candidate that may have lost
    more than the margin, but at most 5 points, is let through where fresh rows show a larger gain.
    Also written `[gates] trade`."""
    trade_e_value: EValue = 200.0
    """Evidence on fresh rows, beside gate `fresh`'s own, that the gain is larger than the loss may
    be; the second recipe of an incident needs twice, the third four times as much."""


def margin_of(e: Evidence, limit: Limit) -> float:
    """Points that this candidate may lose."""
    margin = limit.margin_points if e.requirement == "beat" else limit.scheduled_margin_points
    return min(margin, limit.labels_margin_points) if e.labels_in_loss else margin


def judge(e: Evidence, limit: Limit) -> Gate | None:
    """By the score interval of the paired difference (Tango 1998), else by a trade.

    Raises
    ------
    ValueError
        There are no trusted rows, or no scores to compare with.
    """
    d = _difference(e)
    points = margin_of(e, limit)
    n, margin = len(d), points / POINTS
    low, high = intervals.paired_mean(d, confidence=ONE_SIDED)
    passed = True if low > -margin else False if high < -margin else None
    who = "the incumbent"
    if "best" in e.trusted:
        who = "the best release so far" + (f", {e.best}," if e.best else "")
    why = (
        f"against {who} {said(e.task, d)}, one-sided 95% bounds [{low * POINTS:+.2f},"
        f" {high * POINTS:+.2f}]"
    )
    need = _needed(d, margin) if passed is None else None
    gate = Gate(
        name="trusted",
        value=low * POINTS,
        limit=-points,
        passed=passed,
        why=why,
        low=low * POINTS,
        high=high * POINTS,
        have=n,
        need=need,
        ask="trusted rows: they do not grow by themselves, register more of them to decide it",
    )
    return _traded(e, gate, limit, _traded_loss(d)) if trades(e, limit) else gate


def trades(e: Evidence, limit: Limit) -> bool:
    """Whether fresh rows are asked to pay for what trusted rows may have lost."""
    if not limit.trade or e.requirement != "beat" or e.labels_in_loss:
        return False
    d = _difference(e)
    low, _ = intervals.paired_mean(d, confidence=ONE_SIDED)
    return low <= -margin_of(e, limit) / POINTS and _traded_loss(d) <= MOST_TRADED


def _difference(e: Evidence) -> Floats:
    against: Role = "best" if "best" in e.trusted else "incumbent"
    if not len(e.trusted) or against not in e.trusted:
        raise ValueError("the trusted gate needs a comparison on trusted rows")
    return e.trusted.difference(e.task, against)


def _traded_loss(d: Floats) -> float:
    """What trusted rows may have lost, at most: above 0 where the margin is not met."""
    return -intervals.paired_mean(d, confidence=TRADED)[0]


def _traded(e: Evidence, gate: Gate, limit: Limit, loss: float) -> Gate:
    """The gate with what fresh rows say about a gain above ``loss``: enough, or not yet. Where they
    say that there is none the gate stays as it is."""
    threshold = fresh.needed(e, fresh.Limit(e_value=limit.trade_e_value))
    d = e.fresh.difference(e.task) if len(e.fresh) else np.empty(0)
    p = e.fresh.p
    gains = betting.e_value(d, above=loss, p=p, missing=e.fresh.missing)
    sure = min(gains.e, gains.e_missing)
    told = f"; trade: at most {loss * POINTS:.2f} points are lost (97.5%), and fresh rows gain more"
    if sure >= threshold:
        why = f"{gate.why}{told} with an e-value of {sure:.3g}, {threshold:g} is needed"
        return replace(gate, passed=True, why=why, need=None, ask=None)
    if betting.e_value(-d, above=-loss, p=p).e >= HOPELESS:
        return replace(gate, why=f"{gate.why}; no trade: fresh rows do not gain as much")
    need = fresh.rows_needed(e.fresh, d, threshold, above=loss)
    why = f"{gate.why}{told} with an e-value of {sure:.3g} so far, {threshold:g} is needed"
    why += fresh.unanswered(gains, threshold)
    return replace(gate, passed=None, why=why, have=len(d), need=need, ask=None)


def _needed(d: Floats, margin: float) -> int | None:
    """Rows with which the margin is out of the bounds if differences stay as they are: the score
    grows with the root of the rows. ``None``: more than 100 times as many."""
    score = abs(Differences.of(d).score(-margin))
    z = float(ndtri((1.0 + ONE_SIDED) / 2.0))
    return math.ceil(len(d) * (z / score) ** 2) if score > z / 10.0 else None


RULE = GateRule(
    name="trusted",
    split="trusted",
    limit=Limit(),
    judge=judge,
    requirements=COMPARED,
    trades=trades,
)

"""Gate of groups: what ``hurt`` finds, as one gate that names the worst. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from redistill.compress.judge import hurt
from redistill.compress.judge.evidence import Evidence, Sample
from redistill.compress.judge.hurt import GroupLoss, Terms
from redistill.compress.judge.paired_sums import PairedRows
from redistill.compress.plan import Gate

__all__ = ["gate", "paired"]

POINTS = 100.0
ASK = "labelled rows of these groups, trusted ones or of traffic: none come in by themselves"

Masks = Mapping[str, NDArray[np.bool_]]


class HurtLimit(Protocol):
    """What a group may lose, as the ``Limit`` of a gate of groups says it."""

    @property
    def max_loss_points(self) -> float:
        """A larger loss refuses, where it is no accident."""

    @property
    def excluded_loss_points(self) -> float:
        """A loss of so much must be excluded."""

    @property
    def error(self) -> float:
        """Largest probability that who hurts nobody is ever refused."""

    @property
    def reach_rows(self) -> int:
        """Labelled rows that are waited for at most."""


def paired(name: str, sample: Sample, e: Evidence, groups: Masks) -> PairedRows:
    """The rows of a sample with what the candidate lost on them; none where there is no incumbent
    to lose against."""
    if "incumbent" not in sample:
        return PairedRows(name=name, lost=np.empty(0), groups={})
    lost = -sample.difference(e.task)
    return PairedRows(name=name, lost=lost, groups=groups, p=sample.p)


def gate(
    name: str,
    e: Evidence,
    limit: HurtLimit,
    *,
    fresh: Masks,
    trusted: Masks,
    what: str,
    min_rows: int = 0,
) -> Gate | None:
    """The gate of some groups: the worst of them decides.

    Parameters
    ----------
    name
        Of the gate.
    limit
        What a group may lose.
    fresh, trusted
        Which rows of either sample belong to each group.
    what
        What the groups are, in the plural.
    min_rows
        Labelled rows that a group needs before it is judged alone; 0: as many as the limits need.

    Returns
    -------
    Gate or None
        ``None``: there are no such groups, or nobody to compare with. An open one waits for fresh
        labels; of an added version, for which none come in, for a person. What fresh rows alone
        refuse is theirs all the same: nobody can waive it.
    """
    samples = [paired("fresh", e.fresh, e, fresh), paired("trusted", e.trusted, e, trusted)]
    names = list(dict.fromkeys((*trusted, *fresh)))
    comes = e.requirement in ("beat", "keep")
    terms = Terms(
        limit=limit.max_loss_points / POINTS,
        excluded=limit.excluded_loss_points / POINTS,
        alpha=limit.error,
        reach=limit.reach_rows if comes else 0,
        min_rows=min_rows,
    )
    found = hurt.judge(samples, names, terms)
    if not found:
        return None
    worst = found[0]
    passed = {"harmed": False, "open": None}.get(worst.verdict, True)
    have = sum(map(len, samples)) if not comes else len(samples[0])
    need = worst.need
    if need is not None and comes:  # trusted rows are there already and do not grow
        need -= len(samples[1])
    out = Gate(
        name=name,
        value=worst.loss * POINTS,
        limit=limit.max_loss_points,
        passed=passed,
        why=_why(worst, found, limit, what),
        have=have,
        need=need,
        low=worst.low * POINTS,
        high=worst.high * POINTS,
    )
    if comes or (passed is False and _harmed(samples[:1], names, terms)):
        return out
    return replace(out, split="trusted", ask=ASK)


def _harmed(samples: Sequence[PairedRows], names: Sequence[str], terms: Terms) -> bool:
    return any(g.verdict == "harmed" for g in hurt.judge(samples, names, terms))


def _why(worst: GroupLoss, found: tuple[GroupLoss, ...], limit: HurtLimit, what: str) -> str:
    where = {"all": "", "fresh": " fresh", "trusted": " trusted"}[worst.where]
    loss, low, high = (x * POINTS for x in (worst.loss, worst.low, worst.high))
    verb = "loses"
    if loss < 0.0:
        verb, loss, low, high = "gains", -loss, -high, -low
    text = (
        f"{worst.name} {verb} {loss:.1f} points [{low:+.1f}, {high:+.1f}] on"
        f" {worst.n:.0f}{where} rows, the worst of {len(found)} {what}"
    )
    if worst.verdict == "harmed":
        return (
            f"{text}; no accident: e-value {worst.e_value:.3g}, from {worst.threshold:.0f} on it is"
            " none"
        )
    if worst.verdict == "open":
        text += f"; a loss of {limit.excluded_loss_points:g} points is not excluded yet"
    doubtful = [
        g for g in found if g.verdict != "within" or g.high * POINTS > limit.max_loss_points
    ]
    if doubtful:
        least = min(doubtful, key=lambda g: (g.below, g.name))
        text += (
            f"; {least.name} loses less than {limit.max_loss_points:g} points with a confidence of"
            f" {least.below:.0%}"
        )
    unsettled = sum(g.verdict == "unsettled" for g in found)
    if unsettled:
        text += (
            f"; {unsettled} of them have too few rows to exclude a loss of"
            f" {limit.excluded_loss_points:g} points, and nobody waits for more"
        )
    return text

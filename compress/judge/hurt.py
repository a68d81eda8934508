"""Groups that a candidate hurts: classes, slices and declared groups, whose losses a mean hides.
Pure.

Two questions are asked of each group, on the same rows for candidate and incumbent. *Is it harmed?*
Refusing is guarded against accidents, however often and over however many groups one looks. *Is a
gross loss excluded?* Until it is, one waits. Groups with too few rows for that are judged together
as one, which blocks nobody where even together they are too few, now and within reach.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from redistill.compress.judge import intervals
from redistill.compress.judge.paired_sums import (
    LEAST_CHURN,
    PairedRows,
    Sums,
    evidence,
    rows_needed,
)

__all__ = ["GroupLoss", "Terms", "judge"]

Verdict = Literal["harmed", "open", "unsettled", "within"]
"""``harmed``: it lost more than ``limit``, and that is no accident. ``open``: a loss of
``excluded`` is possible still, and rows that tell are there or within reach. ``unsettled``: too few
rows, now and within reach: nobody waits for it. ``within``: a loss of ``excluded`` is excluded."""

ENOUGH = 50
"""Rows of a group in either sample from which on each is also looked at alone: a loss on new rows
must not be hidden by many old ones."""
ONE_SIDED = 0.975
"""Confidence with which a gross loss is excluded. All groups have to pass, so that none needs a
correction for the others (Berger 1982). Candidates are looked at each some labels, and the first
look that passes counts: at 95% a class that loses 20 points passed in 4.7% of simulations, at 97.5%
in 3.5%."""
FALSE_ALARMS = 0.05
"""Share of equal candidates for which some group, judged alone, may stay open."""
FAR = 100.0
"""Times the rows there are: beyond that nobody waits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What a group may lose; losses are shares, not points."""

    limit: float = 0.05
    """A loss beyond this is too much, if it is no accident."""
    excluded: float = 0.15
    """A loss of this size has to be excluded."""
    alpha: float = 0.05
    """Largest probability that a candidate that hurts nobody is ever refused, over all looks and
    groups."""
    min_rows: int = 0
    """Rows that a group needs at least to be judged alone."""
    reach: int = 0
    """Labelled rows, of both samples together, that may be waited for; 0: none will come."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupLoss:
    """What is known of one group."""

    name: str
    verdict: Verdict
    where: str
    """Sample that the numbers are of: ``fresh``, ``trusted`` or ``all``."""
    n: float
    """Rows of it there; weighted ones count with their effective number."""
    loss: float
    """Mean loss against the incumbent; negative where the candidate gained."""
    low: float
    high: float
    """Interval of the loss, with the error divided among the groups."""
    e_value: float
    """Evidence that the group lost anything at all, over every sample."""
    threshold: float
    """From here on that is no accident."""
    below: float
    """One-sided confidence that the loss is below the limit."""
    need: int | None = None
    """Labelled rows in all after which an open one would be decided if its shares stay; ``None``:
    not known, or nobody asks."""


def judge(
    samples: Sequence[PairedRows], names: Sequence[str], terms: Terms
) -> tuple[GroupLoss, ...]:
    """Judge groups on fresh and trusted rows.

    *Harmed* goes by an e-value: the mean of those of the pooled rows and, where both samples have
    enough, of each. It may be looked at as often as one likes (Ville 1939). The error is divided
    among the groups in proportion to the rows outside of each (a weighted Bonferroni, Genovese,
    Roeder and Wasserman 2006): a group that holds nearly all rows is guarded by the gates for all
    rows. *Within* goes by Tango's one-sided bound on the pooled rows.

    Parameters
    ----------
    samples
        Fresh and trusted rows; either may have none.
    names
        The groups to judge; those without rows are left out.
    terms
        What a group may lose.

    Returns
    -------
    tuple of GroupLoss
        The worst first: harmed, open, then by loss. Small groups stand together as one.

    References
    ----------
    Tango 1998 (Statistics in Medicine 17); Berger 1982, Multiparameter hypothesis testing and
    acceptance sampling (Technometrics 24); Genovese, Roeder, Wasserman 2006, False discovery
    control with p-value weighting (Biometrika 93); Vovk, Wang 2021, E-values: calibration,
    combination and applications (Annals of Statistics 49), for the mean of e-values.

    Examples
    --------
    >>> lost = np.zeros(400)
    >>> lost[:12] = 1.0
    >>> rare = np.arange(400) < 40
    >>> rows = PairedRows(name="trusted", lost=lost, groups={"class=a": rare, "class=b": ~rare})
    >>> found = judge([rows], ["class=a", "class=b"], Terms())
    >>> [(g.name, g.verdict, round(g.loss, 2)) for g in found]
    [('class=a', 'harmed', 0.3), ('class=b', 'within', 0.0)]
    """
    total = sum(map(len, samples))
    nobody = [np.zeros(len(s), np.bool_) for s in samples]
    members = {
        n: [s.groups.get(n, none) for s, none in zip(samples, nobody, strict=True)] for n in names
    }
    rows = {n: sum(int(m.sum()) for m in masks) for n, masks in members.items()}
    members = {n: masks for n, masks in members.items() if rows[n]}
    miss = FALSE_ALARMS / max(1, len(members))
    needed = rows_needed(_churn(samples), terms.excluded, miss=miss, confidence=ONE_SIDED)
    # What may be waited for is what shows something where models hardly differ.
    at_best = rows_needed(LEAST_CHURN, terms.excluded, miss=miss, confidence=ONE_SIDED)
    small = [n for n in members if rows[n] < max(needed, terms.min_rows)]
    if len(small) > 1:
        together = f"{len(small)} small groups together"
        masks = [np.any([members[n][k] for n in small], axis=0) for k in range(len(samples))]
        members = {n: m for n, m in members.items() if n not in small} | {together: masks}
    found = {
        n: [s.take(m) for s, m in zip(samples, masks, strict=True)] for n, masks in members.items()
    }
    outside = {n: total - sum(map(len, mine)) for n, mine in found.items()}
    of_all = sum(outside.values())
    out = []
    for name, mine in found.items():
        share = outside[name] / of_all if of_all else 1.0 / len(found)
        have = sum(map(len, mine))
        alone = have >= needed or (
            terms.reach > total and _reachable(have, total, terms) >= at_best
        )
        out.append(_judged(name, mine, terms, alpha=terms.alpha * share, alone=alone, total=total))
    return tuple(sorted(out, key=lambda g: (RANK[g.verdict], -g.loss, g.name)))


RANK: dict[Verdict, int] = {"harmed": 0, "open": 1, "unsettled": 2, "within": 2}


def _judged(
    name: str,
    mine: Sequence[PairedRows],
    terms: Terms,
    *,
    alpha: float,
    alone: bool,
    total: int,
) -> GroupLoss:
    """Judge one group.

    Parameters
    ----------
    mine
        Its rows, by sample.
    alpha
        Its part of the error.
    alone
        Whether it has, or will have, rows that exclude a gross loss.
    total
        Labelled rows of all groups.
    """
    threshold = 1.0 / alpha if alpha > 0.0 else math.inf
    parts = {"all": list(mine)}
    if len(mine) > 1 and all(len(s) >= ENOUGH for s in mine):
        parts |= {s.name: [s] for s in mine}
    bets = {where: evidence(part) for where, part in parts.items()}
    e_value = sum(bets.values()) / len(bets)
    whole = Sums.of(mine)
    where = max(bets, key=lambda w: (bets[w], w == "all"))
    shown = Sums.of(parts[where])
    verdict: Verdict
    if e_value >= threshold and shown.loss > terms.limit:
        verdict = "harmed"
    else:
        where, shown = "all", whole
        verdict = "open" if alone else "unsettled"
        if whole.below(terms.excluded) >= ONE_SIDED:
            verdict = "within"
    low, high = shown.bounds(1.0 - 2.0 * min(0.5, alpha))
    need = None
    if verdict == "open" and terms.reach:
        more = _more(whole, terms, e_value=e_value, threshold=threshold)
        need = None if more is None else math.ceil(total * more)
    return GroupLoss(
        name=name,
        verdict=verdict,
        where=where,
        n=shown.n,
        loss=shown.loss,
        low=low,
        high=high,
        e_value=e_value,
        threshold=threshold,
        below=shown.below(terms.limit),
        need=need,
    )


def _more(sums: Sums, terms: Terms, *, e_value: float, threshold: float) -> float | None:
    """Times the rows that would decide an open group at its present rates; evidence grows about
    exponentially with rows."""
    log_e = math.log(max(e_value, 1e-300))
    k = 1.1
    while k <= FAR:
        if sums.times(k).below(terms.excluded) >= ONE_SIDED:
            return k
        if sums.loss > terms.limit and k * log_e >= math.log(threshold):
            return k
        k *= 1.1
    return None


def _churn(samples: Sequence[PairedRows]) -> float:
    """Share of rows that are decided otherwise."""
    sums = Sums.of(samples)
    return (sums.lost + sums.won) / sums.n if sums.n else 0.0


def _reachable(rows: int, total: int, terms: Terms) -> float:
    """Rows of a group once all that may be waited for are there, if its share is as large as the
    rows there are allow: whoever is not sure waits."""
    _, share = intervals.wilson(rows / total, total)
    return rows + share * (terms.reach - total)

"""Domain classifier: can fresh rows be told from older ones, and what was lost where both are?

A classifier two-sample test, and with its scores the division of a loss into what moved inputs
explain and what changed at the same inputs. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from redistill.compress.judge.points import POINTS, Right, change, normal
from redistill.compress.plan import Measure

__all__ = ["Divided", "divide", "tell_apart"]

FOLDS = 5
MAX_ROWS = 4_000
"""Of either kind that are looked at; more are drawn."""
MAX_TERMS = 128
"""Terms of the classifier: those that differ most, chosen within each fold."""
RIDGE = 0.01
"""Penalty per row, on standardised terms: 60 terms on 600 rows do not learn them by heart."""
REACH = 6.0
"""Standardised values are cut here: a change of unit need not be told apart twice."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Domain:
    """What the classifier says of each row, by models that were not fitted on it."""

    fresh: Floats  # (n,) probability that a row is fresh, if as many were of either kind; NaN =
    # not looked at
    old: Floats  # (m,)
    auc: Measure
    """Area under the ROC curve: .5 = no difference is seen."""


def tell_apart(fresh: Floats, old: Floats, *, seed: int) -> Domain | None:
    """Train a classifier that tells fresh rows from old ones; cross-fitted.

    Logistic regression with a ridge on values and squares, standardised by the old rows' quartiles;
    isotonic in its scores, so that rows of a kind that is new get a probability of one.

    Parameters
    ----------
    fresh, old
        ``(n, columns)`` and ``(m, columns)``, encoded (``data.encode``): no NaN.
    seed
        Of folds and draws.

    Returns
    -------
    Domain or None
        ``None`` with fewer than 20 rows of either kind.

    References
    ----------
    Lopez-Paz, Oquab 2017, Revisiting classifier two-sample tests (ICLR); DeLong, DeLong,
    Clarke-Pearson 1988, Comparing the areas under two or more correlated receiver operating
    characteristic curves (Biometrics 44), for the interval; Zadrozny, Elkan 2002, Transforming
    classifier scores into accurate multiclass probability estimates (KDD).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> moved = tell_apart(rng.normal(1.0, 1.0, (300, 3)), rng.normal(size=(300, 3)), seed=1)
    >>> same = tell_apart(rng.normal(size=(300, 3)), rng.normal(size=(300, 3)), seed=1)
    >>> moved.auc.low > 0.8, same.auc.low < 0.5 < same.auc.high
    (True, True)
    """
    rng = np.random.default_rng([seed, 3])
    a = np.sort(rng.permutation(len(fresh))[:MAX_ROWS])
    b = np.sort(rng.permutation(len(old))[:MAX_ROWS])
    if min(len(a), len(b)) < 4 * FOLDS:
        return None
    terms = _terms(np.concatenate([fresh[a], old[b]]), old[b])
    y = np.concatenate([np.ones(len(a)), np.zeros(len(b))])
    w = np.where(y == 1, len(y) / 2 / len(a), len(y) / 2 / len(b))
    fold = np.concatenate([rng.permutation(len(a)) % FOLDS, rng.permutation(len(b)) % FOLDS])
    scores = np.empty(len(y))
    for k in range(FOLDS):
        fit, judge = fold != k, fold == k
        scores[judge] = _fitted(terms[fit], y[fit], w[fit], terms[judge])
    p = np.full(len(fresh), np.nan)
    q = np.full(len(old), np.nan)
    share = _isotonic(scores, y, w)
    p[a], q[b] = share[: len(a)], share[len(a) :]
    return Domain(fresh=p, old=q, auc=_auc(scores[: len(a)], scores[len(a) :]))


def _terms(x: Floats, old: Floats) -> Floats:
    """Values and squares, standardised: ``(n, 2 * columns)``."""
    low, middle, high = np.quantile(old, (0.25, 0.5, 0.75), axis=0)
    width = (high - low) / 1.349
    width = np.where(width > 1e-9, width, np.where(old.std(axis=0) > 1e-9, old.std(axis=0), 1.0))
    z = np.clip((x - middle) / width, -REACH, REACH)
    both = np.concatenate([z, z**2], axis=1)
    mean, deviation = both.mean(axis=0), both.std(axis=0)
    used = deviation > 1e-9
    return np.asarray((both[:, used] - mean[used]) / deviation[used])


def _fitted(x: Floats, y: Floats, w: Floats, ask: Floats) -> Floats:
    """Log odds of other rows, from a logistic regression by Newton's method."""
    ones, zeros = y == 1, y == 0
    differ = np.abs(
        np.average(x[ones], axis=0, weights=w[ones])
        - np.average(x[zeros], axis=0, weights=w[zeros])
    )
    chosen = np.sort(np.argsort(-differ, kind="stable")[:MAX_TERMS])
    z = np.concatenate([np.ones((len(x), 1)), x[:, chosen]], axis=1)
    penalty = np.full(z.shape[1], RIDGE * w.sum())
    penalty[0] = 0.0
    beta = np.zeros(z.shape[1])
    for _ in range(12):
        p = expit(z @ beta)
        slope = z.T @ (w * (y - p)) - penalty * beta
        curve = (z * (w * p * (1 - p))[:, None]).T @ z + np.diag(penalty + 1e-9)
        step = np.linalg.solve(curve, slope)
        beta += step
        if float(np.abs(step).max()) < 1e-4:
            break
    out: Floats = np.concatenate([np.ones((len(ask), 1)), ask[:, chosen]], axis=1) @ beta
    return out


def _isotonic(scores: Floats, y: Floats, w: Floats) -> Floats:
    """Share of ones at each score, rising with it: pools of neighbours that would fall."""
    order = np.argsort(scores, kind="stable")
    _, inverse = np.unique(scores[order], return_inverse=True)
    weight = np.bincount(inverse, weights=w[order])
    ones = np.bincount(inverse, weights=(w * y)[order])
    pools: list[list[float]] = []  # (weight, ones, scores)
    for total, hits in zip(weight.tolist(), ones.tolist(), strict=True):
        pools.append([total, hits, 1])
        while len(pools) > 1 and pools[-2][1] * pools[-1][0] >= pools[-1][1] * pools[-2][0]:
            last = pools.pop()
            pools[-1] = [a + b for a, b in zip(pools[-1], last, strict=True)]
    level = np.repeat([h / t for t, h, _ in pools], [int(k) for _, _, k in pools])
    out = np.empty(len(scores))
    out[order] = level[inverse]
    return out


def _auc(fresh: Floats, old: Floats) -> Measure:
    n, m = len(fresh), len(old)
    ranked, ordered = np.sort(old), np.sort(fresh)
    # share of the rows of the other kind that a row exceeds; ties count half
    placed = (np.searchsorted(ranked, fresh) + np.searchsorted(ranked, fresh, "right")) / 2 / m
    beaten = (np.searchsorted(ordered, old) + np.searchsorted(ordered, old, "right")) / 2 / n
    auc = float(placed.mean())
    variance = float(placed.var(ddof=1)) / n + float(beaten.var(ddof=1)) / m
    found = normal(auc, variance, n + m)
    assert found.low is not None
    assert found.high is not None
    return Measure(value=auc, low=max(0.0, found.low), high=min(1.0, found.high), n=n + m)


@dataclass(frozen=True, kw_only=True, slots=True)
class Divided:
    """A loss, divided. In points."""

    same_inputs: Measure
    """Lost at inputs that both kinds of rows have: what changed is the answer to the same."""
    moved_inputs: Measure
    """The rest: lost because the rows are others."""
    effective: float
    """Labelled fresh rows that stand behind ``same_inputs`` (Kish)."""


def divide(
    domain: Domain,
    fresh: tuple[NDArray[np.bool_], Right],
    old: Right,
    lost: Measure,
) -> Divided | None:
    """Divide a loss into what moved inputs explain, and what changed at the same inputs.

    Both kinds of rows are weighted to a distribution that they share, with density proportional to
    ``pq / (p + q)``: fresh rows by the probability of being old, old rows by that of being fresh.
    What is lost between them there is not a matter of inputs.

    Parameters
    ----------
    domain
        From ``tell_apart``, on the rows of ``fresh`` and of ``old``.
    fresh
        ``(n,)`` which fresh rows have a label; and, of these only, which were answered right.
    old
        ``(m,)`` which old rows were answered right.
    lost
        The whole loss, in points.

    Returns
    -------
    Divided or None
        ``None`` where they share too little to say anything.

    References
    ----------
    Cai, Namkoong, Yadlowsky 2023, Diagnosing model performance under distribution shift
    (arXiv 2303.02011).
    """
    labelled, right = fresh
    p, q = domain.fresh[labelled], domain.old
    known, known_old = np.isfinite(p), np.isfinite(q)
    now = _weighted(right[known], 1.0 - p[known])
    before = _weighted(old[known_old], q[known_old])
    if now is None or before is None:
        return None
    same = change(before[0], now[0])
    return Divided(same_inputs=same, moved_inputs=change(lost, same), effective=now[1])


def _weighted(right: Right, w: Floats) -> tuple[Measure, float] | None:
    """Weighted share in points with a normal interval (Hájek's estimator), and effective rows."""
    total = float(w.sum())
    if total <= 0.0:
        return None
    effective = total**2 / float((w**2).sum())
    if effective < 10:
        return None
    share = float((w * right).sum() / total)
    # half a row right and half a row wrong more: no interval has no width
    smooth = (share * effective + 0.5) / (effective + 1.0)
    spread = float((w**2 * (right - share) ** 2).sum() / total**2)
    variance = max(spread, smooth * (1 - smooth) / (effective + 1.0) / 2)
    return normal(share * POINTS, variance * POINTS**2, len(right)), effective

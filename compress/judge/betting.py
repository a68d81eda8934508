"""Bets on paired loss differences: evidence after any number of rows that a mean is above a limit.

A row's difference ``d`` is the loss of the one model minus the loss of the other, each in 0..1. Who
does not believe that the mean of ``d`` over traffic is above a limit should let a gambler stake on
each row that it is: the gambler cannot expect to gain. So what a gambler who starts with 1 has won
is evidence, and that it *ever* reaches 1/a has probability a at most if the mean is not above the
limit, however often one looks and whenever one stops (Ville 1939; Waudby-Smith and Ramdas 2024).

Rows that were labelled with a known probability ``p`` count ``1 / p`` times: over traffic that
gives back the mean of all rows, so rows without labels need not even be counted. The largest
weight is fixed beforehand, as it limits what may be staked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["STRONG", "W_MAX", "Bet", "e_value", "e_values", "rows_to_decide"]

Array = NDArray[np.float64]

W_MAX = 20.0
"""Largest weight of a row that any bet allows, and the one where nothing else was agreed on."""

_LARGEST_LOG = 700.0
"""Of an e-value: near the end of the floats, and JSON knows no infinity."""
_ROUNDING = 1e-9
"""A product of rates may fall short of the smallest probability by this share."""
_MOST_ROWS = 1_000_000
"""``rows_to_decide`` does not look beyond: nobody labels so many."""
_AT_ONCE = 4096
"""Distinct values that meet all stakes at once: 1.5 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class Stakes:
    """A mixture of stakes, fixed before any row is seen."""

    at: Array  # (S,) shares of the largest stake that cannot go broke
    log_shares: Array  # (S,) logarithms of their shares of the first capital, which add up to 1

    @classmethod
    def of(cls, *parts: tuple[Array, float]) -> Stakes:
        """Of groups of stakes, each with its share, evenly divided."""
        shares = np.concatenate([np.full(len(at), share / len(at)) for at, share in parts])
        return cls(np.concatenate([at for at, _ in parts]), np.log(shares))


USUAL = Stakes.of(
    (np.geomspace(0.01, 0.09, 9), 0.04),
    (np.geomspace(0.1, 0.98, 33), 0.84),
    (np.array([0.95]), 0.12),
)
"""84% lie evenly in the logarithm between .1 and .98: the best stake against "not better" is about
mean / variance, .17 for 5 points at a churn of 30%, and nobody knows its order of magnitude. 12%
lie at .95, which decides after a dozen rows where one side always wins. 4% lie below .1, for
differences that need ten thousands of rows."""
STRONG = Stakes.of((np.linspace(0.02, 0.98, 49), 1.0))
"""For rows of which only a large difference matters, mostly to one side: 17 losses against 2 gains
give 300 in place of 190."""


@dataclass(frozen=True, kw_only=True)
class Bet:
    """What a bet has come to."""

    e: float
    """E-value: 1 without rows, at most ``exp(700)``."""
    n: int
    """Rows that entered."""
    effective_n: float
    """Number of equally weighted rows that would tell as much (Kish 1965)."""
    left_out: int
    """Labelled rows that did not enter, since they weigh more than ``w_max``. The e-value says
    nothing about such traffic."""
    missing: int
    """Requests that nobody answered, those that would be left out not counted."""
    e_missing: float
    """E-value with each of them as the worst case, d = -1. Whatever the answers would have been,
    the bet on all requests would have been worth at least this."""


def e_value(
    d: ArrayLike,
    *,
    above: float = 0.0,
    p: ArrayLike | None = None,
    missing: ArrayLike | None = None,
    w_max: float = W_MAX,
    stakes: Stakes = USUAL,
) -> Bet:
    """Evidence that the mean of ``d`` over traffic is above a limit, against "it is not".

    For "it is below a limit" give ``-d`` and ``-limit``. The order of the rows does not matter:
    all stakes are fixed beforehand, and what each of them has won is a product.

    ``e`` keeps its promise only if neither whether a label came nor when hangs on ``d``: where
    complaints come late, the first rows are all wins. ``e_missing`` over all requests up to now
    keeps it whatever comes when; so does ``e`` over requests that are so old that all of them were
    answered.

    Parameters
    ----------
    d
        ``(n,)`` differences in -1..1, one a labelled row, any numbers between.
    above
        The limit, between -1 and 1.
    p
        ``(n,)`` probabilities in (0, 1] with which the rows were chosen to be labelled, known
        before their labels. None: by design all rows were equally likely; each counts once, and
        nothing of the stakes is held back for large weights.
    missing
        ``(m,)`` such probabilities of requests that nobody answered. Where ``p`` is None only
        their number counts.
    w_max
        Largest weight, 1 to ``W_MAX``; rows with a probability below ``1 / w_max`` are left out.
        The smaller it is the more can be staked: where all probabilities are .5, the limit 20 in
        place of 2 costs 1.3 to 3.5 times the labels. It must be fixed before the first row is
        seen, from the way in which rows are chosen: one taken from the rows would be a peek.
    stakes
        What is staked, chosen as blindly.

    Returns
    -------
    Bet
        With the e-value, and the one that holds if every missing answer is the worst.

    Raises
    ------
    ValueError
        A number out of range or not a number, with its row.

    References
    ----------
    Ville 1939, Étude critique de la notion de collectif. Robbins 1970, Statistical methods related
    to the law of the iterated logarithm (mixtures). Cover 1991, Universal portfolios (a fixed
    mixture of stakes loses little against the best of them). Waudby-Smith, Ramdas 2024, Estimating
    means of bounded random variables by betting (JRSS B 86). Weights: Horvitz, Thompson 1952;
    Waudby-Smith, Wu, Ramdas, Karampatziakis, Mineiro 2024, Anytime-valid off-policy inference for
    contextual bandits.

    Examples
    --------
    >>> bet = e_value([1.0] * 9)
    >>> round(bet.e), bet.n
    (99, 9)
    >>> bet = e_value([0.5, -0.25, 0.5], p=[0.5, 0.5, 0.01], missing=[0.5])
    >>> bet.n, bet.left_out, bet.missing, bet.e_missing < bet.e
    (2, 1, 1, True)
    """
    _check_limit(above, w_max)
    rows, weights, enters = _weighted(d, p, above, w_max)
    e = float(_evidence(_log_wealth(rows, stakes=stakes), stakes))
    absent, e_missing = 0, e
    if missing is not None:
        asked = _probabilities(missing, "missing")
        worst, _, _ = _weighted(
            np.full(len(asked), -1.0), None if p is None else asked, above, w_max
        )
        absent = len(worst)
        total = _log_wealth(np.concatenate([rows, worst]), stakes=stakes)
        e_missing = float(_evidence(total, stakes))
    squares = float(np.square(weights).sum())
    return Bet(
        e=e,
        n=len(rows),
        effective_n=float(weights.sum()) ** 2 / squares if squares else 0.0,
        left_out=int(len(enters) - len(rows)),
        missing=absent,
        e_missing=e_missing,
    )


def e_values(
    d: ArrayLike,
    looks: ArrayLike,
    *,
    above: float = 0.0,
    p: ArrayLike | None = None,
    w_max: float = W_MAX,
) -> Array:
    """The e-values that ``e_value`` finds after each of many looks, in one pass.

    Parameters
    ----------
    d, above, p, w_max
        As for ``e_value``.
    looks
        ``(L,)`` numbers of rows, rising, each at most ``n``.

    Returns
    -------
    ndarray
        ``(L,)`` evidence of the first rows of each look.

    Raises
    ------
    ValueError
        As ``e_value``, and for looks that fall or go beyond the rows.

    Examples
    --------
    >>> e_values([1.0] * 9, [3, 6, 9]).round().tolist()
    [3.0, 17.0, 99.0]
    """
    _check_limit(above, w_max)
    rows, _, enters = _weighted(d, p, above, w_max)
    at = np.asarray(looks, np.int64)
    if len(at) and (at[0] < 0 or at[-1] > len(enters) or (np.diff(at) < 0).any()):
        raise ValueError(f"looks are rising numbers of rows, at most {len(enters)}, got {at}")
    gains, kind = np.unique(rows, return_inverse=True)
    first_look = np.searchsorted(at, np.flatnonzero(enters), side="right")
    shape = (len(at) + 1, len(gains))  # the last line is of rows that no look sees
    counts = np.bincount(first_look * len(gains) + kind, minlength=shape[0] * shape[1])
    seen = np.cumsum(counts.reshape(shape)[:-1], axis=0, dtype=np.float64)
    return _evidence(_log_wealth(gains, seen))


def rows_to_decide(
    d: ArrayLike,
    threshold: float,
    *,
    above: float = 0.0,
    p: ArrayLike | None = None,
    w_max: float = W_MAX,
) -> int | None:
    """Rows, those that are there included, with which the e-value reaches a threshold if the rows
    to come are a mix like those that are there.

    A forecast without an interval: it takes the mix as given, and from few rows it is rough.

    Parameters
    ----------
    d, above, p, w_max
        As for ``e_value``; rows that are left out there count here, as they cost a label too.
    threshold
        Of the e-value.

    Returns
    -------
    int or None
        None where it takes over a million rows, where the mean is not above the limit, or without
        rows.

    Raises
    ------
    ValueError
        As ``e_value``.

    Examples
    --------
    >>> rows_to_decide([1.0] * 7 + [-1.0] * 5 + [0.0] * 28, 200.0)
    1614
    >>> rows_to_decide([1.0, -1.0], 200.0) is None
    True
    """
    _check_limit(above, w_max)
    rows, _, enters = _weighted(d, p, above, w_max)
    if not len(rows):
        return None
    growth = _log_wealth(rows) / len(enters)  # (S,) a row
    goal = math.log(threshold) if threshold > 1.0 else 0.0
    low, high = 0, _MOST_ROWS  # what is won is convex in the rows and starts at 0: one crossing
    if _log_mixture(growth * high) < goal:
        return None
    while low < high:
        middle = (low + high) // 2
        if _log_mixture(growth * middle) >= goal:
            high = middle
        else:
            low = middle + 1
    return low


def _weighted(
    d: ArrayLike, p: ArrayLike | None, above: float, w_max: float
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Gains of the largest stake on each row that enters (-1 or more: a stake of 1 loses all on the
    worst row), their weights, and which rows enter."""
    differences = np.asarray(d, np.float64)
    _check_rows(differences, (differences >= -1.0) & (differences <= 1.0), "d", "-1..1")
    if p is None:
        enters = np.ones(len(differences), np.bool_)
        weights, largest = np.ones(len(differences)), 1.0
    else:
        chosen = _probabilities(p, "p")
        if len(chosen) != len(differences):
            raise ValueError(f"{len(differences)} differences, but {len(chosen)} probabilities")
        enters = chosen * w_max >= 1.0 - _ROUNDING
        weights, largest = np.minimum(1.0 / chosen[enters], w_max), w_max
    gains = weights / largest * (differences[enters] - above) / (1.0 + above)
    return np.maximum(gains, -1.0), weights, enters


def _probabilities(p: ArrayLike, name: str) -> Array:
    out = np.asarray(p, np.float64)
    _check_rows(out, (out > 0.0) & (out <= 1.0), name, "0..1, 0 left out")
    return out


def _check_rows(values: Array, good: NDArray[np.bool_], name: str, within: str) -> None:
    if values.ndim != 1:
        raise ValueError(f"{name} is one number a row, got an array of shape {values.shape}")
    if not good.all():
        row = int(np.argmin(good))
        raise ValueError(f"{name}[{row}] is {values[row]}: it must lie in {within}")


def _check_limit(above: float, w_max: float = W_MAX) -> None:
    if not 1.0 <= w_max <= W_MAX:
        raise ValueError(f"w_max is {w_max}: it must lie in 1..{W_MAX:g}")
    if not -1.0 < above < 1.0:
        raise ValueError(f"above is {above}: a mean of differences is compared with -1..1 between")


def _log_wealth(gains: Array, counts: Array | None = None, *, stakes: Stakes = USUAL) -> Array:
    """``(S,)`` logarithms of what each stake has won on rows of these gains; ``(L, S)`` where there
    are ``(L, kinds)`` counts."""
    if counts is None:  # equal rows meet the stakes once; sorted, so that order leaves no trace
        gains, often = np.unique(gains, return_counts=True)
        counts = often.astype(np.float64)
    out = np.zeros((*counts.shape[:-1], len(stakes.at)))
    for start in range(0, len(gains), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        out += counts[..., part] @ np.log1p(np.multiply.outer(gains[part], stakes.at))
    return out


def _evidence(log_wealth: Array, stakes: Stakes = USUAL) -> Array:
    """What all stakes together have won, within the floats: ``()`` of ``(S,)``, ``(L,)`` of
    ``(L, S)``."""
    return np.asarray(np.exp(np.minimum(_log_mixture(log_wealth, stakes), _LARGEST_LOG)))


def _log_mixture(log_wealth: Array, stakes: Stakes = USUAL) -> Array:
    """Logarithm of it."""
    logs = log_wealth + stakes.log_shares
    top = logs.max(axis=-1, keepdims=True)
    return np.asarray(top[..., 0] + np.log(np.exp(logs - top).sum(axis=-1)))

"""Pairs of rows of different classes: the area under the ROC curve as a mean of bounded
differences.

The area is the probability that a row of the class has a higher score than a row of another class.
So the difference of two models' areas is a mean over such pairs, and ``betting.e_value`` can bet on
it, if no row is in two pairs and a pair that a bet was made on is never taken apart.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["auc_differences", "disjoint_pairs"]

Array = NDArray[np.float64]
Rows = NDArray[np.intp]


def disjoint_pairs(
    truth: ArrayLike, classes: int, hashes: ArrayLike, *, look: ArrayLike | None = None
) -> Rows:
    """Pairs of rows of two classes, each row in one pair at most.

    The rows of each class stand in a line: by look, within a look by salted hash, which knows
    nothing of scores. In each round every class meets every other once, with the next rows of both
    lines, so two classes meet first with first, second with second, and so on. A later look only
    makes the lines longer: the pairs of earlier looks stay, and stay in front. Rows that are over
    wait for the looks to come.

    Parameters
    ----------
    truth
        ``(n,)`` classes, 0 to ``classes - 1``.
    classes
        Two or more. The rarest of them says how many rounds there are: ``classes - 1`` of its rows
        a round.
    hashes
        ``(n,)`` salted hashes of the rows' ids.
    look
        ``(n,)`` number of the look at which a row was first there. A look that was made must never
        gain a row afterwards; the running number of a row's label will do as well, with each row a
        look of its own. None: all rows are from one look, and there will be no other.

    Returns
    -------
    ndarray
        ``(m, 2)`` numbers of rows, round by round, ``classes * (classes - 1) / 2`` pairs each; the
        row of the lower class stands first.

    Raises
    ------
    ValueError
        A class out of range, fewer than two classes, lengths that differ.

    Examples
    --------
    >>> disjoint_pairs([1, 0, 0, 1, 0], 2, [5, 9, 3, 4, 1]).tolist()
    [[4, 3], [2, 0]]
    """
    of = np.asarray(truth)
    salted = np.asarray(hashes)
    looks = np.zeros(len(of), np.int64) if look is None else np.asarray(look)
    if classes < 2:
        raise ValueError(f"pairs need two classes, got {classes}")
    if not len(of) == len(salted) == len(looks):
        raise ValueError(f"{len(of)} classes, {len(salted)} hashes, {len(looks)} looks")
    if len(of) and not (of.min() >= 0 and of.max() < classes):
        raise ValueError(f"truth must lie in 0..{classes - 1}, got {of.min()}..{of.max()}")
    order = np.lexsort((salted, looks))
    lines = [order[of[order] == c] for c in range(classes)]
    rounds = min(len(line) for line in lines) // (classes - 1)
    meets = [line[: rounds * (classes - 1)].reshape(rounds, classes - 1) for line in lines]
    found = [
        np.stack([meets[low][:, high - 1], meets[high][:, low]], axis=1)  # (rounds, 2)
        for low in range(classes)
        for high in range(low + 1, classes)
    ]
    return np.stack(found, axis=1).reshape(-1, 2)


def auc_differences(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    truth: ArrayLike,
    hashes: ArrayLike,
    *,
    look: ArrayLike | None = None,
) -> Array:
    """How much better the first model orders each pair than the second.

    Their mean over traffic is the area of the first minus that of the second. With more than two
    classes the area is Hand and Till's: the mean over all pairs of classes, each as much as the
    other, of the area within the pair, by the score of the one class and by that of the other. It
    does not depend on how frequent the classes are. Pairs of classes take turns, so single pairs
    have different means; a product over a whole round can still not be expected to gain if the
    mean of the round is not above the limit (a geometric mean is at most the arithmetic one), and
    only whole rounds are given out.

    Parameters
    ----------
    scores_a, scores_b
        ``(n, C)`` scores of two models for the same rows, ``(n,)`` or ``(n, 1)`` for the second of
        two classes. With two columns their difference orders the rows, so logits will do; with
        more, each column is compared for itself, and only probabilities make sense.
    truth, hashes, look
        As for ``disjoint_pairs``.

    Returns
    -------
    ndarray
        ``(m,)`` differences in -1..1, one a pair of ``disjoint_pairs``; a tie counts half. Rows
        that were labelled with probabilities ``p``: the pair's is the product of both,
        ``p[disjoint_pairs(...)].prod(axis=1)``.

    Raises
    ------
    ValueError
        A score that is not a number, shapes that do not fit, and what ``disjoint_pairs`` raises.

    References
    ----------
    Mann, Whitney 1947 and Bamber 1975 (the area as a probability over pairs); Hand, Till 2001, A
    simple generalisation of the area under the ROC curve for multiple class classification
    problems (Machine Learning 45).

    Examples
    --------
    >>> auc_differences([0.9, 0.2, 0.6], [0.1, 0.2, 0.2], [1, 0, 1], [1, 2, 3]).tolist()
    [1.0]
    """
    first, second = _columns(scores_a, "scores_a"), _columns(scores_b, "scores_b")
    of = np.asarray(truth).astype(np.intp)
    if first.shape != second.shape or len(first) != len(of):
        raise ValueError(f"scores {first.shape} and {second.shape} of {len(of)} rows")
    pairs = disjoint_pairs(of, first.shape[1], hashes, look=look)
    return _ordered(first, of, pairs) - _ordered(second, of, pairs)


def _columns(scores: ArrayLike, name: str) -> Array:
    """``(n, C)`` float64, a column a class, C at least 2."""
    out = np.asarray(scores, np.float64)
    if np.isnan(out).any():
        row = int(np.argmax(np.isnan(out.reshape(len(out), -1)).any(axis=1)))
        raise ValueError(f"{name}[{row}] holds a number that is none")
    if out.ndim == 2 and out.shape[1] == 2:
        out = out[:, 1] - out[:, 0]
    if out.ndim == 1 or out.shape[1] == 1:
        second = out.reshape(-1)
        return np.stack([-second, second], axis=1)
    return out


def _ordered(scores: Array, truth: Rows, pairs: Rows) -> Array:
    """``(m,)`` share of the two classes of each pair whose score puts its own row above the other;
    ties count half."""
    low, high = pairs[:, 0], pairs[:, 1]
    by_low = np.sign(scores[low, truth[low]] - scores[high, truth[low]])
    by_high = np.sign(scores[high, truth[high]] - scores[low, truth[high]])
    out: Array = 0.5 + (by_low + by_high) / 4.0
    return out

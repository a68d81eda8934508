"""Priors of a classifier: the shares of its classes in another mix, by its answers alone. Pure.

Where only the shares of the classes moved, what the inputs of a class look like stays, and so the
right posterior is the old one reweighted by how much more frequent each class became. The new
shares need no labels: they are those under which the corrected posteriors average to themselves
(Saerens, Latinne, Decaestecker 2002, Adjusting the outputs of a classifier to new a priori
probabilities, Neural Computation 14).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEAST_SHARE", "Floats", "new_shares"]

ROUNDS = 1_000
"""Of expectation and maximisation at most; each costs a pass over some thousand rows."""
SETTLED = 1e-7
"""Change of any share at which it has converged."""
LEAST_SHARE = 1e-4
"""A class is never given up: a share of 0 could not come back, whatever a row looks like."""
Floats = NDArray[np.float64]


def new_shares(posteriors: Floats, old: Floats) -> Floats:
    """Shares of the classes among some rows, by a classifier that learned other shares.

    Parameters
    ----------
    posteriors
        ``(n, classes)`` what it answers, probabilities; rows that are not finite are left out.
    old
        ``(classes,)`` the shares under which its posteriors are right, each above 0.

    Returns
    -------
    numpy.ndarray
        ``(classes,)``, which sum to 1: a maximum of the likelihood, which has one only (the
        logarithm of a sum that is linear in the shares is concave). ``old`` without rows.

    Examples
    --------
    >>> sure = np.array([[0.9, 0.1]] * 20 + [[0.1, 0.9]] * 80)  # learned from equal shares
    >>> new_shares(sure, np.array([0.5, 0.5])).round(3).tolist()  # one answer in ten is wrong
    [0.125, 0.875]
    """
    known = posteriors[np.isfinite(posteriors).all(axis=1)]
    shares = old.copy()
    if not len(known):
        return shares
    likelihood = known / old  # (n, classes), up to a factor of each row
    for _ in range(ROUNDS):
        weighted = likelihood * shares
        found = (weighted / weighted.sum(axis=1, keepdims=True)).mean(axis=0)
        found = np.maximum(found, LEAST_SHARE)
        found /= found.sum()
        moved = float(np.abs(found - shares).max())
        shares = found
        if moved < SETTLED:
            break
    return shares

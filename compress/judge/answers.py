"""Answers of a classifier: the class of the largest score. Apart from what is known of tasks, since
the child that probes graphs waits for its imports and computes no statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["largest"]


def largest(scores: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Index of the largest score of each row, ``(n,)``; -1 where scores are not finite.

    Examples
    --------
    >>> largest(np.array([[0.1, 0.9], [np.nan, 1.0]])).tolist()
    [1, -1]
    """
    finite = np.isfinite(scores)
    return np.where(finite.all(axis=1), np.argmax(np.where(finite, scores, 0), axis=1), -1)

"""Mix against worse: what part of a loss is that harder rows came, and what part that the model got
worse on rows of the same kind. Plain numpy.

``observed - reference = (expected - reference) + (observed - expected)``: the first is what the
expected-error table says of the rows that came, *the mix moved*; the second is what it does not
explain, *it got worse*.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redistill.stats import clopper_pearson

__all__ = ["Excess", "excess_of", "split"]

NORMAL = 1.96
"""Of a 95% interval of a mean."""


@dataclass(frozen=True, slots=True)
class Excess:
    """Errors above what was expected, as a share of the rows, with a 95% interval."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class LossSplit:
    """A loss of accuracy in two parts that add up to it; proportions."""

    moved: Excess
    """Part of the mix: *estimated*, from the labelled rows, which are a random sample of all."""
    worse: Excess
    """Part that the mix does not explain: *measured* on the same rows."""


def excess_of(errors: int, n: int, expected: float) -> Excess:
    """Errors of some labelled rows above those expected of the same rows.

    The interval is the exact one of the error (Clopper-Pearson) minus the mean expected error. It
    covers .94 to .98; Wald's covered .89 to .97.

    Parameters
    ----------
    errors, n
        Wrong rows, labelled rows.
    expected
        Sum of their expected errors.

    Examples
    --------
    >>> e = excess_of(30, 100, 10.0)
    >>> round(e.value, 2), round(e.low, 2), round(e.high, 2)
    (0.2, 0.11, 0.3)
    """
    if n == 0:
        return Excess(0.0, -1.0, 1.0, 0)
    mean = expected / n
    low, high = clopper_pearson(errors, n)
    return Excess(errors / n - mean, low - mean, high - mean, n)


def split(
    error: NDArray[np.uint8], expected: NDArray[np.floating], reference: float
) -> LossSplit | None:
    """Split the loss of random labelled rows.

    Parameters
    ----------
    error, expected
        ``(n,)`` whether each row was wrong, and its expected error.
    reference
        Error rate of the reference.

    Returns
    -------
    LossSplit or None
        ``None``: there are no rows.

    Examples
    --------
    >>> hard = np.r_[np.full(500, 0.1), np.full(500, 0.3)]
    >>> wrong = np.r_[np.tile([1] + [0] * 9, 50), np.tile([1, 1, 1] + [0] * 7, 50)]
    >>> s = split(wrong.astype(np.uint8), hard, 0.1)
    >>> round(s.moved.value, 3), round(s.worse.value, 3)
    (0.1, 0.0)
    """
    n = len(error)
    if not n:
        return None
    mu = np.asarray(expected, np.float64)
    mean = float(mu.mean())
    half = NORMAL * float(mu.std()) / math.sqrt(n)
    moved = mean - reference
    return LossSplit(
        Excess(moved, moved - half, moved + half, n),
        excess_of(int(error.sum()), n, float(mu.sum())),
    )

"""Second labels: whether those who label contradict each other more than people do. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redistill.compress.judge.points import Right, gap
from redistill.compress.plan import Measure
from redistill.stats import clopper_pearson

__all__ = ["SecondLabels", "second_labels"]

USUAL = 0.034
"""Share of wrong labels in ten well-kept test sets, on average (Northcutt, Athalye, Mueller 2021,
Pervasive label errors in test sets, NeurIPS); two sources differ about so often for no reason."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SecondLabels:
    """Rows that two sources have labelled."""

    differ: Measure
    """Share on which they differ."""
    allowed: float
    """Share that is nothing new: the upper bound of what it was before the change, where known."""
    by_second: Measure
    """Points by which the student is better if the second source is believed."""

    @property
    def suspect(self) -> bool:
        """Whether they surely differ more often than is allowed."""
        return self.differ.low is not None and self.differ.low > self.allowed


def second_labels(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    answers: NDArray[np.int64],
    *,
    before: tuple[int, int] | None,
) -> SecondLabels | None:
    """Compare the labels of two sources on the rows that have both.

    Parameters
    ----------
    first, second
        ``(n,)``, -1 = none.
    answers
        ``(n,)`` of the student.
    before
        (rows that differed, rows with both) before the change; ``None``: not known.

    Returns
    -------
    SecondLabels or None
        ``None`` where no row has both. The share's interval is exact (Clopper and Pearson 1934).

    Examples
    --------
    >>> first = np.array([0] * 60); second = np.array([1] * 15 + [0] * 45)
    >>> seen = second_labels(first, second, np.zeros(60, np.int64), before=None)
    >>> seen.differ.value, seen.suspect
    (0.25, True)
    """
    both = (first >= 0) & (second >= 0)
    n = int(both.sum())
    if n == 0:
        return None
    a, b, said = first[both], second[both], answers[both]
    k = int((a != b).sum())
    low, high = clopper_pearson(k, n)
    by_first: Right = said == a
    by_second: Right = said == b
    return SecondLabels(
        differ=Measure(value=k / n, low=low, high=high, n=n),
        allowed=USUAL if before is None or not before[1] else clopper_pearson(*before)[1],
        by_second=gap(by_second, by_first),
    )

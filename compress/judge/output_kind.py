"""Output kind: whether outputs can be what they were declared to be, logits or probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["misdeclared", "unscaled"]

TOLERANCE = 1e-3
"""What rounding to float16 or int8 may do to a probability, or to the sum of some."""
WIDE_TOLERANCE = 0.05
"""Beyond it a sum is no matter of rounding."""
FEW = 0.01
"""Share of rows that may be odd for reasons of their own."""


def misdeclared(outputs: NDArray[np.float32], kind: str) -> str | None:
    """What is wrong with the declared kind of a graph's outputs; ``None``: nothing that shows.

    Confidence, calibration and what students learn from a teacher all depend on it; accuracy does
    not, so that nobody else would notice.

    Parameters
    ----------
    outputs
        ``(n, classes)``; rows that are not finite are not looked at.
    kind
        ``logits`` or ``probabilities``.

    Examples
    --------
    >>> misdeclared(np.array([[0.25, 0.75]], np.float32), "logits")
    'each row of its output adds up to 1: output_kind must be "probabilities"'
    >>> misdeclared(np.array([[-1.5, 2.0]], np.float32), "probabilities")
    'its output runs from -1.5 to 2: output_kind must be "logits"'
    >>> misdeclared(np.array([[-1.5, 2.0]], np.float32), "logits")
    """
    rows = outputs[np.isfinite(outputs).all(axis=1)]
    if not rows.size:
        return None
    low, high = float(rows.min()), float(rows.max())
    bounded = low >= -TOLERANCE and high <= 1 + TOLERANCE
    if kind == "probabilities" and not bounded:
        return f'its output runs from {low:.3g} to {high:.3g}: output_kind must be "logits"'
    adds_up = bool((np.abs(rows.sum(axis=1) - 1) <= TOLERANCE).all())
    if kind == "logits" and bounded and adds_up:
        return 'each row of its output adds up to 1: output_kind must be "probabilities"'
    return None


def unscaled(outputs: NDArray[np.float32], kind: str) -> str | None:
    """What else is odd about the declared kind of a new model's outputs; ``None``: nothing.

    It takes many rows to tell, and a model that serves is not judged by it.

    Parameters
    ----------
    outputs
        ``(n, classes)``; rows that are not finite are not looked at.
    kind
        ``logits`` or ``probabilities``.

    Examples
    --------
    >>> unscaled(np.array([[0.25, 0.5]], np.float32), "probabilities")
    'the scores of a row add up to 0.75 to 0.75, not to 1: divide them by their sum in the graph, or
    give out what comes before (output_kind = "logits")'
    """
    rows = outputs[np.isfinite(outputs).all(axis=1)]
    if not rows.size:
        return None
    if kind == "logits":  # one score that was given a zero beside it
        alone = rows.shape[1] == 2 and not rows[:, 0].any()
        if alone and rows[:, 1].any() and rows[:, 1].min() >= 0 and rows[:, 1].max() <= 1:
            return 'its one score lies between 0 and 1: output_kind must be "probabilities"'
        return _shares(rows)
    sums = rows.sum(axis=1)
    if (np.abs(sums - 1) > WIDE_TOLERANCE).mean() <= FEW:
        return None
    return (
        f"the scores of a row add up to {sums.min():.3g} to {sums.max():.3g}, not to 1: divide them"
        ' by their sum in the graph, or give out what comes before (output_kind = "logits")'
    )


def _shares(rows: NDArray[np.float32]) -> str | None:
    """Whether "logits" are percentages or votes: none negative, all rows of one sum."""
    sums = rows.sum(axis=1)
    total = float(np.median(sums))
    even = bool((np.abs(sums - total) <= TOLERANCE * total).all())
    if rows.min() < 0 or total <= 0 or not even or not np.ptp(rows, axis=0).any():
        return None
    return (
        f"each row of its output adds up to {total:.3g}, and nothing in it is negative: these are"
        f" shares, no logits; divide them by {total:.3g} in the graph, with output_kind ="
        ' "probabilities"'
    )

"""Output kind: whether outputs can be what they were declared to be, logits or probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["misdeclared"]

TOLERANCE = 1e-3
"""What rounding to float16 or int8 may do to a probability, or to the sum of some."""


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

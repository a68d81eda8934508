"""Has a model recovered? The resolving half of the detector of harm, over a new version's outcomes.

A version that was published against harm has no finding of its own that could be resolved, so the
question is asked here. With an error of at most ``U`` promised, a Shiryaev-Roberts mixture
downwards (Shin, Ramdas, Rinaldo: E-detectors, 2022) must show that the error of the version that
serves now is below ``q = U + max(tolerance, half of what was lost)``; and its estimate must lie
within tolerance. When the version began is known, so the estimate is the mean of all its labelled
rows: the best suffix, which the running detector has to use, would pick lucky runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ALTERNATIVES = np.array([1, 2, 3, 5, 8, 13, 21, 34, 55]) / 100  # distances below q, proportions

MIN_THRESHOLD = 200.0
"""Rows per false "recovered" at least, whatever the budget of alarms is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovery:
    """What the labelled rows since the change of version say."""

    recovered: bool
    error: float | None
    """Share of wrong rows among the first ``n``; ``None``: there are none."""
    n: int
    """Labelled rows until it was decided; all of them where it is not."""
    level: float
    """The error that had to be ruled out: a proportion."""


def judge(
    errors: NDArray[np.uint8],
    *,
    base: float,
    upper: float,
    harmed: float,
    tolerance: float,
    threshold: float = MIN_THRESHOLD,
) -> Recovery:
    """Judge the outcomes of a version in the order in which they were numbered.

    Parameters
    ----------
    errors
        ``(n,)`` 1 = wrong, of rows labelled at random.
    base
        Plain error rate that was promised.
    upper
        Its upper bound, from which harm was declared.
    harmed
        Error rate while harm was declared.
    tolerance
        Loss that nobody need be woken for: a proportion, not points.
    threshold
        Rows per false alarm of the mixture (A/100 in the notes), at least 200.

    Examples
    --------
    >>> judge(np.zeros(60, np.uint8), base=.05, upper=.06, harmed=.6, tolerance=.02).recovered
    True
    >>> judge(np.tile([1, 0], 60), base=.05, upper=.06, harmed=.6, tolerance=.02).recovered
    False
    """
    n = len(errors)
    q = min(max(upper + tolerance, upper + (harmed - upper) / 2), 0.97)
    fired = _fires(errors, q, base, max(MIN_THRESHOLD, threshold))
    if fired is None:
        return Recovery(recovered=False, error=float(errors.mean()) if n else None, n=n, level=q)
    running = np.cumsum(errors)[fired:] / np.arange(fired + 1, n + 1)
    good = np.flatnonzero(running <= upper + tolerance)
    at = int(good[0]) if len(good) else len(running) - 1
    return Recovery(recovered=bool(len(good)), error=float(running[at]), n=fired + 1 + at, level=q)


def _fires(errors: NDArray[np.uint8], q: float, base: float, threshold: float) -> int | None:
    """Index at which the mixture against ``error >= q`` crosses its threshold; ``None``: it does
    not."""
    p = q - ALTERNATIVES
    p = p[p > 0.1 * q]
    if not len(p):
        p = np.array([q / 2])
    if 0.2 * q < base < q:
        p = np.append(p, base)
    factors = np.stack([(1 - p) / (1 - q), p / q])  # (2, K): right, wrong
    value = np.zeros(len(p))
    for i, wrong in enumerate(errors):
        value = (1 + value) * factors[int(wrong)]
        if value.mean() >= threshold:
            return i
    return None

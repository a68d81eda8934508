"""Calibration rows: which rows set the ranges of a static int8 graph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["CALIBRATION_ROWS", "calibration_rows"]

CALIBRATION_ROWS = 512
"""Eight rows did as well as two thousand where the data were alike; a mixture needs some more."""


def calibration_rows(
    fresh: NDArray[np.float32], replay: NDArray[np.float32], *, seed: int
) -> NDArray[np.float32]:
    """Draw rows from both domains that the graph will see, evenly where both have enough.

    Ranges taken from old rows alone clip what is new; from new rows alone they waste the eight
    bits of everything old.

    Parameters
    ----------
    fresh, replay
        ``(n, F)`` and ``(m, F)``; together at least one row.
    seed
        Of the draw.

    Returns
    -------
    numpy.ndarray
        At most 512 rows, ``(k, F)``.
    """
    rng = np.random.default_rng([seed, 2])
    half = CALIBRATION_ROWS // 2
    from_replay = min(len(replay), max(half, CALIBRATION_ROWS - len(fresh)))
    from_fresh = min(len(fresh), CALIBRATION_ROWS - from_replay)
    return np.concatenate(
        [
            fresh[np.sort(rng.permutation(len(fresh))[:from_fresh])],
            replay[np.sort(rng.permutation(len(replay))[:from_replay])],
        ]
    )

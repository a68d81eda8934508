"""Delay of detection: what ``register`` tells people about a drop before there is one."""

from __future__ import annotations

from redistill.streams.monitor import alarm_budget
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.sequential import upward

__all__ = ["delay"]


def delay(base: BaseError, config: WatchConfig, drop_points: float, label_share: float) -> float:
    """Labelled rows until a lasting drop of accuracy is found, in the mean.

    Parameters
    ----------
    drop_points
        Loss of accuracy in percentage points.
    label_share
        Labels per served row.

    Returns
    -------
    float
        Labelled rows; infinite where the reference is too small to tell such a drop from the base
        error.

    Examples
    --------
    >>> import numpy as np
    >>> from redistill.streams.wire.block import Schema
    >>> config = WatchConfig(model="credit", schema=Schema(features=()))
    >>> base = BaseError.from_errors(np.tile([0] * 9 + [1], 2000))
    >>> 400 < delay(base, config, 5, 0.1) < 700
    True
    """
    tolerance = config.tolerance_points / 100
    rate = base.rate + drop_points / 100
    if drop_points / 100 < tolerance or rate >= 1:
        return float("inf") if rate < 1 else 1.0
    mixture = upward(
        min(base.upper + config.strictness * tolerance, 0.95),
        smallest=max(0.01, tolerance * (1 - config.strictness)),
        threshold=alarm_budget.whole_model(config, label_share),
        share=label_share,
        curve=base.inflation,
    )
    return mixture.delay(rate)

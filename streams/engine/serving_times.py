"""Serving times that cannot be: rows that would live for ever, or are over before they are counted.

Windows, waits for labels and retention all go by when a row was served. One from the year 9999
never expires, one from the year 1 makes a window of two thousand years; so they are left out, and
said. A time that cannot be (of the future, before 2000) makes a record without any other row a dead
letter. One that is only over, as in a backlog older than the retention, is no fault of the record:
the row is left out and counted, as any such row among others is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from redistill.streams.errors import WireError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.wire.block import PredictionBlock, some_rows
from redistill.streams.wire.codec import Decoded
from redistill.streams.wire.events import SERVED_AHEAD
from redistill.times import DAY, to_us, utc

__all__ = ["leave_out_of_time", "times_of"]

_EARLIEST = 946_684_800_000_000
"""2000-01-01: an earlier time was never set, or is in another unit."""

Times = tuple[int, int]
"""The first and the last moment, microseconds since 1970."""


def times_of(config: WatchConfig, now: int) -> Times:
    """When a row of a model may have been served, if it is read now.

    Examples
    --------
    >>> from redistill.streams.wire.block import Schema
    >>> config = WatchConfig(model="m", schema=Schema(features=()), retention_days=30, wait_days=7)
    >>> first, last = times_of(config, 100 * DAY)
    >>> first // DAY, last // DAY
    (69, 101)
    """
    kept = max(config.retention_days, config.wait_days) + 1
    return now - round(kept * DAY), now + to_us(SERVED_AHEAD.total_seconds())


def leave_out_of_time(decoded: Decoded, times: Callable[[str], Times | None]) -> Mapping[str, int]:
    """Leave out rows that were served at a time that cannot be, or is over, in place.

    Parameters
    ----------
    times
        Per model; ``None``: nobody measures from its rows.

    Returns
    -------
    Mapping
        By model, the rows of records of which nothing is left and nothing is wrong: they are over.
    """
    over: Counter[str] = Counter()
    blocks, records = decoded.blocks, decoded.record_of
    decoded.blocks, decoded.record_of = [], []
    for block, record_of in zip(blocks, records, strict=True):
        span = times(block.model)
        at = block.served_at
        if span is None or not len(at) or (at.min() >= span[0] and at.max() <= span[1]):
            kept, of = block, record_of
        else:
            kept, of = _kept(block, record_of, span, decoded, over)
        if len(kept):
            decoded.blocks.append(kept)
            decoded.record_of.append(of)
    decoded.dead.sort(key=lambda entry: entry[0])
    return over


def _kept(
    block: PredictionBlock,
    record_of: NDArray[np.int64],
    span: Times,
    decoded: Decoded,
    over: Counter[str],
) -> tuple[PredictionBlock, NDArray[np.int64]]:
    keep = (block.served_at >= span[0]) & (block.served_at <= span[1])
    alive = np.isin(record_of, record_of[keep])
    for i in np.unique(record_of[~alive]).tolist():
        moments = block.served_at[record_of == i]
        if moments.min() >= _EARLIEST and moments.max() < span[0]:
            over[block.model] += len(moments)
            continue
        moment = int(moments[0])
        decoded.dead.append((i, WireError("invalid_field", _why(moment, span))))
    out = some_rows(block, keep)
    if left_out := int((alive & ~keep).sum()):
        out.invalid["served_at"] = out.invalid.get("served_at", 0) + left_out
    return out, record_of[keep]


def _why(moment: int, span: Times) -> str:
    first, last = (utc(t).date().isoformat() for t in span)
    return (
        f"served_at {utc(moment).isoformat()} is outside {first} to {last}: rows older than the"
        " model's retention and rows from the future are not counted"
    )

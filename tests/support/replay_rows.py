"""Rows of a replay with what their labels would say, and labels of some of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from redistill.streams.replay.late_labels import Labels, ServedRows
from redistill.streams.wire.block import Codes


def served(n: int, first: int = 0, **more: Any) -> ServedRows:
    """Rows of which every third is wrong, with regions in turns."""
    columns: dict[str, Any] = {
        "error": (np.arange(first, first + n) % 3 == 0).astype(np.uint8),
        "labelled": np.ones(n, np.bool_),
        "served_at": np.arange(first, first + n) * 1_000_000,
        "confidence": np.full(n, 0.5, np.float32),
        "window": np.arange(first, first + n) // 100,
        "drawn": np.zeros(n, np.bool_),
        "slices": {"region": Codes(np.arange(first, first + n, dtype=np.int32) % 2, ("EU", "US"))},
    }
    return ServedRows(first=first, **columns | more)


def labels(rows: ServedRows, picks: list[int], **how: Any) -> Labels:
    mask = np.isin(np.arange(len(rows)), picks)
    given = {"arrival": None, "delay": 10, "p_include": np.full(len(rows), 0.1)} | how
    return rows.labels(mask, **given)

"""Closed windows: what is stored of a window of rows once it has ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from redistill.streams.monitor.counts import Counts
from redistill.streams.monitor.drifted_features import DriftedFeature
from redistill.streams.monitor.input_profile import Profile
from redistill.streams.monitor.subwindows import WindowCounts

__all__ = ["ClosedWindow", "closed_window"]

LISTED = 50
"""Columns that a summary holds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClosedWindow:
    """A statistical window that is complete."""

    number: int
    rows: int
    first_served_at: int
    """Microseconds since 1970."""
    last_served_at: int
    summary: dict[str, Any]
    """Means, missing rates and distances; JSON."""


def closed_window(
    window: WindowCounts, profile: Profile | None, drifted: Sequence[DriftedFeature] | None
) -> ClosedWindow:
    """Sum up a window that has ended.

    Parameters
    ----------
    profile
        The one under which it was counted; ``None``: only its rows were.
    drifted
        Distances of its columns; ``None``: it has too few rows to tell.
    """
    summary: dict[str, Any] = {"rows": window.rows}
    if profile is not None and window.complete is not None:
        if drifted is not None:
            summary["distances"] = _distances(drifted)
        summary |= _means(window.complete, profile)
    return ClosedWindow(
        number=window.number,
        rows=window.rows,
        first_served_at=window.first_served_at,
        last_served_at=window.last_served_at,
        summary=summary,
    )


def _distances(drifted: Sequence[DriftedFeature]) -> dict[str, Any]:
    return {
        m.column.name: {"psi": m.psi, "js": m.js, "ks": m.ks, "floor": m.floor}
        for m in drifted[:LISTED]
    }


def _means(whole: Counts, profile: Profile) -> dict[str, Any]:
    valid = np.maximum(whole.valid, 1)
    mean = whole.total / valid
    deviation = np.sqrt(np.maximum(whole.squares / valid - mean**2, 0))
    missing = np.flatnonzero(whole.valid < whole.rows).tolist()
    numbers = [j for j in profile.number_columns if whole.valid[j]][:LISTED]
    columns, means, deviations = profile.columns, mean.tolist(), deviation.tolist()
    return {
        "mean": {columns[j].name: means[j] for j in numbers},
        "deviation": {columns[j].name: deviations[j] for j in numbers},
        "missing": {
            columns[j].name: float(1 - whole.valid[j] / whole.rows) for j in missing[:LISTED]
        },
    }

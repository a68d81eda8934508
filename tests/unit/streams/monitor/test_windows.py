"""What is stored of a window that has ended."""

from __future__ import annotations

import numpy as np
import pytest
from monitor_blocks import REGION, SCHEMA, block, features

from redistill.streams.monitor.counts import columns, count
from redistill.streams.monitor.drifted_features import drifted_features
from redistill.streams.monitor.reference import build_profile
from redistill.streams.monitor.subwindows import WindowCounts
from redistill.streams.monitor.windows import ClosedWindow, closed_window

PROFILE = build_profile(block(features(2_000, 0)), SCHEMA)


def closed(x: np.ndarray, *, compared: bool = True) -> ClosedWindow:
    counts = count(columns(block(x), SCHEMA.names, PROFILE.classes), PROFILE.layout)
    drifted = drifted_features(counts, PROFILE) if compared else None
    window = WindowCounts(
        number=3, rows=len(x) + 7, first_served_at=10, last_served_at=20, complete=counts
    )
    return closed_window(window, PROFILE, drifted)


def test_numbers_have_mean_and_deviation_and_missing_shares_are_told() -> None:
    x = features(500, 1)
    x[:50, 0] = np.nan
    window = closed(x)
    assert (window.number, window.rows, window.first_served_at, window.last_served_at) == (
        3,
        507,
        10,
        20,
    )
    summary = window.summary
    assert list(summary) == ["rows", "distances", "mean", "deviation", "missing"]
    assert summary["rows"] == 507
    assert summary["mean"]["x0"] == pytest.approx(np.nanmean(x[:, 0]), rel=1e-6)
    assert summary["deviation"]["x1"] == pytest.approx(x[:, 1].std(), rel=1e-6)
    assert summary["missing"] == {"x0": pytest.approx(0.1)}
    assert "region" not in summary["mean"]


def test_distances_stand_in_the_order_of_drift() -> None:
    x = features(500, 1)
    x[:, 4] += 2
    x[:, REGION] = 2
    distances = closed(x).summary["distances"]
    assert set(list(distances)[:2]) == {"region", "x4"}
    assert list(distances["x4"]) == ["psi", "js", "ks", "floor"]
    assert distances["x4"]["psi"] > 10 * distances["x4"]["floor"]


def test_a_window_of_too_few_rows_has_no_distances() -> None:
    assert list(closed(features(150, 1), compared=False).summary) == [
        "rows",
        "mean",
        "deviation",
        "missing",
    ]


def test_without_counts_only_the_rows_are_told() -> None:
    window = WindowCounts(rows=12)
    assert closed_window(window, PROFILE, None).summary == {"rows": 12}
    assert closed_window(window, None, None).summary == {"rows": 12}

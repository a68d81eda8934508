"""Calibration rows come from both domains."""

from __future__ import annotations

import numpy as np
import pytest

from redistill.compress.shrink.calibrate import CALIBRATION_ROWS, calibration_rows


def domain(n: int, value: float) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.full((n, 2), value, np.float32)


@pytest.mark.parametrize(
    ("fresh", "replay", "expected"),
    [
        (5_000, 5_000, (256, 256)),
        (100, 5_000, (100, 412)),
        (5_000, 100, (412, 100)),
        (30, 40, (30, 40)),
        (5_000, 0, (512, 0)),
    ],
)
def test_both_domains_are_drawn_evenly_where_they_have_enough(
    fresh: int, replay: int, expected: tuple[int, int]
) -> None:
    drawn = calibration_rows(domain(fresh, 1.0), domain(replay, 2.0), seed=0)
    assert len(drawn) <= CALIBRATION_ROWS
    assert ((drawn[:, 0] == 1.0).sum(), (drawn[:, 0] == 2.0).sum()) == expected


def test_the_draw_is_seeded() -> None:
    fresh = np.arange(2_000, dtype=np.float32)[:, None]
    replay = -np.arange(2_000, dtype=np.float32)[:, None]
    first, same, other = (calibration_rows(fresh, replay, seed=s) for s in (1, 1, 2))
    assert (first == same).all()
    assert (first != other).any()
    assert len(np.unique(first[:256])) == 256

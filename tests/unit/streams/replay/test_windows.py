"""Windows of a replay: which labels they have, and of how many rows those are."""

from __future__ import annotations

import numpy as np
from replay_rows import labels, served

from redistill.streams.replay.label_flow import Asked
from redistill.streams.replay.windows import WaitingWindows


def waiting(rate: float = 0.1, delay: int = 20) -> WaitingWindows:
    """Rows 0 to 149 in two windows, of which the first is closed; row 5 has no prediction."""
    windows = WaitingWindows(rate, delay)
    numbers = np.arange(150) // 100
    windows.serve(0, numbers[:60], np.arange(60) != 5)
    windows.serve(60, numbers[60:], np.ones(90, np.bool_))
    windows.close([0, 7])
    return windows


def test_a_window_is_due_once_its_last_label_can_be_there() -> None:
    windows = waiting()
    assert windows.due(118) == []
    ((row, window, strata),) = windows.due(119)
    assert (row, window.first, window.last) == (119, 0, 99)
    assert strata == [(0, 0, 99)]
    assert windows.due(10_000) == []  # the other is still open
    ((row, window, _),) = windows.due(149, everything=True)
    assert (row, window.first, window.last) == (149, 100, 149)


def test_rows_asked_for_are_a_part_of_their_own() -> None:
    windows = waiting()
    windows.ask([Asked(80, 130, 80, 1.0), Asked(0, 40, 90, 0.5), Asked(0, 100, 150, 0.9)])
    rows = served(150)
    windows.came(labels(rows, [0, 3, 7, 50, 80, 81, 99, 100], arrival=110))
    (_, _, strata) = windows.due(119)[0]
    # rows 0-39 by two draws, 40-79 by the one at random, 80-99 every one; what was asked for after
    # row 149 comes too late
    assert sorted(strata) == sorted([(1, 3, 39), (1, 1, 40), (1, 3, 20)])


def test_labels_that_are_too_late_or_of_one_slice_do_not_count() -> None:
    windows = waiting()
    rows = served(150)
    windows.came(labels(rows, [1], arrival=119))
    windows.came(labels(rows, [2, 4], arrival=120))
    windows.came(labels(rows, [7], arrival=100, only="region=EU"))
    (_, window, strata) = windows.due(125)[0]
    assert window.labelled == 1
    assert strata == [(1, 1, 99)]
    windows.came(labels(rows, [8], arrival=126))  # its window is gone: no error


def test_bursts_of_windows_that_are_gone_are_forgotten() -> None:
    windows = waiting()
    windows.ask([Asked(0, 90, 90, 0.5), Asked(60, 140, 140, 0.5)])
    windows.due(119)
    assert [b.end for b in windows.bursts] == [140]

from __future__ import annotations

import numpy as np
import pytest

from redistill.compress.judge.second_labels import SecondLabels, second_labels


def seen(n: int, differ: int, before: tuple[int, int] | None = None) -> SecondLabels:
    first, second = np.zeros(n, np.int64), np.zeros(n, np.int64)
    first[:differ] = 1
    found = second_labels(first, second, np.zeros(n, np.int64), before=before)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("n", "differ", "before", "suspect"),
    [
        (80, 16, None, True),
        (80, 3, None, False),
        (20, 2, None, False),  # a tenth, but of too few rows
        (80, 16, (40, 200), False),  # they always did
        (80, 16, (2, 200), True),
        (80, 16, (0, 0), True),
    ],
)
def test_labels_are_suspect_where_sources_differ_more_than_they_did(
    n: int, differ: int, before: tuple[int, int] | None, suspect: bool
) -> None:
    assert seen(n, differ, before).suspect is suspect


def test_only_rows_with_both_labels_count() -> None:
    first = np.array([0, 1, -1, 0, 1])
    second = np.array([0, 0, 0, -1, 1])
    found = second_labels(first, second, np.array([0, 0, 0, 0, 0]), before=None)
    assert found is not None
    assert (found.differ.value, found.differ.n) == (pytest.approx(1 / 3), 3)
    assert found.by_second.value == pytest.approx(100 / 3)
    assert second_labels(first, np.full(5, -1), first, before=None) is None

"""Which class scores answer."""

from __future__ import annotations

import numpy as np

from redistill.compress.judge.answers import largest


def test_class_of_the_largest_score_is_answered_the_first_of_equals() -> None:
    assert largest(np.array([[0.0, 2.0, 1.0], [5.0, 5.0, 1.0]])).tolist() == [1, 0]


def test_row_with_a_score_that_is_not_finite_has_no_answer() -> None:
    scores = np.array([[np.nan, 2.0], [0.0, np.inf], [-np.inf, 0.0], [1.0, 0.0]], np.float32)
    assert largest(scores).tolist() == [-1, -1, -1, 0]


def test_no_rows_have_no_answers() -> None:
    assert largest(np.empty((0, 3))).shape == (0,)

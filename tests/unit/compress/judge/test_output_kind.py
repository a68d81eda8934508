"""Outputs that cannot be what they were declared to be."""

from __future__ import annotations

import numpy as np
import pytest

from redistill.compress.judge.output_kind import misdeclared, unscaled


@pytest.mark.parametrize(
    ("rows", "kind", "expected"),
    [
        ([[0.2, 0.8], [0.6, 0.4]], "probabilities", None),
        ([[0.2, 0.8], [0.6, 0.4]], "logits", "adds up to 1"),
        ([[0.2, 0.8005]], "probabilities", None),  # rounding
        ([[0.2, 0.9]], "logits", None),  # bounded, and no distribution
        ([[0.2, 1.2]], "probabilities", "runs from 0.2 to 1.2"),
        ([[-3.0, 4.0]], "logits", None),
        ([[np.nan, 1.0], [0.5, 0.5]], "probabilities", None),
        ([[np.nan, 9.0]], "probabilities", None),  # nothing to be seen
    ],
)
def test_what_shows_is_said(rows: list[list[float]], kind: str, expected: str | None) -> None:
    wrong = misdeclared(np.array(rows, np.float32), kind)
    assert wrong is None if expected is None else expected in (wrong or "")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[20.0, 80.0], [60.0, 40.0]], "adds up to 100, and nothing in it is negative"),
        ([[3.0, 7.0], [10.0, 0.0]], "divide them by 10 in the graph"),
        ([[20.0, 80.0], [60.0, 41.0]], None),
        ([[-20.0, 80.0], [20.0, 40.0]], None),
        ([[0.2, 0.9], [0.2, 0.9]], None),  # a bias alone
        ([[0.0, 0.0], [0.0, 0.0]], None),
        ([[-2.0, 2.0], [1.0, -1.0]], None),
    ],
)
def test_percentages_and_votes_are_no_logits(rows: list[list[float]], said: str | None) -> None:
    told = unscaled(np.array(rows, np.float32), "logits")
    assert told is None if said is None else said in (told or "")

"""Outputs that cannot be what they were declared to be."""

from __future__ import annotations

import numpy as np
import pytest

from redistill.compress.judge.output_kind import misdeclared


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

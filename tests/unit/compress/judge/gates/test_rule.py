from __future__ import annotations

import numpy as np

from redistill.compress.judge.gates.rule import said
from redistill.compress.judge.task import Classification, Regression


def test_said_names_the_tasks_unit_and_bears_no_rows() -> None:
    assert said(Classification(classes=2), np.empty(0)).startswith("+0.00 points (better on 0")
    assert "clipped error" in said(Regression(clip=1.0), np.array([0.5, -0.25]))

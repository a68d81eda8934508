"""How much a number of trusted rows can show: as gate ``trusted`` decides, counted over all samples."""

from __future__ import annotations

import pytest
from scipy.stats import binom

from redistill.compress.judge import intervals, power
from redistill.compress.judge.gates.trusted import ONE_SIDED


def passes(rows: int, churn: float, margin: float) -> float:
    """Probability that an equal candidate passes: exact, over wins and losses."""
    most = int(binom.ppf(1 - 1e-9, rows, churn))
    total = 0.0
    for differ in range(most + 1):
        for wins in range(differ + 1):
            low, _ = intervals.paired_difference(wins, differ - wins, rows, confidence=ONE_SIDED)
            if low > -margin:
                total += binom.pmf(differ, rows, churn) * binom.pmf(wins, differ, 0.5)
    return total


@pytest.mark.parametrize(("rows", "churn"), [(150, 0.03), (360, 0.03), (360, 0.1), (1_000, 0.02)])
def test_the_margin_that_is_said_is_met_with_the_power_that_is_said(
    rows: int, churn: float
) -> None:
    margin = power.margin_shown(rows, churn)
    assert power.POWER - 0.01 < passes(rows, churn, margin) < power.POWER + 0.05
    assert passes(rows, churn, 0.85 * margin) < power.POWER


def test_rows_and_margin_are_each_others_inverse() -> None:
    for margin in (0.005, 0.01, 0.02, 0.1):
        rows = power.rows_needed(margin, 0.03)
        assert power.margin_shown(rows, 0.03) == pytest.approx(margin, rel=2e-3)


def test_models_that_never_differ_need_as_many_rows_as_a_rare_difference_could_hide_in() -> None:
    """The rule of three: nothing seen in n rows says less than 3 in n."""
    assert 250 < power.rows_needed(0.01, 0.0) < 350
    assert power.margin_shown(0, 0.03) == 1.0

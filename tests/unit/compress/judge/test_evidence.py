"""Evidence: what it says of the rows behind it."""

from __future__ import annotations

import pytest

from redistill.compress.judge.evidence import Evidence, rows_of
from redistill.compress.plan import Comparison, Measure


def test_rows_of_counts_wins_losses_and_ties() -> None:
    assert rows_of(None) == 0
    assert rows_of(Comparison(wins=1, losses=2, ties=3, e_better=1.0, e_worse=1.0)) == 6


@pytest.mark.parametrize(
    ("labels_in_loss", "auc", "expected"),
    [(True, 0.81, True), (True, 0.8, False), (False, 0.99, False), (True, None, False)],
)
def test_blind_only_where_labels_entered_the_loss_of_separable_rows(
    labels_in_loss: bool, auc: float | None, expected: bool
) -> None:
    measured = None if auc is None else Measure(value=auc, low=None, high=None, n=10)
    found = Evidence(variant="fp32", labels_in_loss=labels_in_loss, domain_auc=measured)
    assert found.blind_at(0.8) is expected

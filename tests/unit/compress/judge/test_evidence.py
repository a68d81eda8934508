from __future__ import annotations

import numpy as np
import pytest
from gate_evidence import TASK, evidence, versus

from redistill.compress.judge.evidence import NOBODY
from redistill.compress.plan import Measure


def test_a_difference_is_above_0_where_the_candidate_is_better() -> None:
    d = versus(2, 1, 1).difference(TASK)
    assert d.tolist() == [1.0, 1.0, -1.0, 0.0]


def test_a_part_of_a_sample_keeps_its_rows_together() -> None:
    sample = versus(
        1, 1, 2, p=np.array([0.1, 0.2, 0.3, 0.4]), source=("a", "b", None, "d"),
        groups={"g": np.array([True, False, True, False])},
    )  # fmt: skip
    part = sample.take(np.array([True, False, False, True]))
    assert len(part) == 2
    assert part.p is not None
    assert part.p.tolist() == [0.1, 0.4]
    assert part.source == ("a", "d")
    assert part.groups["g"].tolist() == [True, False]
    assert part.difference(TASK).tolist() == [1.0, 0.0]
    assert len(NOBODY) == 0
    assert "candidate" not in NOBODY


def test_blind_needs_labels_in_the_loss_and_domains_apart() -> None:
    apart = Measure(value=0.9, low=0.8, high=1.0, n=50)
    assert not evidence(domain_auc=apart).blind_at(0.8)
    assert evidence(labels_in_loss=True).blind_at(0.8), "nobody knows how far apart they are"
    near = Measure(value=0.8, low=0.7, high=0.9, n=50)
    assert not evidence(labels_in_loss=True, domain_auc=near).blind_at(0.8)
    assert evidence(labels_in_loss=True, domain_auc=apart).blind_at(0.8)
    assert not evidence(labels_in_loss=True, domain_auc=apart).blind_at(0.95)


def test_a_comparison_with_nobody_is_named() -> None:
    alone = versus(1, 1, 1)
    with pytest.raises(ValueError, match="no scores of best on these rows"):
        alone.difference(TASK, "best")

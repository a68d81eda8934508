from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gate_evidence import evidence, scores

from redistill.compress.judge.evidence import Sample
from redistill.compress.judge.gates import worst_class
from redistill.compress.plan import Gate

Counts = tuple[int, int, int]
"""Rows of a class that only the candidate, only the incumbent, or both got right."""
NONE: Counts = (0, 0, 0)


def sample(rare: Counts, common: Counts) -> Sample:
    own: list[bool] = []
    other: list[bool] = []
    for wins, losses, ties in (rare, common):
        own += [True] * wins + [False] * losses + [True] * ties
        other += [False] * wins + [True] * losses + [True] * ties
    of_rare = np.arange(len(own)) < sum(rare)
    return Sample(
        truth=np.zeros(len(own), np.int64),
        scores={"candidate": scores(own), "incumbent": scores(other)},
        classes={"class=rare": of_rare, "class=common": ~of_rare},
        groups={"r=x": of_rare},
    )


def judge(fresh: Sample, trusted: Sample, **fields: object) -> Gate:
    found = worst_class.judge(evidence(fresh=fresh, trusted=trusted, **fields), worst_class.Limit())
    assert found is not None
    return found


def test_a_rare_class_that_loses_refuses_a_candidate_that_is_better_on_the_whole() -> None:
    gate = judge(sample((1, 12, 47), (90, 5, 1_800)), sample((0, 5, 13), (10, 4, 900)))
    assert gate.passed is False
    assert gate.value == pytest.approx(100 * 16 / 78)
    assert gate.limit == 5.0
    assert gate.why.startswith("class=rare loses 20.5 points [+")
    assert "on 78 rows, the worst of 2 classes; no accident: e-value" in gate.why


def test_a_gross_loss_that_is_not_excluded_waits_for_fresh_labels() -> None:
    gate = judge(sample((0, 1, 9), (20, 0, 480)), sample((0, 0, 8), (0, 0, 500)))
    assert (gate.passed, gate.ask, gate.have) == (None, None, 510)
    assert gate.need is not None
    assert 510 < gate.need < 4_000
    assert "a loss of 15 points is not excluded yet" in gate.why
    assert "class=rare loses less than 5 points with a confidence of 4" in gate.why


def test_an_equal_candidate_passes() -> None:
    gate = judge(sample((0, 0, 30), (5, 5, 1_000)), sample((1, 1, 20), (10, 10, 960)))
    assert gate.passed is True
    assert gate.need is None


def test_a_class_that_never_comes_blocks_nobody_and_is_told() -> None:
    gate = judge(sample(NONE, (100, 0, 3_900)), sample((0, 0, 2), (0, 0, 800)))
    assert gate.passed is True
    assert "1 of them have too few rows to exclude a loss of 15 points" in gate.why
    assert "class=rare loses less than 5 points with a confidence of" in gate.why


def test_an_added_version_asks_a_person_since_no_labels_come_in() -> None:
    nobody = Sample(truth=np.empty(0, np.int64), scores={})
    trusted = sample((2, 9, 49), (0, 0, 900))
    gate = judge(nobody, trusted, requirement="admit")
    assert (gate.passed, gate.split) == (None, "trusted")
    assert gate.ask is not None
    assert (gate.have, gate.need) == (960, None)


def test_limits_are_those_of_the_model() -> None:
    given = evidence(
        fresh=sample((1, 12, 47), (90, 5, 1_800)), trusted=sample((0, 5, 13), (10, 4, 900))
    )
    lax = replace(worst_class.Limit(), max_loss_points=25.0, excluded_loss_points=40.0)
    gate = worst_class.judge(given, lax)
    assert gate is not None
    assert gate.passed is True


def test_classes_are_not_asked_without_any() -> None:
    assert worst_class.judge(evidence(), worst_class.Limit()) is None

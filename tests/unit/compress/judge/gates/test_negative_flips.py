from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gate_evidence import evidence, versus

from redistill.compress.judge.evidence import NOBODY, Sample
from redistill.compress.judge.gates import negative_flips
from redistill.compress.judge.task import Classification

LIMIT = negative_flips.Limit()


def test_rows_that_turn_wrong_are_counted_whatever_is_gained() -> None:
    gate = negative_flips.judge(evidence(fresh=versus(60, 10, 130), trusted=NOBODY), LIMIT)
    assert gate is not None
    assert (gate.passed, gate.value, gate.have) == (True, pytest.approx(0.05), 200)
    assert gate.why.startswith("10 of 200 fresh rows turn wrong: 5.0% [2.1, 9.8]")


@pytest.mark.parametrize(("losses", "passed"), [(30, True), (45, False)])
def test_more_than_the_limit_refuses_only_where_it_is_sure(losses: int, passed: bool) -> None:
    fresh = versus(0, losses, 100 - losses)
    gate = negative_flips.judge(evidence(fresh=fresh, trusted=versus(0, 0, 500)), LIMIT)
    assert gate is not None
    assert gate.passed is passed


def test_either_sample_refuses() -> None:
    trusted = versus(100, 100, 50)
    gate = negative_flips.judge(evidence(fresh=versus(9, 1, 90), trusted=trusted), LIMIT)
    assert gate is not None
    assert gate.passed is False
    assert "trusted rows" in gate.why
    lax = negative_flips.judge(evidence(trusted=trusted), replace(LIMIT, max_share=0.5))
    assert lax is not None
    assert lax.passed is True


def test_a_dearer_mistake_is_no_new_one() -> None:
    task = Classification(classes=3, costs=((0, 1, 4), (1, 0, 1), (1, 1, 0)))
    one = np.eye(3, dtype=np.float32)
    sample = Sample(
        truth=np.zeros(3, np.int64),
        scores={"incumbent": one[[0, 1, 0]], "candidate": one[[0, 2, 1]]},
    )
    assert negative_flips.flips(sample, evidence(task=task)).tolist() == [False, False, True]


def test_flips_are_not_asked_without_an_incumbent() -> None:
    alone = Sample(truth=np.zeros(3, np.int64), scores={"candidate": np.eye(3, dtype=np.float32)})
    assert negative_flips.judge(evidence(fresh=NOBODY, trusted=alone), LIMIT) is None


def test_rows_that_were_asked_for_more_often_weigh_less() -> None:
    differ = versus(60, 60, 0)
    alike = versus(0, 0, 80)
    p = np.array([1.0] * 120 + [0.1] * 80)
    fresh = replace(
        differ,
        truth=np.concatenate([differ.truth, alike.truth]),
        scores={r: np.concatenate([differ.scores[r], alike.scores[r]]) for r in differ.scores},
    )
    plain = negative_flips.judge(evidence(fresh=fresh, trusted=NOBODY), LIMIT)
    weighted = negative_flips.judge(evidence(fresh=replace(fresh, p=p), trusted=NOBODY), LIMIT)
    assert plain is not None
    assert weighted is not None
    assert (plain.value, plain.passed) == (pytest.approx(0.30), True)  # 30% of 200 may be luck
    assert weighted.value == pytest.approx(60 / 920)


def test_rows_below_the_least_probability_do_not_count() -> None:
    fresh = replace(versus(0, 100, 100), p=np.array([0.04] * 100 + [0.5] * 100))
    gate = negative_flips.judge(evidence(fresh=fresh, trusted=NOBODY), LIMIT)
    assert gate is not None
    assert gate.value == 0.0

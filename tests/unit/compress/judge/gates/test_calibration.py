from __future__ import annotations

from dataclasses import replace

import numpy as np
from gate_evidence import evidence

from redistill.compress.judge.evidence import NOBODY, Sample
from redistill.compress.judge.gates import calibration
from redistill.compress.judge.task import Regression
from redistill.compress.plan import Gate
from redistill.stats import softmax

LIMIT = calibration.Limit()


def sample(n: int, *, candidate: float, incumbent: float = 1.0, seed: int = 0) -> Sample:
    """Rows on which both models score alike, the one so many times surer than it should be."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(n, 2)).astype(np.float32) * 2
    truth = (rng.random((n, 1)) > softmax(honest).cumsum(axis=1)).sum(axis=1)
    return Sample(
        truth=truth,
        scores={"candidate": honest * candidate, "incumbent": honest * incumbent},
    )


def judge(fresh: Sample, trusted: Sample = NOBODY) -> Gate | None:
    return calibration.judge(evidence(fresh=fresh, trusted=trusted), LIMIT)


def test_a_surely_less_honest_candidate_is_refused() -> None:
    gate = judge(sample(600, candidate=6.0))
    assert gate is not None
    assert gate.passed is False
    assert gate.value is not None
    assert gate.value > LIMIT.max_rise_points
    assert "on 600 fresh rows" in gate.why


def test_a_point_above_the_limit_refuses_nobody() -> None:
    gate = judge(sample(220, candidate=1.8, seed=3))
    assert gate is not None
    assert gate.passed is True
    point = float(gate.why.split()[2])
    assert point > LIMIT.max_rise_points


def test_either_sample_refuses() -> None:
    gate = judge(sample(300, candidate=1.0), sample(600, candidate=6.0, seed=1))
    assert gate is not None
    assert gate.passed is False
    assert "trusted rows" in gate.why


def test_a_more_honest_candidate_passes() -> None:
    gate = judge(sample(600, candidate=1.0, incumbent=6.0))
    assert gate is not None
    assert gate.passed is True


def test_few_rows_no_incumbent_and_other_tasks_are_not_asked() -> None:
    assert judge(sample(199, candidate=6.0)) is None
    alone = sample(600, candidate=6.0)
    alone = replace(alone, scores={"candidate": alone.scores["candidate"]})
    assert judge(alone) is None
    number = evidence(fresh=sample(600, candidate=6.0), task=Regression(clip=1.0))
    assert calibration.judge(number, LIMIT) is None

from __future__ import annotations

import numpy as np
from gate_evidence import alike, evidence

from redistill.compress.judge.evidence import NOBODY, Sample
from redistill.compress.judge.gates import agreement
from redistill.compress.judge.task import Regression


def trusted(n: int, flips: int) -> Sample:
    same = alike(n, flips)
    return Sample(truth=np.zeros(n, np.int64), scores=same.scores)


def test_agreement_judges_fresh_rows_by_their_upper_bound() -> None:
    found = {"trusted": trusted(500, 5)}
    few = agreement.judge(evidence(unlabelled=alike(20, 1), **found), agreement.Limit())
    assert few is not None
    assert few.passed
    assert few.value == 0.99, "the trusted rows, which say more"
    many = agreement.judge(evidence(unlabelled=alike(500, 30), **found), agreement.Limit())
    assert many is not None
    assert many.passed is False
    assert "fresh rows" in many.why


def test_numbers_agree_by_how_near_they_are() -> None:
    """No two floats are equal: by equality every quantized regression would be refused."""
    values = np.linspace(0.0, 10.0, 400, dtype=np.float32)[:, None]
    for off, passed in ((0.01, True), (0.2, False)):
        sample = Sample(truth=values[:, 0], scores={"candidate": values + off, "fp32": values})
        e = evidence(task=Regression(clip=2.0), trusted=sample, unlabelled=NOBODY)
        gate = agreement.judge(e, agreement.Limit())
        assert gate is not None
        assert gate.passed is passed


def test_agreement_is_asked_of_quantized_models_that_have_an_fp32_student() -> None:
    assert agreement.judge(evidence(quantized=False), agreement.Limit()) is None
    nobody = evidence(trusted=Sample(truth=np.zeros(0, np.int64), scores={}))
    alone = agreement.judge(nobody, agreement.Limit())
    assert alone is not None  # by the fresh rows

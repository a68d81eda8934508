from __future__ import annotations

import numpy as np
from gate_evidence import evidence, versus

from redistill.compress.judge.evidence import Requirement, Sample
from redistill.compress.judge.gates import kept
from redistill.compress.plan import Gate


def judge(sample: Sample, requirement: Requirement = "keep") -> Gate:
    gate = kept.judge(evidence(fresh=sample, requirement=requirement), kept.Limit())
    assert gate is not None
    return gate


def test_kept_lets_an_added_version_do_without_labels() -> None:
    assert judge(versus(0, 0, 0), "admit").passed is True
    assert judge(versus(0, 0, 0)).passed is None


def test_kept_says_how_many_rows_would_decide() -> None:
    open_ = judge(versus(0, 0, 50))
    assert open_.passed is None
    assert open_.need is not None
    assert judge(versus(0, 0, open_.need)).passed is True
    assert judge(versus(0, 0, open_.need - 6)).passed is None


def test_kept_says_what_is_not_answered() -> None:
    gate = judge(versus(1, 1, 998, missing=np.full(40, 1.0)))
    assert gate.passed is None
    assert "40 rows that were asked for have no label" in gate.why


def test_kept_fails_where_the_loss_is_shown() -> None:
    assert judge(versus(10, 60, 930)).passed is False

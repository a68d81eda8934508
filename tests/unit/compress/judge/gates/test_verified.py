from __future__ import annotations

from typing import Any

import pytest
from gate_evidence import evidence, versus

from redistill.compress.judge.gates import verified
from redistill.compress.plan import Measure


def blind(auc: float, rows: int) -> Any:
    told = Measure(value=auc, low=auc, high=auc, n=100)
    fresh = versus(0, 0, rows, source=("ledger",) * rows)
    e = evidence(labels_in_loss=True, domain_auc=told, fresh=fresh, training_sources=("clerks",))
    return verified.judge(e, verified.Limit())


def test_verified_rows_are_asked_for_only_where_trusted_rows_are_blind() -> None:
    assert verified.judge(evidence(), verified.Limit()) is None
    assert blind(0.8, 0).passed
    apart = blind(0.81, 99)
    assert (apart.passed, apart.have, apart.need) == (None, 99, 100)
    assert apart.ask is not None, "more labels of the same source prove nothing"
    assert blind(0.81, 100).passed


@pytest.mark.parametrize("auc", [None, Measure(value=float("nan"), low=None, high=None, n=2)])
def test_what_nobody_measured_is_taken_for_blind(auc: Measure | None) -> None:
    e = evidence(labels_in_loss=True, domain_auc=auc, training_sources=("clerks",))
    gate = verified.judge(e, verified.Limit())
    assert gate is not None
    assert gate.passed is None
    assert gate.ask is not None


def test_rows_of_the_sources_that_taught_verify_nothing() -> None:
    same = versus(0, 0, 200, source=("clerks",) * 100 + (None,) * 100)
    e = evidence(labels_in_loss=True, fresh=same, training_sources=("clerks",))
    assert len(e.verified()) == 0
    assert len(evidence(fresh=versus(0, 0, 5)).verified()) == 0, "nobody knows who labelled them"

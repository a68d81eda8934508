from __future__ import annotations

import numpy as np
import pytest
from gate_evidence import evidence, versus

from redistill.compress.judge.evidence import Sample
from redistill.compress.judge.gates import fresh
from redistill.compress.plan import Gate


def judge(sample: Sample, **more: object) -> Gate:
    gate = fresh.judge(evidence(fresh=sample, **more), fresh.Limit())
    assert gate is not None
    return gate


@pytest.mark.parametrize(
    ("rows", "passed"),
    [((40, 3, 57), True), ((3, 40, 57), False), ((4, 1, 15), None), ((0, 0, 0), None)],
)
def test_fresh_needs_evidence_either_way(rows: tuple[int, int, int], passed: bool | None) -> None:
    gate = judge(versus(*rows))
    assert gate.passed is passed
    assert gate.have == sum(rows)


def test_a_later_recipe_needs_more_evidence() -> None:
    """The errors of the three add up to less than one in a hundred."""
    limits = [judge(versus(1, 1, 1), recipe=k).limit for k in (1, 2, 3)]
    assert limits == [200.0, 400.0, 800.0]
    assert sum(1 / x for x in limits if x is not None) <= 0.01
    enough = next(n for n in range(5, 60) if judge(versus(n, 0, 20)).passed)
    assert judge(versus(enough, 0, 20), recipe=3).passed is None


def test_rows_that_our_requests_seldom_drew_weigh_more() -> None:
    """On the rows that are rarely drawn the candidate is worse: plain counting would not see it."""
    n = 400
    often = np.arange(n) < 300
    plain = versus(150, 0, 150)
    harm = versus(0, 40, 60)
    both = {r: np.concatenate([s, harm.scores[r]]) for r, s in plain.scores.items()}
    truth = np.zeros(n, np.int64)
    counted = judge(Sample(truth=truth, scores=both))
    weighed = judge(Sample(truth=truth, scores=both, p=np.where(often, 1.0, 0.05)))
    assert counted.passed is True
    assert weighed.passed is not True
    assert "effective rows" in weighed.why


def test_requests_that_nobody_answered_are_told_and_not_taken_for_ties() -> None:
    gate = judge(versus(40, 3, 57, missing=np.full(60, 1.0)))
    assert gate.passed is None
    assert "60 rows that were asked for have no label" in gate.why
    assert judge(versus(40, 3, 57, missing=np.full(2, 1.0))).passed is True


def test_rows_that_would_decide_count_on_as_many_silent_requests_as_now() -> None:
    """Without them 22 of the 100 rows that are there would be enough: they were not."""
    gate = judge(versus(40, 3, 57, missing=np.full(25, 1.0)))
    assert gate.passed is None
    assert gate.need is not None
    assert gate.need > gate.have == 100  # type: ignore[operator]
    for times, passed in ((gate.need // 100, None), (gate.need // 100 + 1, True)):
        rows = (40 * times, 3 * times, 57 * times)
        assert judge(versus(*rows, missing=np.full(25 * times, 1.0))).passed is passed
    silent = judge(versus(40, 3, 57, missing=np.full(60, 1.0)))
    assert silent.need is None, "no number of labels makes up for so many"

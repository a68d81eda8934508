from __future__ import annotations

from dataclasses import replace

import numpy as np
from gate_evidence import evidence, scores

from redistill.compress.judge.evidence import NOBODY, Sample
from redistill.compress.judge.gates import worst_group
from redistill.compress.plan import Gate

ALONE = worst_group.Limit()


def sample(of: dict[str, tuple[int, int, int]]) -> Sample:
    """Groups by name, each with the rows that were won, lost, and neither."""
    own: list[bool] = []
    other: list[bool] = []
    name: list[str] = []
    for n, (wins, losses, ties) in of.items():
        own += [True] * wins + [False] * losses + [True] * ties
        other += [False] * wins + [True] * losses + [True] * ties
        name += [n] * (wins + losses + ties)
    return Sample(
        truth=np.zeros(len(own), np.int64),
        scores={"candidate": scores(own), "incumbent": scores(other)},
        groups={n: np.array([x == n for x in name]) for n in of},
        classes={"class=a": np.ones(len(own), bool)},
    )


def judge(
    trusted: dict[str, tuple[int, int, int]],
    fresh: dict[str, tuple[int, int, int]] | None = None,
    limit: worst_group.Limit = ALONE,
) -> Gate:
    given = NOBODY if fresh is None else sample(fresh)
    found = worst_group.judge(evidence(trusted=sample(trusted), fresh=given), limit)
    assert found is not None
    return found


def test_the_group_that_surely_loses_is_named() -> None:
    gate = judge({"r=small": (0, 2, 8), "r=sure": (0, 40, 160)})
    assert gate.passed is False
    assert gate.why.startswith("r=sure loses 20.0 points")


def test_a_group_that_loses_on_new_rows_only_is_refused() -> None:
    trusted = {"r=a": (5, 5, 390), "r=b": (5, 5, 390)}
    gate = judge(trusted, fresh={"r=a": (0, 25, 75), "r=b": (25, 0, 75)})
    assert gate.passed is False
    assert "r=a loses 25.0 points" in gate.why
    assert "on 100 fresh rows" in gate.why


def test_many_small_groups_without_a_loss_pass() -> None:
    assert judge({f"r={i}": (1, 2, 47) for i in range(50)}).passed is True


def test_small_groups_are_judged_together() -> None:
    gate = judge({f"r={i}": (0, 1, 4) for i in range(30)} | {"r=all": (10, 10, 900)})
    assert gate.passed is False
    assert gate.why.startswith("30 small groups together loses 20.0 points")


def test_a_group_may_be_asked_for_rows_before_it_is_judged_alone() -> None:
    of = {"r=a": (0, 18, 102), "r=b": (2, 2, 116), "r=c": (40, 40, 920)}
    assert judge(of).why.startswith("r=a loses 15.0 points")
    together = judge(of, limit=replace(ALONE, min_rows=121))
    assert together.why.startswith("2 small groups together loses 7.5 points")


def test_groups_are_not_asked_without_any() -> None:
    assert worst_group.judge(evidence(), ALONE) is None

"""Gaps between groups: found, with intervals that hold the truth, beside chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gate_evidence import TASK, scores

from redistill.compress.judge import fairness
from redistill.compress.judge.evidence import NOBODY, Role, Sample
from redistill.compress.judge.task import Classification


def sample(seed: int, shares: dict[str, dict[str, float]], n: int = 300) -> Sample:
    """Rows of groups, each model right on its share of every group; all models of a row agree as
    far as their shares allow."""
    rng = np.random.default_rng(seed)
    values = list(next(iter(shares.values())))
    group = np.repeat(values, n)
    luck = rng.random(len(group))
    right: dict[Any, Any] = {
        role: scores(luck < np.array([of[g] for g in group])) for role, of in shares.items()
    }
    return Sample(
        truth=np.zeros(len(group), np.int64),
        scores=right,
        groups={f"sex={v}": group == v for v in values} | {"sex=other": np.zeros(len(group), bool)},
    )


EVEN = {"f": 0.9, "m": 0.9}
SHARES: dict[str, dict[str, float]] = {
    "candidate": {"f": 0.8, "m": 0.9}, "incumbent": {"f": 0.85, "m": 0.9}, "teacher": EVEN,
}  # fmt: skip


def test_a_gap_that_compression_added_is_told_apart_from_its_teachers() -> None:
    (found,) = fairness.gaps([sample(0, SHARES)], ["sex"], TASK, seed=0)
    assert (found.key, set(found.gap), set(found.added)) == (
        "sex", {"candidate", "incumbent", "teacher"}, {"incumbent", "teacher"},
    )  # fmt: skip
    assert found.accuracy["candidate"]["f"].n == 300
    added = found.added["teacher"]
    assert added.value == pytest.approx(found.gap["candidate"].value - found.gap["teacher"].value)
    assert added.low is not None
    assert added.low > 0.02
    narrower = found.added["incumbent"]
    assert narrower.value < added.value
    assert 0.0 < found.chance < 0.05


def test_what_is_compared_is_said_where_mistakes_cost_differently() -> None:
    (plain,) = fairness.gaps([sample(0, SHARES)], ["sex"], TASK, seed=0)
    assert plain.what == "share of right answers"
    costs = ((0.0, 1.0), (5.0, 0.0))
    (weighed,) = fairness.gaps(
        [sample(0, SHARES)], ["sex"], Classification(classes=2, costs=costs), seed=0
    )
    assert weighed.what == "1 minus the mean loss (points of the largest cost)"
    assert weighed.accuracy["candidate"]["f"].value > plain.accuracy["candidate"]["f"].value + 0.1


@pytest.mark.parametrize(
    ("own", "gap", "added"), [(EVEN, 0.0, 0.0), ({"f": 0.8, "m": 0.9}, 0.1, 0.1)]
)
def test_intervals_hold_the_truth(own: dict[str, float], gap: float, added: float) -> None:
    hits = np.zeros(2)
    for seed in range(60):
        rows = sample(seed, {"candidate": own, "teacher": EVEN})
        (found,) = fairness.gaps([rows], ["sex"], TASK, seed=seed)
        for k, (m, true) in enumerate(
            ((found.gap["candidate"], gap), (found.added["teacher"], added))
        ):
            hits[k] += (m.low or 0.0) - 1e-9 <= true <= (m.high or 0.0) + 1e-9
    assert (hits >= 51).all()  # 57 are expected; fewer than 51 have a probability of .01 at 95%


def test_rows_of_both_samples_count_and_the_same_seed_gives_the_same_interval() -> None:
    fresh, trusted = sample(1, SHARES, n=40), sample(2, SHARES, n=40)
    assert fairness.gaps([fresh], ["sex"], TASK, seed=0) == ()
    (found,) = fairness.gaps([fresh, trusted], ["sex"], TASK, seed=0)
    assert {v: m.n for v, m in found.accuracy["teacher"].items()} == {"f": 80, "m": 80}
    assert fairness.gaps([fresh, trusted], ["sex"], TASK, seed=0) == (found,)
    assert fairness.gaps([NOBODY, fresh, trusted], ["sex"], TASK, seed=1) != (found,)


def test_few_rows_no_groups_and_no_candidate_tell_nothing() -> None:
    rows = sample(0, SHARES)
    assert fairness.gaps([rows], ["age"], TASK, seed=0) == ()
    assert fairness.gaps([rows], [], TASK, seed=0) == ()
    assert fairness.gaps([], ["sex"], TASK, seed=0) == ()
    assert fairness.gaps([NOBODY], ["sex"], TASK, seed=0) == ()
    few = sample(0, SHARES, n=49)
    assert fairness.gaps([few], ["sex"], TASK, seed=0) == ()
    role: Role = "teacher"
    alone = Sample(truth=rows.truth, scores={role: rows.scores[role]}, groups=rows.groups)
    assert fairness.gaps([alone], ["sex"], TASK, seed=0) == ()


def test_groups_of_the_first_model_have_a_gap_that_nothing_was_added_to() -> None:
    rows = sample(0, {"candidate": SHARES["candidate"]})
    (found,) = fairness.gaps([rows], ["sex"], TASK, seed=0)
    assert found.added == {}
    assert set(found.gap) == {"candidate"}

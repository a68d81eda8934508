"""Gate of groups: its limits are points, its samples are those of the evidence."""

from __future__ import annotations

import numpy as np
import pytest
from gate_evidence import evidence, versus

from redistill.compress.judge import hurt_gate
from redistill.compress.judge.evidence import NOBODY
from redistill.compress.judge.gates import worst_class

LIMIT = worst_class.Limit()


def test_rows_are_paired_with_their_probabilities() -> None:
    p = np.full(10, 0.5)
    e = evidence(fresh=versus(3, 2, 5, p=p))
    found = hurt_gate.paired("fresh", e.fresh, e, {"g": np.arange(10) < 4})
    assert found.lost.tolist() == [-1.0] * 3 + [1.0] * 2 + [0.0] * 5
    assert found.p is p
    assert found.take(found.groups["g"]).lost.tolist() == [-1.0] * 3 + [1.0]


def test_without_an_incumbent_there_is_nothing_to_lose_against() -> None:
    e = evidence()
    assert len(hurt_gate.paired("fresh", NOBODY, e, {})) == 0
    gate = hurt_gate.gate(
        "x", evidence(fresh=NOBODY, trusted=NOBODY), LIMIT, fresh={}, trusted={}, what="groups"
    )
    assert gate is None


def test_a_group_of_one_sample_only_is_judged_there() -> None:
    e = evidence(fresh=versus(0, 0, 200), trusted=versus(0, 0, 200))
    gate = hurt_gate.gate(
        "x", e, LIMIT,
        fresh={"g": np.arange(200) < 60}, trusted={"h": np.arange(200) < 90}, what="groups",
    )  # fmt: skip
    assert gate is not None
    assert gate.passed is True
    assert gate.why.startswith("g loses 0.0 points")
    assert "on 60 rows, the worst of 2 groups" in gate.why


def test_a_gain_is_told_with_the_interval_of_the_gain() -> None:
    e = evidence(fresh=versus(60, 0, 140), trusted=NOBODY)
    gate = hurt_gate.gate("x", e, LIMIT, fresh={"g": np.ones(200, bool)}, trusted={}, what="groups")
    assert gate is not None
    assert gate.why.startswith("g gains 30.0 points [+2")
    assert gate.value == -30.0


@pytest.mark.parametrize(
    ("fresh", "trusted", "split"),
    [((0, 60, 140), (0, 0, 200), None), ((0, 0, 200), (0, 60, 140), "trusted")],
)
def test_what_fresh_rows_show_of_an_added_version_is_not_of_trusted_rows(
    fresh: tuple[int, int, int], trusted: tuple[int, int, int], split: str | None
) -> None:
    """Gates of trusted rows can be waived: harm to traffic cannot."""
    e = evidence(requirement="admit", fresh=versus(*fresh), trusted=versus(*trusted))
    half = {"g": np.arange(200) < 100}
    gate = hurt_gate.gate("x", e, LIMIT, fresh=half, trusted=half, what="groups")
    assert gate is not None
    assert (gate.passed, gate.split) == (False, split)


def test_what_is_not_shown_has_a_confidence() -> None:
    e = evidence(fresh=versus(0, 2, 58), trusted=versus(0, 0, 300))
    gate = hurt_gate.gate(
        "x", e, LIMIT,
        fresh={"g": np.ones(60, bool)}, trusted={"h": np.ones(300, bool)}, what="groups",
    )  # fmt: skip
    assert gate is not None
    assert gate.passed is True
    assert "g loses less than 5 points with a confidence of 7" in gate.why

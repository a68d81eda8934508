"""How many candidates of an incident may face its fresh rows."""

from __future__ import annotations

import pytest
from gate_evidence import evidence

from redistill.compress.judge.gates import recipe


@pytest.mark.parametrize("k", [1, 2, 3])
def test_three_candidates_may_face_fresh_rows(k: int) -> None:
    found = recipe.judge(evidence(recipe=k), recipe.Limit())
    assert (found.passed, found.value, found.limit) == (True, float(k), 3.0)
    assert found.why.startswith(f"candidate {k} of at most 3 of this incident")


def test_there_is_none_before_the_first() -> None:
    """Its e-value would be half of the first's."""
    assert recipe.judge(evidence(recipe=0), recipe.Limit()).passed is False


def test_a_fourth_may_not() -> None:
    found = recipe.judge(evidence(recipe=4), recipe.Limit())
    assert found.passed is False
    assert found.why.startswith("3 candidates of this incident have faced its fresh rows")

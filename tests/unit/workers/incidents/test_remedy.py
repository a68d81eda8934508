from __future__ import annotations

from typing import get_args

from redistill.workers.incidents.remedy import Remedy, Repair


def test_every_remedy_says_why_and_has_a_word_of_its_own() -> None:
    kinds = get_args(Remedy)
    assert all("why" in kind.__dataclass_fields__ for kind in kinds)
    assert len({kind.decision for kind in kinds}) == len(kinds)
    assert Repair("x") == Repair("x")

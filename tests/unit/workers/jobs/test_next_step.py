"""What becomes of a candidate: every decision of the gates has one consequence."""

from __future__ import annotations

import pytest

from redistill.compress.plan import Accepted, NeedsPerson, Rejected, Undecidable
from redistill.workers.jobs.next_step import Ask, JudgeAgain, Publish, Reject, next_step


def undecided(gate: str) -> Undecidable:
    return Undecidable(gate=gate, have=40, need=90, why="too few rows")


def test_accepted_candidate_is_published() -> None:
    assert next_step(Accepted(variant="static_int8")) == Publish()


def test_rejected_candidate_keeps_every_reason() -> None:
    assert next_step(Rejected(reasons=("too slow", "too large"))) == Reject(
        ("too slow", "too large")
    )


@pytest.mark.parametrize("gate", ["trusted", "worst_group", "verified"])
def test_what_only_a_person_can_bring_is_never_waited_for(gate: str) -> None:
    person = NeedsPerson(gate=gate, have=40, need=90, why="too few rows", ask="more of them")
    assert next_step(person) == Ask(person)


@pytest.mark.parametrize("gate", ["fresh", "gain", "a gate of tomorrow"])
def test_gate_on_fresh_rows_is_judged_again(gate: str) -> None:
    assert next_step(undecided(gate)) == JudgeAgain("too few rows")

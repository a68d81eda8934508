"""What becomes of a candidate: every decision of the gates has one consequence."""

from __future__ import annotations

import pytest

from redistill.compress.plan import Accepted, Rejected, Undecidable
from redistill.workers.jobs.next_step import MORE_TRUSTED, JudgeAgain, Publish, Reject, next_step


def undecided(gate: str) -> Undecidable:
    return Undecidable(gate=gate, have=40, need=90, why="too few rows")


def test_accepted_candidate_is_published() -> None:
    assert next_step(Accepted(variant="static_int8")) == Publish()


def test_rejected_candidate_keeps_every_reason() -> None:
    assert next_step(Rejected(reasons=("too slow", "too large"))) == Reject(
        ("too slow", "too large")
    )


@pytest.mark.parametrize("gate", ["trusted_points", "worst_slice_points"])
def test_gate_on_trusted_rows_is_never_waited_for(gate: str) -> None:
    verdict = next_step(undecided(gate))
    assert verdict == Reject((f"{gate}: not proven: too few rows; {MORE_TRUSTED}",))


def test_unverified_rows_need_somebody_and_no_more_labels_of_the_same_source() -> None:
    assert next_step(undecided("verified_rows")) == Reject(("too few rows",))


@pytest.mark.parametrize("gate", ["fresh_e_value", "gain", "a gate of tomorrow"])
def test_gate_on_fresh_rows_is_judged_again(gate: str) -> None:
    assert next_step(undecided(gate)) == JudgeAgain("too few rows")

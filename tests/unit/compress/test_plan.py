"""job.json and report.json: what is written is read again, and the same value has the same bytes."""

from __future__ import annotations

import msgspec
import pytest
from compress_rows import job_of

from redistill.compress import plan


def report(**fields: object) -> plan.Report:
    given: dict[str, object] = {
        "job_id": "job-1", "model": "credit", "mode": "repair", "decision": None,
        "policy_sha256": "0" * 64,
    }  # fmt: skip
    return plan.Report(**given | fields)  # type: ignore[arg-type]


def test_a_job_is_read_as_it_was_written() -> None:
    check = plan.ColumnCheck(column="a", rule="unit_change", value=3.0, slope=2.5, intercept=0.0)
    job = job_of(seed=7, checks=(check,), second_labels_before=(1, 40), base_error=0.1)
    assert plan.read_job_spec(plan.to_json(job)) == job


@pytest.mark.parametrize(
    "decision",
    [
        plan.Accepted(variant="fp32"),
        plan.Rejected(reasons=("loads: corrupt",)),
        plan.Undecidable(gate="fresh", have=20, need=None, why="few rows"),
        plan.NeedsPerson(gate="trusted", have=20, need=90, why="few rows", ask="more rows"),
        None,
    ],
)
def test_every_decision_survives_its_json(decision: plan.Decision | None) -> None:
    assert plan.read_report(plan.to_json(report(decision=decision))).decision == decision


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"job_id": "j", "model": "m"}', "graph"),
        (b'{"job_id": "j", "model": "m", "mode": "mend", "graph": {}}', "mode"),
        (b"[]", "object"),
    ],
)
def test_a_job_that_is_none_is_refused_by_name(text: bytes, said: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=said):
        plan.read_job_spec(text)


def test_job_of_before_there_were_checks_is_read() -> None:
    job = msgspec.json.decode(plan.to_json(job_of()))
    del job["checks"], job["second_labels_before"], job["raised_points"], job["base_rows"]
    job["data_bug_columns"] = ["a"]
    read = plan.read_job_spec(msgspec.json.encode(job))
    assert (read.checks, read.second_labels_before, read.raised_points) == ((), None, None)


@pytest.mark.parametrize("cause", ["harmless", "undecided", "world_changed", "data_bug"])
def test_diagnosis_of_the_first_release_is_read(cause: str) -> None:
    old = {
        "cause": cause, "why": "w", "student_loss_points": None, "teacher_loss_points": None,
        "disagreement": None, "labelled": 20,
    }  # fmt: skip
    stored = msgspec.json.decode(plan.to_json(report())) | {"diagnosis": old}
    found = plan.read_report(msgspec.json.encode(stored)).diagnosis
    assert found is not None
    assert (found.cause, found.recoverable_points, found.repairable) == (cause, None, False)

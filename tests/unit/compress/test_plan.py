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
    job = job_of(seed=7, data_bug_columns=("a",), base_error=0.1)
    assert plan.read_job_spec(plan.to_json(job)) == job


@pytest.mark.parametrize(
    "decision",
    [
        plan.Accepted(variant="fp32"),
        plan.Rejected(reasons=("loads: corrupt",)),
        plan.Undecidable(gate="trusted_points", have=20, need=None, why="few rows"),
        None,
    ],
)
def test_every_decision_survives_its_json(decision: plan.Decision | None) -> None:
    assert plan.read_report(plan.to_json(report(decision=decision))).decision == decision


def test_equal_limits_have_equal_bytes_whatever_the_order_of_their_keys() -> None:
    a = plan.Limits(max_bytes=10, min_agreement=0.9)
    b = msgspec.json.decode(b'{"min_agreement":0.9,"max_bytes":10}', type=plan.Limits)
    assert plan.to_json(a) == plan.to_json(b)


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

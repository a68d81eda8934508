"""Jobs as documents: outcomes and steps by their documented names only."""

from __future__ import annotations

from typing import Any

from redistill.workers.documents.job import document_of_job, line_of_job

AT = 1_000_000


def row(**other: Any) -> dict[str, Any]:
    made = {"job_id": "j", "number": 3, "model": "credit", "incident_id": None, "attempt": 0}
    made |= {"trigger_kind": "actor", "trigger_id": "cli:ann", "state": "running", "tries": 1}
    made |= {"options": {"train_on": "labels", "last_event_us": 5}, "not_before": AT}
    made |= {"outcome": {"why": "so", "wait": {"rows": 3}, "tried": [{"name": "warm"}]}}
    made |= dict.fromkeys(("frozen_at", "gate_rows", "started_at", "finished_at"))
    return made | {"created_at": AT, "deadline_at": 2 * AT} | other


def test_line_keeps_what_is_documented() -> None:
    line = line_of_job(row())
    assert (line.train_on, line.waived, line.deadline_at) == (
        "labels",
        {},
        "1970-01-01T00:00:02.000Z",
    )
    assert (line.outcome.why, line.outcome.reasons, line.outcome.version) == ("so", [], None)


def test_step_is_told_in_a_sentence() -> None:
    step = {"job_id": "j", "name": "gate", "state": "done", "seconds": 0.5, "cpu_seconds": None}
    step |= {"detail": {"why": "every gate passed"}, "token": 9, "at": AT}
    made = document_of_job(row(steps=[step], gates=[], gaps=[], recipes=[]))
    (told,) = made.steps
    assert told.said == "done in 0.50 s: every gate passed"
    assert told.at == "1970-01-01T00:00:01.000Z"

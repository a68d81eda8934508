"""Jobs as documents: outcomes and steps by their documented names only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from redistill.workers.documents.job import WAITED_FOR, document_of_job, line_of_job, wait_of
from redistill.workers.jobs import phases, waiting

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
    made = document_of_job(row(steps=[step], gates=[], gaps=[], cost=None, recipes=[]))
    (told,) = made.steps
    assert told.said == "done in 0.50 s: every gate passed"
    assert told.at == "1970-01-01T00:00:01.000Z"


def test_wait_is_told_while_the_job_waits() -> None:
    outcome = {"wait": {"count": "asked", "rows": 20, "outcomes": 0, "look_at": 5}}
    options = {"train_on": "labels", "source": "ann"}
    line = line_of_job(row(state="waiting_labels", outcome=outcome, gate_rows=7, options=options))
    assert line.source == "ann"
    assert line.wait is not None
    assert (line.wait.count, line.wait.have, line.wait.need) == ("asked", 7, 20)
    assert line.wait.said == WAITED_FOR["asked"]
    assert line_of_job(row(outcome=outcome)).wait is None  # it is at work
    newer = {"wait": {"count": "moons", "rows": 2}}
    told = wait_of(row(state="waiting_labels", outcome=newer, gate_rows=1))
    assert told is not None
    assert told.said == "moons"


def test_whatever_a_job_waits_for_has_a_text() -> None:
    """Who lets a job wait for something else says what `jobs show` tells of it."""
    source = Path(phases.__file__).read_text()
    waited = set(re.findall(r"\"count\": \"(\w+)\"", source))
    waited |= set(re.findall(r"_wait_for_rows\(\s*\"(\w+)\"", source))
    assert waited >= {"labelled", "gate_labelled", "train", "train_labelled", "asked"}
    assert waited | waiting.BY_TIME <= WAITED_FOR.keys()
    for count in sorted(waited):
        assert f"`{count}`" in (Path(__file__).parents[4] / "docs" / "commands.md").read_text()

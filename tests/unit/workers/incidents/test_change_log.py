from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from redistill.workers.incidents import change_log


@pytest.mark.parametrize(
    ("status", "decision", "level", "event"),
    [
        ("opened", "ask_person", "warning", "incident_needs_a_person"),
        ("updated", "ask_person", "warning", "incident_needs_a_person"),
        ("resolved", "ask_person", "info", "incident_changed"),
        ("opened", "repair", "info", "incident_changed"),
        ("opened", None, "info", "incident_changed"),
    ],
)
def test_line_wakes_somebody_only_where_a_person_has_to_decide(
    status: str, decision: str | None, level: str, event: str
) -> None:
    with capture_logs() as lines:
        change_log.log_change(
            incident_id="i1", model="credit", status=status, decision=decision, why="harm"
        )
    assert lines == [
        {
            "log_level": level, "event": event, "action": f"incident_{status}", "incident_id": "i1",
            "model": "credit", "decision": decision, "why": "harm",
        }
    ]  # fmt: skip

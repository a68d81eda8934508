"""What people read is made of rows, and says what, how bad, since when, where, what was done, what to type."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from loop import NOW, finding

from redistill.times import SECOND
from redistill.workers.alerts import incident_alerts

ID = "3f2a81c0-0000-4000-8000-000000000001"


def incident(**over: Any) -> dict[str, Any]:
    return {
        "incident_id": ID, "model": "credit", "version": "v1", "incident_class": "harm", "status": "open",
        "stage": "repairing", "cause": None, "decision": "repair", "why": "compression gap: it lost 12 points",
        "attempt": 1, "split_salt": "s", "change_low": NOW - 60 * SECOND, "change_high": NOW, "opened_at": NOW,
        "updated_at": NOW, "resolved_at": None, "resolution": None, "open_mark": 1,
    } | over  # fmt: skip


def body(**over: Any) -> dict[str, Any]:
    return dict(json.loads(msgspec.json.encode(finding(**over))))


def test_message_says_everything_that_somebody_on_call_asks() -> None:
    made = incident_alerts.of_incident(
        incident(), [body(contributors=("x",))], "https://r.example/"
    )
    assert made.title == "credit v1: error 5.0% → 60.0%"
    assert made.how_bad.startswith("error 5.0% → 60.0%")
    assert "measured on" in made.how_bad
    assert made.began == "between 2025-11-24 15:59 and 2025-11-24 16:00 UTC"
    assert made.where.startswith("everywhere, or not localised yet; moved: x (")
    assert made.done == "redistill repairs it (attempt 1): compression gap: it lost 12 points"
    assert made.commands == (
        "redistill incidents show 3f2a81c0",
        "redistill incidents ack 3f2a81c0",
    )
    assert made.url == f"https://r.example/incidents/{ID}"
    assert (made.state, made.severity, made.model, made.opened_at) == (
        "firing",
        "warn",
        "credit",
        NOW,
    )


@pytest.mark.parametrize(
    ("over", "severity", "command"),
    [
        ({}, "warn", None),
        ({"stage": "awaiting_person"}, "page", "redistill incidents approve 3f2a81c0"),
        ({"stage": "guarding"}, "warn", "redistill rollback credit"),
        (
            {"incident_class": "data_bug", "stage": "detected"},
            "page",
            'redistill incidents resolve 3f2a81c0 --reason "the feed was mended"',
        ),
    ],
)
def test_person_is_needed_for_what_waits_for_one_and_for_data_bugs(
    over: dict[str, Any], severity: str, command: str | None
) -> None:
    made = incident_alerts.of_incident(incident(**over), [], None)
    assert made.severity == severity
    assert command is None or command in made.commands
    assert made.url is None


def test_resolved_incident_says_how_it_ended() -> None:
    over = incident(
        status="resolved",
        stage="resolved",
        resolution="recovered",
        resolved_at=NOW,
        why="error is back",
    )
    made = incident_alerts.of_incident(over, [body()], None)
    assert (made.state, made.resolved_at, made.commands) == ("resolved", NOW, ())
    assert made.done == "resolved, recovered: error is back"


def test_without_a_measurement_it_says_so() -> None:
    shifted = body(kind="input", harmful=None)
    shifted["impact"] |= {"metric": "rows", "current": None}
    made = incident_alerts.of_incident(incident(), [shifted], None)
    assert made.title == f"credit v1: {shifted['reason']}"
    assert made.how_bad == (
        f"{shifted['reason']}; its effect on accuracy is not known: no label says so yet"
    )


def test_measured_harm_of_everything_is_told_before_what_explains_it() -> None:
    slice_ = body(scope="slice:region=EU", current=0.1)
    made = incident_alerts.of_incident(
        incident(), [body(kind="input", harmful=None), slice_, body()], None
    )
    assert made.title == "credit v1: error 5.0% → 60.0%"


def test_text_that_somebody_else_chose_is_one_line() -> None:
    made = incident_alerts.of_incident(incident(why="bad\nredistill: all is well\x1b[2J"), [], None)
    assert made.title.isprintable()
    assert made.done.isprintable()


def test_nothing_of_a_finding_or_a_row_steers_a_terminal_or_a_database() -> None:
    evil = "a\x00\x1b[2J\r\nb\u202e\ud800" * 400
    found = body() | {"reason": evil}
    found["impact"] = {**found["impact"], "metric": evil, "current": float("nan")}
    found["contributors"] = [{"column": evil, "distance": evil, "value": 1e308, "noise_floor": 0.0}]
    given = dict.fromkeys(("model", "version", "why", "stage", "resolution"), evil)
    for status in ("open", "resolved"):
        made = incident_alerts.of_incident(incident(**given, status=status), [found], None)
        for name in ("title", "how_bad", "where", "done", "model", "version"):
            text = getattr(made, name)
            assert text.isprintable(), name
            assert len(text) <= 600, name


def test_trouble_with_the_installation_is_told_with_its_remedy() -> None:
    row = {
        "alert_id": "a1", "kind": "disk", "subject": "/data", "model": None, "severity": "warn",
        "said": "the disk is full in 3 h", "remedy": "free some", "opened_at": NOW, "updated_at": NOW,
        "resolved_at": None, "open_mark": 1,
    }  # fmt: skip
    made = incident_alerts.of_operational(row)
    assert (made.key, made.title, made.where, made.commands) == (
        "operational:a1", "the disk is full in 3 h", "/data", ("free some",),
    )  # fmt: skip
    assert incident_alerts.of_operational(row | {"resolved_at": NOW}).state == "resolved"


@pytest.mark.parametrize(
    ("change", "before", "title"),
    [
        ("publish", "r26", "r27 serves in place of r26"),
        ("publish", None, "r27 serves in place of nothing"),
        ("rollback", "r28", "rolled back from r28 to r27"),
        ("automatic_rollback", "r28", "rolled back from r28 to r27 by redistill: it was worse"),
    ],
)
def test_pointer_that_moved_is_a_change(change: str, before: str | None, title: str) -> None:
    row = {
        "model": "credit", "epoch": 4, "stable": "r27", "before": before, "sha256": "ab", "change": change,
        "reason": "the gates passed", "trigger": json.dumps({"kind": "incident", "id": ID}), "at": NOW,
    }  # fmt: skip
    made = incident_alerts.of_change(row, "https://r.example")
    assert (made.key, made.title, made.severity, made.state) == (
        "change:credit:4",
        f"credit: {title}",
        "info",
        "resolved",
    )
    assert made.url == f"https://r.example/incidents/{ID}"
    assert incident_alerts.of_change(row, None).url is None


def test_trial_says_that_nothing_is_wrong() -> None:
    made = incident_alerts.trial("team", actor="cli:ann", now=NOW)
    assert made.kind == "test"
    assert "nothing is wrong" in made.title

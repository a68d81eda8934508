"""Incidents as documents: what is in the row, without what is nobody's."""

from __future__ import annotations

from typing import Any

from redistill.workers.documents.incident import document_of_incident, line_of_incident
from redistill.workers.incidents.broken_feeds import BrokenFeed, BrokenIncident
from redistill.workers.store.tables import incidents

SECOND = 1_000_000


def row(**other: Any) -> dict[str, Any]:
    made: dict[str, Any] = dict.fromkeys(c.name for c in incidents.c)
    made |= {"incident_id": "i", "model": "credit", "version": "7", "incident_class": "harm"}
    made |= {"status": "open", "stage": "detected", "why": "error rose", "attempt": 0}
    return made | {"opened_at": SECOND, "updated_at": 2 * SECOND, "split_salt": "s"} | other


def test_line_has_the_columns_that_mean_something_to_others() -> None:
    line = line_of_incident(row(change_low=SECOND))
    assert (line.opened_at, line.change_low) == ("1970-01-01T00:00:01.000Z",) * 2
    assert (line.resolved_at, line.resolution) == (None, None)
    fields = set(line.__dataclass_fields__)
    assert {c.name for c in incidents.c} - fields == {"open_mark", "split_salt"}


def test_document_tells_when_findings_were_attached_and_what_happened() -> None:
    found = row(
        findings=[{"kind": "accuracy", "attached_at": SECOND, "note": None}],
        jobs=[],
        timeline=[{"at": SECOND, "what": "opened", "why": "harm [w]", "seconds": None}],
    )
    made = document_of_incident(found, [])
    assert made.findings == [
        {"kind": "accuracy", "attached_at": "1970-01-01T00:00:01.000Z", "note": None}
    ]
    (entry,) = made.timeline
    assert (entry.at, entry.what) == ("1970-01-01T00:00:01.000Z", "opened")


def test_document_names_what_is_broken_in_other_models_too() -> None:
    members = tuple(
        BrokenIncident(incident_id=f"i{m}", model=m, breakages=(), nothing_else=True)
        for m in ("credit", "fraud")
    )
    feed = BrokenFeed(columns=(("income", "missing"),), since=SECOND, members=members)
    (line,) = document_of_incident(row(findings=[], jobs=[], timeline=[]), [feed]).broken_feeds
    assert line.columns == [{"column": "income", "rule": "missing"}]
    assert line.since == "1970-01-01T00:00:01.000Z"
    assert line.incidents == {"icredit": "credit", "ifraud": "fraud"}

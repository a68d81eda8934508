"""Models as documents: no negative ages, whatever clock a service has."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from redistill.times import MINUTE
from redistill.workers.documents.model import document_of_model, line_of_model
from redistill.workers.store.queries import Overview

NOW = 1_700_000_000_000_000
SEEN = Overview(
    model="credit", level="repair", version="7", correct=90, labelled=100, labels_waiting=0,
    gate_rows_per_day=None, last_served_at=NOW - MINUTE, last_label_at=NOW, label_lag_us=MINUTE,
    has_base_error=True, incident=("harm", "detected", "error rose"), job=None, open_findings=1,
    paused_until=None, last_change="publish",
)  # fmt: skip


def test_line_measures_with_an_interval() -> None:
    line = line_of_model(SEEN, NOW)
    assert line.accuracy is not None
    assert (line.accuracy.basis, line.accuracy.n) == ("measured", 100)
    assert line.accuracy.low < 0.9 < line.accuracy.high
    assert (line.last_event_age_s, line.label_lag_s) == (60.0, 60.0)
    assert line.incident is not None
    assert line.incident.incident_class == "harm"


def test_clock_that_is_ahead_gives_no_negative_age() -> None:
    line = line_of_model(replace(SEEN, last_served_at=NOW + MINUTE, label_lag_us=-5), NOW)
    assert (line.last_event_age_s, line.label_lag_s) == (0.0, 0.0)
    assert line.last_event_at == "2023-11-14T22:14:20.000Z"


def test_document_has_the_versions() -> None:
    version: dict[str, Any] = {
        "version": "7",
        "serves": True,
        "status": "published",
        "kind": "added",
    }
    version |= {"sha256": "a", "gate_passed": True, "failed_gates": [], "waived": {}, "bytes": 9}
    version |= {"predecessor": None, "published_at": None}
    detail = {
        "versions": [version],
        "moves": [],
        "comparison": None,
        "labels": [],
        "stored": {"rows": 0},
    }
    made = document_of_model(
        SEEN, detail, NOW, schedule=None, trusted_rows=None, slice_tests="none"
    )
    assert [v.version for v in made.versions] == ["7"]
    assert (made.model, made.slice_tests) == ("credit", "none")

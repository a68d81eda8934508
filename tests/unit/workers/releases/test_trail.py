"""The trail of a model: rows are compared with what audit entries say was entered and moved."""

from __future__ import annotations

import json
from typing import Any

import pytest
from release_kit import Installation

from redistill.workers.errors import Disagreement
from redistill.workers.releases import versions
from redistill.workers.releases.trail import Trail, as_it_stands, facts_of
from redistill.workers.store.audit import Entry

ROW = {
    "version": "v1", "sha256": "ab", "manifest_sha256": "cd", "kind": "added", "gate_passed": True,
    "policy_sha256": None, "report": "{}", "files": '{"model.onnx": 1}',
}  # fmt: skip


@pytest.fixture
def known() -> Trail:
    made = Trail()
    made.take(said("release.candidate", facts_of(ROW)))
    made.take(said("release.publish", {"version": "v1", "sha256": "ab", "epoch": 1, "reason": "r"}))
    return made


def said(action: str, body: Any) -> Entry:
    return Entry(1, 7, "cli:ann", action, "credit", json.dumps(body), "", "", "")


@pytest.mark.parametrize("column", [c for c in ROW if c != "version"])
def test_every_column_that_counts_is_compared(known: Trail, column: str) -> None:
    known.want("credit", ROW)
    with pytest.raises(Disagreement, match="the row of credit v1 in versions: "):
        known.want("credit", ROW | {column: "other"})


def test_what_retention_removed_and_what_was_not_read_is_no_change(known: Trail) -> None:
    known.want("credit", ROW | {"files": "{}", "report": None})


def test_version_that_nobody_entered_is_refused(known: Trail) -> None:
    with pytest.raises(Disagreement, match="no audit entry says that it was entered"):
        known.want("credit", ROW | {"version": "v2"})
    known.take(said("release.candidate", facts_of(ROW | {"sha256": "other"})))
    known.want("credit", ROW)  # a name is entered once


POINTER = {"epoch": 1, "stable": "v1", "reason": "r", "moved_at": 7}


@pytest.mark.parametrize("column", POINTER)
def test_pointer_stands_where_it_was_moved(known: Trail, column: str) -> None:
    known.want_pointer("credit", POINTER)
    with pytest.raises(Disagreement, match="the row of credit in pointers"):
        known.want_pointer("credit", POINTER | {column: "other"})
    with pytest.raises(Disagreement, match="it is at none, the audit has epoch 1"):
        known.want_pointer("credit", None)
    Trail().want_pointer("credit", None)


def test_bytes_are_barred_and_let_in_again(known: Trail) -> None:
    back = {"version": "v0", "sha256": "00", "epoch": 2, "reason": "r", "barred": "ab"}
    known.take(said("release.automatic_rollback", back))
    assert known.barred == {"ab"}
    known.take(said("release.unbar", {"sha256": "ab"}))
    assert known.barred == set()


def test_adoption_is_where_a_trail_begins_anew(shop: Installation, known: Trail) -> None:
    with shop.database.read() as conn:
        known.take(said("release.adopted", as_it_stands(conn, "credit")))
        for version in ("v1", "v2", "v3", "bad"):
            known.want("credit", versions.raw(conn, "credit", version) or {})
    assert [m.version for m in known.moves] == ["v1", "v2", "v1"]

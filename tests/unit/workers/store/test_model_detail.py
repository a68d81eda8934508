from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import loop
import pytest
import sqlalchemy as sa
from loop import NOW
from stream_rows import label

from redistill.streams.engine.label_rows import label_row
from redistill.streams.store.tables import feature_rows, labels
from redistill.times import DAY, SECOND
from redistill.workers.store import model_detail
from redistill.workers.store.tables import monitored_releases, pointer_history, versions

AT = "2025-11-24T16:00:00+00:00"
"""``NOW``."""


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sa.Connection]:
    database = loop.opened(f"sqlite:///{tmp_path / 'detail.db'}")
    with database.begin() as conn:
        loop.register(conn, loop.spec())
        yield conn
    database.dispose()


def add_version(conn: sa.Connection, version: str, **over: Any) -> None:
    values = {
        "model": "credit", "version": version, "sha256": "cd" * 32, "manifest_sha256": "ef" * 32,
        "kind": "repaired", "status": "candidate", "files": '{"model.onnx": {"bytes": 123}}',
        "report": "{}", "gate_passed": True, "created_at": NOW,
    } | over  # fmt: skip
    conn.execute(sa.insert(versions).values(**values))


def test_versions_are_told_newest_first_with_the_gates_that_failed(conn: sa.Connection) -> None:
    gates = [
        {"name": "fresh", "passed": False},
        {"name": "size", "passed": True},
        {"name": "worst_group"},
    ]
    add_version(
        conn, "r1", status="rejected", gate_passed=False, predecessor="v1", created_at=NOW + 5,
        report=json.dumps({"gates": gates}), files="{}",
    )  # fmt: skip
    rejected, baseline = model_detail.versions_of(conn, "credit")
    assert (rejected["version"], rejected["serves"], rejected["status"]) == (
        "r1",
        False,
        "rejected",
    )
    assert rejected["failed_gates"] == ["fresh", "worst_group"]
    assert (rejected["bytes"], rejected["published_at"], rejected["predecessor"]) == (
        None,
        None,
        "v1",
    )
    assert (baseline["version"], baseline["serves"], baseline["kind"]) == ("v1", True, "baseline")
    assert (baseline["failed_gates"], baseline["bytes"]) == ([], 1)
    assert baseline["published_at"] == "2025-11-24T15:00:00+00:00"


def test_waived_gates_are_told_with_who_and_why(conn: sa.Connection) -> None:
    waived = {"trusted": "cli:ann: old rows"}
    add_version(conn, "r1", report=json.dumps({"waived": waived}), created_at=NOW + 5)
    assert [v["waived"] for v in model_detail.versions_of(conn, "credit")] == [waived, {}]


def test_last_moves_of_the_pointer_are_told_newest_first(conn: sa.Connection) -> None:
    for epoch in range(2, 9):
        conn.execute(
            sa.insert(pointer_history).values(
                model="credit", epoch=epoch, stable=f"r{epoch}", sha256="0" * 64, trigger="{}",
                change="rollback" if epoch == 8 else "publish", reason=f"because {epoch}", at=NOW,
            )
        )  # fmt: skip
    moves = model_detail.moves_of(conn, "credit")
    assert [m["version"] for m in moves] == ["r8", "r7", "r6", "r5", "r4"]
    assert moves[0] == {"at": AT, "change": "rollback", "version": "r8", "reason": "because 8"}


def test_newest_comparison_is_told(conn: sa.Connection) -> None:
    assert model_detail.comparison_of(conn, "credit") is None
    for epoch, result in ((2, None), (3, '{"wins": 4, "losses": 5}')):
        conn.execute(
            sa.insert(monitored_releases).values(
                model="credit", epoch=epoch, version=f"r{epoch}", predecessor="v1", state="watching",
                last_seq=0, result=result, since=0, until=NOW,
            )
        )  # fmt: skip
    assert model_detail.comparison_of(conn, "credit") == {
        "version": "r3",
        "predecessor": "v1",
        "state": "watching",
        "until": AT,
        "result": {"wins": 4, "losses": 5},
    }


def test_stored_rows_are_summed_over_all_versions(conn: sa.Connection) -> None:
    assert model_detail.stored_rows(conn, "credit") == {"rows": 0, "bytes": 0, "since": None}
    for model, version, at, rows in (
        ("credit", "v1", NOW, 100), ("credit", "r1", NOW + DAY, 20), ("fraud", "1", NOW - DAY, 7),
    ):  # fmt: skip
        conn.execute(
            sa.insert(feature_rows).values(
                model=model, version=version, first_served_at=at, last_served_at=at + SECOND,
                rows=rows, bytes=10 * rows, data=b"",
            )
        )  # fmt: skip
    assert model_detail.stored_rows(conn, "credit") == {"rows": 120, "bytes": 1_200, "since": AT}


def test_detail_holds_all_of_it(conn: sa.Connection) -> None:
    detail = model_detail.detail(conn, "credit", NOW)
    assert set(detail) == {"versions", "moves", "comparison", "labels", "stored"}
    assert [v["version"] for v in detail["versions"]] == ["v1"]
    assert [m["change"] for m in detail["moves"]] == ["publish"]


def test_what_judged_a_version_is_its_own_variant_its_gates_and_its_gaps(
    conn: sa.Connection,
) -> None:
    report = {
        "gates": [{"name": "fresh", "passed": True}],
        "variants": [
            {"name": "fp32", "sha256": "aa" * 32, "bytes": 9},
            {"name": "static_int8", "sha256": "cd" * 32, "bytes": 5, "gates": []},
        ],
        "gaps": [{"key": "sex"}],
    }
    files = {
        name: {"sha256": "ee" * 32, "bytes": 1}
        for name in ("documents/MODEL_CARD.md", "model.onnx", "training/documents.json")
    }
    add_version(conn, "r1", report=json.dumps(report), files=json.dumps(files))
    found = model_detail.judged_of(conn, "credit", "r1")
    assert found is not None
    assert found["measured"] == {"name": "static_int8", "sha256": "cd" * 32, "bytes": 5}
    assert (found["gates"], found["gaps"]) == (report["gates"], report["gaps"])
    assert found["documents"] == {"documents/MODEL_CARD.md": "ee" * 32}
    assert model_detail.judged_of(conn, "credit", "r2") is None
    old = model_detail.judged_of(conn, "credit", "v1")
    assert old is not None
    assert (old["measured"], old["gates"], old["gaps"], old["documents"]) == ({}, [], [], {})


def test_who_labelled_is_shown_whether_or_not_it_counts(conn: sa.Connection) -> None:
    assert model_detail.labels_of(conn, "credit", NOW) == []
    said = [
        ("ledger", True, "joined", 3),
        ("ledger", False, "ignored", 2),
        ("x", False, "ignored", 1),
    ]
    for source, bound, state, n in said:
        for i in range(n):
            row = label_row(label(i, source=source), i, state=state, bound=bound)
            at = {"received_at": NOW, "observed_at": i + 10 * bound}
            conn.execute(sa.insert(labels).values(row | at))
    old = label_row(label(9, source="old"), 9, state="joined") | {"received_at": NOW - 2 * DAY}
    conn.execute(sa.insert(labels).values(old))
    assert model_detail.labels_of(conn, "credit", NOW) == [
        {"source": "ledger", "bound": True, "counts": True, "labels": 3},
        {"source": "ledger", "bound": False, "counts": False, "labels": 2},
        {"source": "x", "bound": False, "counts": False, "labels": 1},
    ]

"""Versions as rows: entered once, announced, their names belonging to their bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import loop
import pytest
import release_rows
import sqlalchemy as sa
from loop import NOW

from redistill.files import sha256_of_bytes
from redistill.streams.store.database import Database
from redistill.streams.store.tables import outbox, profiles, specs
from redistill.workers.errors import Disagreement, RegistryError
from redistill.workers.releases import versions
from redistill.workers.store.tables import audit as audit_table
from redistill.workers.store.tables import versions as rows


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sa.Connection]:
    """A transaction in which ``credit`` is registered and serves nothing."""
    database: Database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    release_rows.prepared(database)
    with database.begin() as open_conn:
        yield open_conn
    database.dispose()


def announced(conn: sa.Connection) -> list[dict[str, Any]]:
    values = conn.execute(sa.select(outbox.c.value).order_by(outbox.c.seq)).scalars()
    return [json.loads(bytes(v)) for v in values]


def revision(conn: sa.Connection) -> int:
    return int(conn.execute(sa.select(specs.c.revision)).scalar_one())


@pytest.mark.parametrize(("passed", "status"), [(True, "candidate"), (False, "rejected")])
def test_version_is_entered_as_what_its_gates_made_it(
    conn: sa.Connection, passed: bool, status: str
) -> None:
    row = release_rows.add(conn, "v1", passed=passed, predecessor="v0", job_id=None)
    assert (row.status, row.gate_passed, row.predecessor) == (status, passed, "v0")
    assert (row.created_at, row.published_at) == (NOW, None)
    assert set(row.files) == {"model.onnx", "golden.npz", "manifest.json"}
    (event,) = announced(conn)
    assert (event["status"], event["version"]) == (status, "v1")
    assert event["gates"][0]["passed"] is passed
    (entry,) = conn.execute(sa.select(audit_table)).all()
    assert (entry.action, entry.subject) == (f"release.{status}", "credit")


def test_same_release_is_entered_once(conn: sa.Connection) -> None:
    first = release_rows.add(conn, "v1")
    assert release_rows.add(conn, "v1", now=NOW + 9) == first
    assert len(announced(conn)) == 1


def test_name_belongs_to_its_bytes(conn: sa.Connection) -> None:
    release_rows.add(conn, "v1")
    conn.execute(sa.update(rows).values(sha256="f" * 64, manifest_sha256="e" * 64))
    with pytest.raises(RegistryError, match="version v1 with other bytes"):
        release_rows.add(conn, "v1")


def test_same_graph_under_another_manifest_is_the_same_release(conn: sa.Connection) -> None:
    first = release_rows.add(conn, "v1")
    again = release_rows.add(conn, "v1", cpu_flags=("avx2",))  # made again on another machine
    assert again == first


def test_version_of_an_unknown_model_is_refused(conn: sa.Connection) -> None:
    with pytest.raises(RegistryError, match="no model named 'loans'"):
        release_rows.add(conn, "v1", model="loans")
    assert announced(conn) == []


def test_what_is_normal_for_it_is_stored_and_stream_workers_are_told(conn: sa.Connection) -> None:
    before = revision(conn)
    release_rows.add(conn, "v1")
    assert revision(conn) == before
    assert conn.execute(sa.select(profiles)).all() == []
    release_rows.add(
        conn, "v2", profile=b"profile", base_error="{}", expected_error="[]",
        provisional=True,
    )  # fmt: skip
    assert revision(conn) == before + 1
    (row,) = conn.execute(sa.select(profiles)).all()
    assert (row.version, row.profile, row.base_error) == ("v2", b"profile", "{}")
    assert row.expected_error == "[]"
    told = conn.execute(
        sa.select(audit_table.c.body).where(audit_table.c.action == "release.candidate")
    )
    (body,) = (b for b in map(json.loads, told.scalars()) if b["version"] == "v2")
    assert body["expected_error_sha256"] == sha256_of_bytes(b"[]")
    assert row.provisional


@pytest.mark.parametrize("known", [{"profile": b"profile"}, {"base_error": "{}"}])
def test_half_of_what_is_normal_is_stored_too(conn: sa.Connection, known: dict[str, Any]) -> None:
    release_rows.add(conn, "v1", **known)
    (row,) = conn.execute(sa.select(profiles)).all()
    assert (row.profile, row.base_error) == (known.get("profile"), known.get("base_error"))


def test_newest_versions_come_first(conn: sa.Connection) -> None:
    for i, version in enumerate(("v1", "v2", "v3")):
        release_rows.add(conn, version, now=NOW + i)
    assert [v.version for v in versions.all_versions(conn, "credit")] == ["v3", "v2", "v1"]
    assert versions.all_versions(conn, "loans") == []


def test_missing_version_is_told_with_those_that_there_are(conn: sa.Connection) -> None:
    assert versions.find(conn, "credit", "v9") is None
    with pytest.raises(RegistryError, match=r"no version 'v9' \(it has none\)"):
        versions.get(conn, "credit", "v9")
    for i in range(12):
        release_rows.add(conn, f"v{i}", now=NOW + i)
    with pytest.raises(RegistryError, match=r"did you mean 'v9'"):
        versions.get(conn, "credit", "v99")


@pytest.mark.parametrize(
    ("kind", "here"),
    [("repaired", True), ("scheduled", True), ("baseline", False), ("added", False)],
)
def test_graphs_of_repairs_were_made_here(conn: sa.Connection, kind: str, here: bool) -> None:
    assert release_rows.add(conn, "v1", kind=kind).made_here is here


def test_level_is_that_of_the_registration(conn: sa.Connection) -> None:
    assert versions.level_of(conn, "credit") == "repair"
    with pytest.raises(RegistryError, match="register it first"):
        versions.level_of(conn, "loans")


def test_revision_belongs_to_one_model(conn: sa.Connection) -> None:
    loop.register(conn, loop.spec("loans"), version=None)
    versions.revise(conn, "loans", NOW + 3)
    found = {r.model: (r.revision, r.updated_at) for r in conn.execute(sa.select(specs))}
    assert found["loans"] == (2, NOW + 3)
    assert found["credit"][0] == 1


@pytest.mark.parametrize(
    ("column", "text"),
    [
        *((c, t) for c in ("files", "report") for t in ("", "{", "[1]", "null", "[" * 100_000)),
        ("files", '{"model.onnx": 7}'),
    ],
)
def test_row_that_cannot_be_read_is_named(conn: sa.Connection, column: str, text: str) -> None:
    release_rows.add(conn, "v1")
    conn.execute(sa.update(rows).values({column: text}))
    for read in (versions.all_versions, lambda *of: versions.get(*of, "v1")):
        with pytest.raises(Disagreement, match="credit v1 in versions cannot be read"):
            read(conn, "credit")

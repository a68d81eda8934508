"""Announcements of releases and pointers: one id for one change, let go with its snapshot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import loop
import pytest
import release_rows
import sqlalchemy as sa
from loop import NOW

from redistill.streams.store.database import Database
from redistill.streams.store.tables import outbox
from redistill.workers.releases import announce, roles

JOB = str(uuid4())
GATE = {"name": "gain", "value": 0.2, "limit": 0.1, "passed": True, "why": "smaller"}
ROW = SimpleNamespace(
    model="credit",
    version="v1",
    sha256="a" * 64,
    manifest_sha256="b" * 64,
    report={"gates": [GATE]},
    policy_sha256="c" * 64,
    job_id=JOB,
)


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sa.Connection]:
    database: Database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    with database.begin() as open_conn:
        yield open_conn
    database.dispose()


def rows(conn: sa.Connection) -> list[Any]:
    return list(conn.execute(sa.select(outbox).order_by(outbox.c.seq)).all())


def event(row: Any) -> dict[str, Any]:
    return dict(json.loads(bytes(row.value)))


def release(conn: sa.Connection, **how: Any) -> None:
    announce.announce_release(
        conn, ROW, **({"status": "published", "trigger": release_rows.ACTOR, "now": NOW} | how)
    )


def test_release_is_announced_with_its_gates_and_its_job(conn: sa.Connection) -> None:
    release(conn, epoch=2, after=7)
    (row,) = rows(conn)
    assert (row.topic, row.after_snapshot) == ("releases", 7)
    told = event(row)
    assert told["gates"] == [GATE]
    assert (told["job_id"], told["policy_sha256"], told["epoch"]) == (JOB, "c" * 64, 2)
    assert told["trigger"] == {"kind": "actor", "id": "cli:test"}


def test_report_without_gates_announces_none(conn: sa.Connection) -> None:
    assert announce.gates({}) == []


def test_same_change_is_announced_once(conn: sa.Connection) -> None:
    for how in ({"epoch": 2}, {"epoch": 2, "now": NOW + 1}, {"epoch": 3}, {"status": "candidate"}):
        release(conn, **how)
    told = [event(row) for row in rows(conn)]
    assert [(e["status"], e.get("epoch")) for e in told] == [
        ("published", 2),
        ("published", 3),
        ("candidate", None),
    ]


def test_pointer_that_moved_waits_for_its_snapshot(conn: sa.Connection) -> None:
    roles.ensure(conn, release_rows.TRUST, now=NOW, lifetimes=release_rows.LIFETIMES)
    announce.announce_pointer_move(conn, ROW, 3, "repair", now=NOW, after=7)
    (row,) = rows(conn)
    assert (row.topic, row.after_snapshot) == ("pointers", 7)
    told = event(row)
    assert (told["stable"], told["stable_sha256"], told["epoch"]) == ("v1", "b" * 64, 3)
    assert told["expires_at"] is not None


def test_pointer_is_said_again_and_its_move_only_once(conn: sa.Connection) -> None:
    announce.announce_pointer_move(conn, ROW, 3, "repair", now=NOW, after=7)
    announce.announce_pointer_move(conn, ROW, 3, "repair", now=NOW + 9, after=7)
    announce.announce_pointer_move(conn, ROW, 3, "repair", now=NOW)
    announce.announce_pointer_move(conn, ROW, 3, "repair", now=NOW + 60)
    assert [(r.created_at, r.after_snapshot) for r in rows(conn)] == [
        (NOW, 7),
        (NOW, None),
        (NOW + 60, None),
    ]
    assert event(rows(conn)[0])["expires_at"] is None  # there is no repository yet

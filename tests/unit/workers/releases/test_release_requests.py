"""What is asked of the writer of the repository: answered once, told when clients can see it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import loop
import pytest
import sqlalchemy as sa
from loop import NOW

from redistill.streams.store import properties
from redistill.streams.store.database import Database
from redistill.workers.releases import release_requests
from redistill.workers.releases.release_requests import RequestResult
from redistill.workers.store import audit_key
from redistill.workers.store.audit_key import AuditKey
from redistill.workers.store.tables import release_requests as rows


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    yield opened
    opened.dispose()


def submit(database: Database, version: str, *, now: int = NOW) -> str:
    with database.begin() as conn:
        return release_requests.submit(
            conn, "publish", "credit", {"version": version}, actor="cli:ann", now=now
        )


def finish(database: Database, request_id: str, result: RequestResult) -> bool:
    with database.begin() as conn:
        return release_requests.finish(conn, request_id, result, now=NOW)


def answer(database: Database, request_id: str) -> RequestResult | None:
    with database.read() as conn:
        return release_requests.result_of(conn, request_id)


def test_requests_wait_in_the_order_in_which_they_came(database: Database) -> None:
    late = submit(database, "v2", now=NOW + 1)
    early = submit(database, "v1")
    with database.read() as conn:
        pending = release_requests.pending(conn)
    assert [r.request_id for r in pending] == [early, late]
    first = pending[0]
    assert (first.kind, first.model, first.actor) == ("publish", "credit", "cli:ann")
    assert (first.body, first.created_at) == ({"version": "v1"}, NOW)


def test_request_is_authentic_as_it_was_made_and_not_otherwise(
    database: Database, tmp_path: Path
) -> None:
    kept = audit_key.with_key(database, tmp_path / "audit.key")
    request_id = submit(kept, "v1")
    other = AuditKey(b"another key, of 32 bytes in all.")

    def authentic(with_key: AuditKey | None = None) -> bool:
        with kept.read() as conn:
            (request,) = release_requests.pending(conn)
            return request.is_authentic(with_key or audit_key.known(conn) or other)

    assert authentic()
    assert not authentic(other)
    for column, value in (
        ("kind", "rollback"), ("model", "loans"), ("actor", "cli:eve"), ("created_at", NOW + 1),
        ("body", json.dumps({"version": "v2"})), ("body", "no JSON"), ("intent_id", "0"), ("mac", ""),
    ):  # fmt: skip
        with kept.begin() as conn:
            before = conn.execute(sa.select(rows)).one()._asdict()
            conn.execute(sa.update(rows).values({column: value}))
        assert not authentic(), column
        with kept.begin() as conn:
            conn.execute(sa.update(rows).values(before))
    assert authentic()
    assert request_id


def test_old_request_is_over(database: Database) -> None:
    submit(database, "v1")
    with database.read() as conn:
        (request,) = release_requests.pending(conn)
    hour = 3_600_000_000
    assert [request.is_over(NOW + t) for t in (0, hour - 1, hour, -hour)] == [
        False, False, True, True,
    ]  # fmt: skip


def test_request_is_answered_once(database: Database) -> None:
    request_id = submit(database, "v1")
    assert answer(database, request_id) is None
    assert finish(database, request_id, RequestResult(ok=False, message="there is no v1"))
    assert not finish(database, request_id, RequestResult(ok=True, message="too late"))
    assert answer(database, request_id) == RequestResult(ok=False, message="there is no v1")
    with database.read() as conn:
        assert release_requests.pending(conn) == []


def test_success_is_told_when_its_snapshot_is_published(database: Database) -> None:
    request_id = submit(database, "v1")
    body = {"version": "v1", "epoch": 1, "snapshot": 5}
    finish(database, request_id, RequestResult(ok=True, message="done", body=body))
    assert answer(database, request_id) is None
    with database.begin() as conn:
        properties.put(conn, properties.PUBLISHED_SNAPSHOT, "4")
    assert answer(database, request_id) is None
    with database.begin() as conn:
        properties.put(conn, properties.PUBLISHED_SNAPSHOT, "5")
    assert answer(database, request_id) == RequestResult(ok=True, message="done", body=body)


def test_change_that_moved_nothing_is_told_at_once(database: Database) -> None:
    request_id = submit(database, "v1")
    body = {"version": "v1", "snapshot": None}
    finish(database, request_id, RequestResult(ok=True, message="serves already", body=body))
    found = answer(database, request_id)
    assert found is not None
    assert (found.ok, found.body) == (True, body)


def test_unknown_request_has_no_answer(database: Database) -> None:
    assert answer(database, "nobody asked") is None
    assert not finish(database, "nobody asked", RequestResult(ok=True, message=""))

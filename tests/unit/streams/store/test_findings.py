"""A change of a finding is stored and announced once, and only if it is newer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import loop
import msgspec
import pytest
import sqlalchemy as sa
from odd_names import ODD
from stream_rows import new_database
from structlog.testing import capture_logs

from redistill.streams.store.findings import announce, store_findings
from redistill.streams.store.tables import findings, outbox
from redistill.streams.wire.events import DeadLetter, DriftFound

NOW = loop.NOW


@pytest.fixture
def conn(database_url: str) -> Iterator[sa.Connection]:
    db = new_database(database_url)
    with db.begin() as conn:
        yield conn
    db.dispose()


def announced(conn: sa.Connection) -> list[tuple[str, str]]:
    rows = conn.execute(sa.select(outbox.c.topic, outbox.c.event_id).order_by(outbox.c.seq))
    return [(topic, event_id) for topic, event_id in rows]


def test_finding_is_a_row_with_its_last_word(conn: sa.Connection) -> None:
    found = loop.finding(scope="slice:region=EU")
    over = replace(found, status="resolved", severity="info", revision=2)
    assert store_findings(conn, [found, replace(found, revision=1), over], now=NOW + 5) == 3
    row = conn.execute(sa.select(findings)).one()
    assert (row.finding_id, row.model, row.version, row.kind, row.scope) == (
        str(found.finding_id), "credit", "v1", "accuracy", "slice:region=EU",
    )  # fmt: skip
    assert (row.status, row.severity, row.revision) == ("resolved", "info", 2)
    assert (row.opened_at, row.stored_at, row.intake_revision) == (NOW, NOW + 5, None)
    assert msgspec.json.decode(row.body, type=DriftFound) == over


@pytest.mark.parametrize("name", ODD)
def test_finding_about_a_feature_of_any_name_is_stored(conn: sa.Connection, name: str) -> None:
    found = loop.finding(scope=name)
    assert store_findings(conn, [found], now=NOW) == 1
    row = conn.execute(sa.select(findings)).one()
    assert row.scope == name
    assert msgspec.json.decode(row.body, type=DriftFound).scope == name


def test_revision_is_announced_once_under_an_id_that_follows_from_it(conn: sa.Connection) -> None:
    found = loop.finding()
    store_findings(conn, [found, replace(found, revision=1)], now=NOW)
    before = announced(conn)
    assert [topic for topic, _ in before] == ["drift", "drift"]
    assert len({event_id for _, event_id in before}) == 2
    assert store_findings(conn, [found, replace(found, revision=1)], now=NOW) == 0
    assert announced(conn) == before


def test_older_revision_changes_nothing(conn: sa.Connection) -> None:
    found = loop.finding(revision=4)
    assert store_findings(conn, [found], now=NOW) == 1
    assert store_findings(conn, [replace(found, revision=3, status="resolved")], now=NOW + 1) == 0
    row = conn.execute(sa.select(findings)).one()
    assert (row.status, row.revision, row.stored_at) == ("open", 4, NOW)


def test_finding_that_breaks_its_own_contract_is_told_and_stops_nobody(
    conn: sa.Connection,
) -> None:
    broken = replace(loop.finding(), reason="r" * 2_000_000)
    with capture_logs() as lines:
        assert store_findings(conn, [broken, loop.finding()], now=NOW) == 1
    (line,) = lines
    assert (line["action"], line["type"]) == ("not_announced", "DriftFound")
    assert len(announced(conn)) == 1


def test_dead_letter_is_announced_under_the_id_that_it_was_given(conn: sa.Connection) -> None:
    letter = DeadLetter(
        topic="predictions", partition=0, offset=7, reason="r", code="malformed",
        key=None, value=b"", value_bytes=0, at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    event_id = str(uuid4())
    assert announce(conn, letter, event_id, NOW)
    assert announced(conn) == [("dlq", event_id)]

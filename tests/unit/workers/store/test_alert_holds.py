from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import loop
import pytest
import sqlalchemy as sa
from loop import NOW

from redistill.streams.store.database import Database
from redistill.times import HOUR
from redistill.workers.store import alert_holds
from redistill.workers.store.alert_holds import Hold
from redistill.workers.store.tables import audit

KEY = "incident:7"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = loop.opened(f"sqlite:///{tmp_path / 'r.db'}")
    yield opened
    opened.dispose()


def test_hold_is_the_last_one_and_every_one_is_in_the_audit(database: Database) -> None:
    with database.begin() as conn:
        alert_holds.acknowledge(conn, KEY, subject="7", actor="cli:ann", now=NOW)
        assert alert_holds.read(conn) == {KEY: Hold(acknowledged_at=NOW, acknowledged_by="cli:ann")}
        alert_holds.snooze(conn, KEY, until=NOW + HOUR, subject="7", actor="cli:bob", now=NOW)
        assert alert_holds.read(conn) == {KEY: Hold(snoozed_until=NOW + HOUR, snoozed_by="cli:bob")}
        alert_holds.acknowledge(conn, "storm:1", subject="storm:1", actor="cli:ann", now=NOW)
        told = conn.execute(sa.select(audit.c.actor, audit.c.action, audit.c.subject)).all()
    assert [tuple(row) for row in told] == [
        ("cli:ann", "incident.acknowledged", "7"),
        ("cli:bob", "incident.snoozed", "7"),
        ("cli:ann", "alert.acknowledged", "storm:1"),
    ]


def test_cleared_hold_is_gone(database: Database) -> None:
    with database.begin() as conn:
        alert_holds.acknowledge(conn, KEY, subject="7", actor="cli:ann", now=NOW)
        alert_holds.clear(conn, KEY)
        assert alert_holds.read(conn) == {}

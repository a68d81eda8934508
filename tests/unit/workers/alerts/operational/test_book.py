"""Rows of operational alerts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import loop
import pytest
import sqlalchemy as sa

from redistill.streams.store.database import Database
from redistill.workers.alerts.operational import book
from redistill.workers.alerts.operational.book import AGAIN_US
from redistill.workers.alerts.operational.reading import Reading, settle
from redistill.workers.store.tables import operational_alerts

NOW = loop.NOW


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    database = loop.opened(database_url)
    yield database
    database.dispose()


def rows(db: Database) -> list[Any]:
    with db.read() as conn:
        return list(conn.execute(sa.select(operational_alerts).order_by("opened_at")))


def tell(db: Database, said: str, now: int, severity: str = "warn") -> bool:
    with db.begin() as conn:
        return book.open_alert(
            conn, "lag", "labels", severity=severity, said=said, remedy="do", now=now  # type: ignore[arg-type]
        )  # fmt: skip


def test_one_alert_is_open_for_a_kind_and_a_subject(db: Database) -> None:
    assert tell(db, "3 min", NOW)
    assert not tell(db, "4 min", NOW + 1)
    [row] = rows(db)
    assert (row.said, row.open_mark, row.resolved_at) == ("3 min", 1, None)
    with db.begin() as conn:
        assert book.opened(conn, "lag") == {"labels"}
        assert book.opened(conn, "gap") == set()
        assert book.resolve(conn, "lag", "labels", now=NOW + 2)
        assert not book.resolve(conn, "lag", "labels", now=NOW + 3)
    assert tell(db, "5 min", NOW + 4)
    first, second = rows(db)
    assert (first.resolved_at, first.open_mark) == (NOW + 2, None)
    assert first.alert_id != second.alert_id
    assert first.alert_id == book.alert_id("lag", "labels", NOW)


def test_what_moves_all_the_time_is_told_anew_once_an_hour(db: Database) -> None:
    tell(db, "3 min", NOW)
    tell(db, "40 min", NOW + AGAIN_US - 1)
    assert (rows(db)[0].said, rows(db)[0].updated_at) == ("3 min", NOW)
    tell(db, "60 min", NOW + AGAIN_US)
    assert (rows(db)[0].said, rows(db)[0].updated_at) == ("60 min", NOW + AGAIN_US)
    tell(db, "60 min", NOW + 3 * AGAIN_US)
    assert rows(db)[0].updated_at == NOW + AGAIN_US, "nothing has changed"
    tell(db, "61 min", NOW + AGAIN_US + 1, severity="page")
    assert (rows(db)[0].said, rows(db)[0].severity) == ("61 min", "page")


def test_an_alert_does_not_end_before_it_began(db: Database) -> None:
    tell(db, "3 min", NOW)
    with db.begin() as conn:
        assert book.resolve(conn, "lag", "labels", now=NOW - 5)
    assert [(row.opened_at, row.resolved_at) for row in rows(db)] == [(NOW, NOW)]


def test_what_was_decided_is_written_and_told(db: Database) -> None:
    def reading(subject: str, value: float) -> Reading:
        return Reading(subject=subject, value=value, opens=10, closes=5, said=f"{subject} late",
                       remedy="do", model=subject)  # fmt: skip

    def enter(*readings: Reading) -> tuple[list[str], list[str]]:
        with db.begin() as conn:
            settled = settle(readings, book.opened(conn, "no_data"))
            return book.enter(conn, "no_data", settled, severity="warn", now=NOW)

    assert enter(reading("a", 11), reading("b", 12), reading("c", 6)) == (["a", "b"], [])
    assert enter(reading("a", 6), reading("b", 5)) == ([], ["b"])
    assert [(r.subject, r.model, r.said, r.open_mark) for r in rows(db) if r.open_mark] == [
        ("a", "a", "a late", 1)
    ]

"""What is announced, and what may be sent: the rows alone, without a relay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from stream_rows import new_database

from redistill.streams.errors import WireError
from redistill.streams.store import outbox, properties
from redistill.streams.store.outbox import Backlog
from redistill.streams.store.tables import outbox as table
from redistill.streams.wire.events import DeadLetter, PointerMoved

NOW = 1_800_000_000_000_000
AT = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def conn(database_url: str) -> Iterator[sa.Connection]:
    db = new_database(database_url)
    with db.begin() as conn:
        yield conn
    db.dispose()


def pointer(model: str, epoch: int = 1, reason: str = "r") -> PointerMoved:
    return PointerMoved(
        model=model, stable="1", stable_sha256="0" * 64, epoch=epoch, reason=reason, at=AT
    )


def add(conn: sa.Connection, event: Any, **options: Any) -> str:
    return outbox.add(conn, event, source="/test", **({"now": NOW} | options))


def ready(conn: sa.Connection, limit: int = 10) -> list[str]:
    return [row["key"] for row in outbox.ready(conn, limit)]


def test_event_is_stored_as_it_will_be_sent(conn: sa.Connection) -> None:
    event_id = add(conn, pointer("credit", 7), event_id="e1", after_snapshot=3)
    row = conn.execute(sa.select(table)).one()
    assert (event_id, row.event_id, row.topic, row.key) == ("e1", "e1", "pointers", "credit")
    assert (row.after_snapshot, row.created_at, row.sent_at) == (3, NOW, None)
    assert json.loads(row.value)["epoch"] == 7
    headers = json.loads(row.headers)
    assert (headers["ce_id"], headers["ce_source"]) == ("e1", "/test")


def test_event_whose_number_is_taken_is_refused_and_not_dropped_in_silence(
    postgres_url: str,
) -> None:
    """As where a restored database has set its sequence back."""
    db = new_database(postgres_url)
    with db.begin() as conn:
        add(conn, pointer("credit"), event_id="e1")
        add(conn, pointer("credit"), event_id="e1")  # the same again is no second one
        conn.execute(sa.text("SELECT setval('outbox_seq_seq', 1, false)"))
    with pytest.raises(sa.exc.IntegrityError), db.begin() as conn:
        add(conn, pointer("credit"), event_id="e2")
    with db.read() as conn:
        assert ready(conn) == ["credit"]
    db.dispose()


@pytest.mark.parametrize("key", [b"\xff\xfe", b"\0\0\0\7", b"a\0b", None])
def test_dead_letter_goes_out_whatever_key_its_record_had(
    conn: sa.Connection, key: bytes | None
) -> None:
    letter = DeadLetter(
        topic="t", partition=0, offset=0, code="malformed", reason="", key=key, value=b"",
        value_bytes=0, at=AT,
    )  # fmt: skip
    add(conn, letter)
    (row,) = outbox.ready(conn, 10)
    assert row["key"] == ""
    assert msgspec.json.decode(row["value"], type=DeadLetter).key == key


def test_event_that_is_added_twice_under_one_id_is_one(conn: sa.Connection) -> None:
    add(conn, pointer("credit"), event_id="e1")
    add(conn, pointer("other"), event_id="e1")
    assert ready(conn) == ["credit"]
    assert add(conn, pointer("credit")) != add(conn, pointer("credit"))
    assert outbox.backlog(conn).rows == 3


def test_event_that_nobody_could_read_is_refused(conn: sa.Connection) -> None:
    with pytest.raises(WireError):
        add(conn, pointer("credit", reason="r" * 2_000_000))
    assert outbox.backlog(conn) == Backlog(0, None)


def test_backlog_counts_what_is_unsent_since_its_oldest(conn: sa.Connection) -> None:
    for i in (2, 1, 3):
        add(conn, pointer(f"m{i}"), now=NOW + i)
    assert outbox.backlog(conn) == Backlog(3, NOW + 1)
    outbox.mark_sent(conn, [row["seq"] for row in outbox.ready(conn, 2)], now=NOW + 9)
    assert outbox.backlog(conn) == Backlog(1, NOW + 3)


def test_row_that_was_sent_keeps_its_time(conn: sa.Connection) -> None:
    add(conn, pointer("credit"))
    (row,) = outbox.ready(conn, 1)
    outbox.mark_sent(conn, [row["seq"]], now=NOW + 1)
    outbox.mark_sent(conn, [row["seq"]], now=NOW + 2)
    outbox.mark_sent(conn, [], now=NOW + 3)
    assert conn.execute(sa.select(table.c.sent_at)).scalars().all() == [NOW + 1]
    assert ready(conn) == []


def test_rows_are_ready_in_the_order_in_which_they_were_added(conn: sa.Connection) -> None:
    for name in ("c", "a", "b"):
        add(conn, pointer(name))
    assert ready(conn) == ["c", "a", "b"]
    assert ready(conn, 2) == ["c", "a"]


def test_row_waits_for_its_snapshot_and_holds_back_only_its_key(conn: sa.Connection) -> None:
    add(conn, pointer("credit", 1), after_snapshot=1)
    add(conn, pointer("credit", 2), after_snapshot=2)
    add(conn, pointer("credit", 3))
    add(conn, pointer("fraud", 1))
    assert ready(conn) == ["fraud"]
    properties.put(conn, properties.PUBLISHED_SNAPSHOT, "1")
    assert ready(conn) == ["credit", "fraud"]
    properties.put(conn, properties.PUBLISHED_SNAPSHOT, "2")
    assert ready(conn) == ["credit", "credit", "credit", "fraud"]

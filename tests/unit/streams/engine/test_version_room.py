"""Versions that nobody registered are watched while there is room, later ones when they mean it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from stream_rows import new_database

from redistill.streams.engine.version_room import PROVEN_ROWS, VersionRoom
from redistill.streams.store import tables as t
from redistill.streams.store.batch import NameLimits
from redistill.streams.store.database import Database


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = new_database(f"sqlite:///{tmp_path / 'x.db'}")
    yield db
    db.dispose()


def seen(db: Database, version: str, rows: int) -> None:
    with db.begin() as conn:
        conn.execute(
            sa.insert(t.unregistered).values(
                model="m", version=version, rows=rows, first_seen_at=0, last_seen_at=0
            )
        )


def test_first_versions_have_room_and_keep_it(db: Database) -> None:
    room = VersionRoom(db, NameLimits(versions=2))
    assert [room.has("m", v) for v in "abca"] == [True, True, False, True]
    assert room.has("other", "c")


def test_version_that_is_meant_gets_in_and_one_of_a_few_rows_does_not(db: Database) -> None:
    room = VersionRoom(db, NameLimits(versions=1))
    assert [room.has("m", v) for v in ("a", "meant", "uuid")] == [True, False, False]
    seen(db, "meant", PROVEN_ROWS)
    seen(db, "uuid", PROVEN_ROWS - 1)
    with db.read() as conn:
        room.refresh(conn)
    assert [room.has("m", v) for v in ("a", "meant", "uuid")] == [True, True, False]


def test_versions_with_a_state_are_watched_by_the_next_worker_too(db: Database) -> None:
    with db.begin() as conn:
        conn.execute(
            sa.insert(t.input_states).values(
                model="m", version="a", topic_id="t", partition=0, state=b"", rows=1
            )
        )
        conn.execute(
            sa.insert(t.accuracy_states).values(model="m", version="b", state=b"", last_seq=1, n=1)
        )
    room = VersionRoom(db, NameLimits(versions=2))
    assert [room.has("m", v) for v in "cab"] == [False, True, True]
    room.clear()
    assert [room.has("m", v) for v in "cab"] == [False, True, True]

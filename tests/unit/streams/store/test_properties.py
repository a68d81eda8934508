from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from stream_rows import new_database

from redistill.streams.store import properties
from redistill.streams.store.database import Database


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    db = new_database(database_url)
    yield db
    db.dispose()


def test_property_is_none_until_it_is_put_and_the_newest_value_counts(db: Database) -> None:
    with db.begin() as conn:
        assert properties.get(conn, "colour") is None
        properties.put(conn, "colour", "red")
        properties.put(conn, "colour", "blue")
        properties.put(conn, "size", "1")
        assert properties.get(conn, "colour") == "blue"


def test_no_snapshot_was_published_before_the_first(db: Database) -> None:
    with db.begin() as conn:
        assert properties.published_snapshot(conn) == 0
        properties.put(conn, properties.PUBLISHED_SNAPSHOT, "17")
        assert properties.published_snapshot(conn) == 17


def test_salt_is_made_once_and_never_changes(db: Database) -> None:
    with db.begin() as conn:
        assert properties.salt(conn, make=lambda n: b"\x07" * n) == b"\x07" * 16
    with db.begin() as conn:
        assert properties.salt(conn, make=lambda n: b"\x08" * n) == b"\x07" * 16


def test_salt_of_the_process_that_was_first_counts(db: Database) -> None:
    def slowly(n: int) -> bytes:
        properties.put(conn, properties.SALT, (b"\x09" * n).hex())  # another one meanwhile
        return b"\x07" * n

    with db.begin() as conn:
        assert properties.salt(conn, make=slowly) == b"\x09" * 16


def test_salt_is_random(tmp_path: Path) -> None:
    salts = set()
    for name in ("a", "b"):
        db = new_database(f"sqlite:///{tmp_path / name}.db")
        with db.begin() as conn:
            salts.add(properties.salt(conn))
        db.dispose()
    assert {len(salt) for salt in salts} == {16}
    assert len(salts) == 2

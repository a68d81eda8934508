"""Names from the wire are stored as far as there is room; those seen last stay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from stream_rows import new_database

from redistill.streams.store import tables as t
from redistill.streams.store.batch import NameLimits, Unregistered
from redistill.streams.store.database import Database
from redistill.streams.store.unregistered_names import store_unregistered

LIMITS = NameLimits(new=100, unregistered=4, versions=3)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = new_database(f"sqlite:///{tmp_path / 'x.db'}")
    yield db
    db.dispose()


def store(db: Database, at: int, *names: tuple[str, str], sample: bytes | None = None) -> int:
    seen = {
        n: Unregistered(rows=2, first_seen_at=at, last_seen_at=at, sample=sample) for n in names
    }
    with db.begin() as conn:
        dropped = store_unregistered(conn, seen, LIMITS)
    assert dropped.rows >= 2 * dropped.names
    return dropped.names


def stored(db: Database) -> dict[tuple[str, str], tuple[int, int, int, bytes | None]]:
    with db.read() as conn:
        return {(r.model, r.version): tuple(r[2:]) for r in conn.execute(sa.select(t.unregistered))}  # type: ignore[misc]


def test_rows_add_up_and_the_first_time_and_the_sample_stay(db: Database) -> None:
    assert store(db, 5, ("m", "1"), sample=b"s") == 0
    assert store(db, 9, ("m", "1")) == 0
    assert stored(db) == {("m", "1"): (4, 5, 9, b"s")}


def test_those_not_seen_for_longest_go_where_there_are_too_many(db: Database) -> None:
    store(db, 1, ("real", "1"))
    for at in range(2, 9):
        assert store(db, at, (f"junk{at}", "1"), ("real", "1")) == (at > 4)
    assert set(stored(db)) == {("real", "1"), ("junk8", "1"), ("junk7", "1"), ("junk6", "1")}
    assert stored(db)["real", "1"][:2] == (16, 1)


def test_versions_of_one_model_are_bounded_and_other_models_stay(db: Database) -> None:
    store(db, 1, ("other", "1"))
    store(db, 2, *[("m", f"uuid-{i}") for i in range(9)])
    assert store(db, 3, ("m", "new")) == 1
    assert set(stored(db)) == {("other", "1"), ("m", "new"), ("m", "uuid-0"), ("m", "uuid-1")}


def test_nothing_seen_changes_nothing(db: Database) -> None:
    assert store(db, 1) == 0
    assert stored(db) == {}

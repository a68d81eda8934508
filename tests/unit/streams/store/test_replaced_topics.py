"""What nobody had read of a topic that was deleted and made again is a gap, said once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from stream_rows import new_database

from redistill.streams.store import tables as t
from redistill.streams.store.batch import Gap, Partition
from redistill.streams.store.database import Database
from redistill.streams.store.replaced_topics import close_replaced

NOW = 1_790_000_000_000_000
OLD = {
    "topic_id": "old", "partition": 0, "topic": "predictions", "first_offset": 0, "next_offset": 7,
    "counted": 5, "dead": 1, "skipped": 1, "rows": 5, "updated_at": 0, "log_end": 10,
}  # fmt: skip


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    made = new_database(database_url)
    with made.begin() as conn:
        conn.execute(sa.insert(t.offsets), [OLD, OLD | {"partition": 1, "log_end": 7}])
    yield made
    made.dispose()


def rows(db: Database, table: sa.Table) -> list[sa.Row[tuple[object, ...]]]:
    with db.read() as conn:
        return list(conn.execute(sa.select(table)))


def test_unread_records_of_a_replaced_topic_are_a_gap_once(db: Database) -> None:
    gap = Gap(partition=Partition("old", 0), topic="predictions", first=7, last=9)
    assert close_replaced(db, {"predictions": "new"}, now=NOW) == [gap]
    assert close_replaced(db, {"predictions": "new"}, now=NOW + 1) == []
    (found,) = rows(db, t.gaps)
    assert (found.topic_id, found.first, found.last, found.found_at) == ("old", 7, 9, NOW)
    closed = {r.partition: (r.next_offset, r.counted, r.skipped) for r in rows(db, t.offsets)}
    assert closed == {0: (10, 5, 4), 1: (7, 5, 1)}, "it adds up, and the other had nothing left"


@pytest.mark.parametrize("ids", [{"predictions": "old"}, {"labels": "new"}, {}])
def test_topic_that_is_there_or_away_is_left_alone(db: Database, ids: dict[str, str]) -> None:
    assert close_replaced(db, ids, now=NOW) == []
    assert rows(db, t.gaps) == []


def test_end_that_is_not_known_is_no_loss(db: Database) -> None:
    with db.begin() as conn:
        conn.execute(sa.update(t.offsets).values(log_end=None))
    assert close_replaced(db, {"predictions": "new"}, now=NOW) == []

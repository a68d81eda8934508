"""What a partition's row says of processes that died, on both databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from stream_rows import new_database

from redistill.streams.store.batch import FlushBatch, Flushed, Partition, Progress
from redistill.streams.store.database import Database
from redistill.streams.store.flush import flush
from redistill.streams.store.tables import offsets
from redistill.streams.store.tries import Mark, StoredOffset, mark, stored_offsets, take_back

P0, P1 = Partition("topic-id", 0), Partition("topic-id", 1)


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    db = new_database(database_url)
    for partition in (P0, P1):
        store(db, partition, 10)
    yield db
    db.dispose()


def store(
    db: Database, partition: Partition, end: int, expected: int | None = None, tries: int = 1
) -> None:
    progress = Progress(
        topic="predictions", expected=expected, first_offset=0, next_offset=end, tries=tries
    )
    done = flush(db, FlushBatch(progress={partition: progress}), now=1)
    assert isinstance(done, Flushed)


def stored(db: Database) -> dict[Partition, StoredOffset]:
    with db.read() as conn:
        return stored_offsets(conn, [P0, P1, Partition("nobody's", 0)])


def test_a_process_that_stored_is_counted_at_the_offset_to_which_it_moved(db: Database) -> None:
    assert stored(db) == {P0: StoredOffset(10, 1, None), P1: StoredOffset(10, 1, None)}
    store(db, P0, 12, expected=10, tries=3)
    assert stored(db)[P0] == StoredOffset(12, 3, None)


def test_a_flush_that_does_not_move_the_offset_leaves_its_tries(db: Database) -> None:
    mark(db, [Mark(P0, 10, 2, alone=False)])
    store(db, P0, 10, expected=10)
    assert stored(db)[P0] == StoredOffset(10, 2, None)


def test_a_mark_made_twice_counts_once(db: Database) -> None:
    for _ in range(2):  # as where the answer to a commit is lost
        assert mark(db, [Mark(P0, 10, 4, alone=True), Mark(P1, 10, 2, alone=False)]) == []
    assert stored(db) == {P0: StoredOffset(10, 4, 10), P1: StoredOffset(10, 2, None)}


def test_a_mark_of_a_process_that_is_counted_already_tells_only_what_is_alone(
    db: Database,
) -> None:
    mark(db, [Mark(P0, 10, None, alone=True)])
    assert stored(db)[P0] == StoredOffset(10, 1, 10)


def test_what_another_worker_moved_is_not_marked_and_told(db: Database) -> None:
    assert mark(db, [Mark(P1, 9, 2, alone=True), Mark(P0, 10, 2, alone=False)]) == [P1]
    assert stored(db) == {P0: StoredOffset(10, 2, None), P1: StoredOffset(10, 1, None)}


def test_leaving_in_order_is_no_death_and_touches_nobody_elses_tries(db: Database) -> None:
    take_back(db, {P0: 10, P1: 9})
    assert stored(db) == {P0: StoredOffset(10, 0, None), P1: StoredOffset(10, 1, None)}


def test_rows_from_before_know_of_no_death(db: Database) -> None:
    with db.begin() as conn:
        conn.execute(
            sa.insert(offsets).values(
                topic_id="old", partition=0, topic="t", first_offset=0, next_offset=7, counted=7,
                dead=0, skipped=0, rows=7, updated_at=1,
            )
        )  # fmt: skip
        old = Partition("old", 0)
        assert stored_offsets(conn, [old]) == {old: StoredOffset(7, 0, None)}

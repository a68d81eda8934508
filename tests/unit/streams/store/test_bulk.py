from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from stream_rows import new_database

from redistill.streams.store.bulk import insert_new
from redistill.streams.store.database import Database
from redistill.streams.store.tables import join_rows


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    db = new_database(database_url)
    yield db
    db.dispose()


def columns(*hashes: int, prediction: str = "repay") -> dict[str, list[object]]:
    """Values of join rows; "partition" and "window" are words of SQL."""
    n = len(hashes)
    return {
        "model": ["credit"] * n, "id_hash": list(hashes), "version": ["7"] * n,
        "prediction": [f"{prediction} {i}" for i in range(n)], "score": [0.5, None, 0.25][:n],
        "slices": [None] * n, "served_at": [2**50] * n, "topic_id": ["t"] * n, "partition": [3] * n,
        "window": [9] * n,
    }  # fmt: skip


def stored(db: Database) -> dict[int, sa.Row[tuple[object, ...]]]:
    with db.read() as conn:
        return {row.id_hash: row for row in conn.execute(sa.select(join_rows))}


def test_columns_of_one_value_are_written_in_every_row(db: Database) -> None:
    with db.begin() as conn:
        assert insert_new(conn, join_rows, columns(1, 2), same={"stored_at": 2**51}) == 2
    assert {row.stored_at for row in stored(db).values()} == {2**51}


def test_new_rows_are_counted_and_rows_that_are_there_stay(db: Database) -> None:
    with db.begin() as conn:
        assert insert_new(conn, join_rows, columns(1, 2)) == 2
        assert insert_new(conn, join_rows, columns(2, 3, prediction="default")) == 1
    rows = stored(db)
    assert {h: r.prediction for h, r in rows.items()} == {
        1: "repay 0", 2: "repay 1", 3: "default 1",
    }  # fmt: skip
    assert (rows[1].partition, rows[1].window, rows[1].served_at) == (3, 9, 2**50)
    assert (rows[1].score, rows[2].score) == (0.5, None)


def test_first_of_two_offered_rows_with_one_key_wins(db: Database) -> None:
    with db.begin() as conn:
        assert insert_new(conn, join_rows, columns(7, 7)) == 1
    assert stored(db)[7].prediction == "repay 0"


def test_nothing_is_inserted_of_no_rows(db: Database) -> None:
    with db.begin() as conn:
        assert insert_new(conn, join_rows, columns()) == 0


def test_columns_of_two_lengths_are_refused(db: Database) -> None:
    broken = columns(1, 2) | {"version": ["7"]}
    with pytest.raises(ValueError, match=r"columns of join_rows differ in length: \[1, 2\]"):  # noqa: SIM117
        with db.begin() as conn:
            insert_new(conn, join_rows, broken)
    assert stored(db) == {}

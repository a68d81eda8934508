"""Rows that are stored with their features, in the order in which they were served."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import sqlalchemy as sa
from stream_intake import StreamIntake
from stream_rows import CONFIG, new_database, prediction, watch

from redistill.streams.store import tables as t
from redistill.streams.store.database import Database
from redistill.streams.store.requestable_rows import newest, since_block, unlabelled


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    """Rows 20 to 29 came before rows 0 to 19."""
    made = new_database(database_url)
    watch(made)
    intake = StreamIntake(made)
    for rows in (range(20, 30), range(20)):
        intake.send(*map(prediction, rows))
    yield made
    made.dispose()


def test_newest_rows_are_those_served_last_however_they_came(db: Database) -> None:
    with db.read() as conn:
        found = newest(conn, "credit", "7", 15)
        assert found.ids == [f"row-{i}" for i in range(15, 30)]
        assert (np.diff(found.served_at) > 0).all()
        assert found.named(CONFIG.schema, None)[0] == prediction(15).features
        assert found.predictions[0] == prediction(15).prediction
        assert len(newest(conn, "credit", "8", 15)) == 0


def test_rows_of_later_blocks_are_told_once(db: Database) -> None:
    with db.read() as conn:
        first = int(conn.execute(sa.select(sa.func.min(t.feature_rows.c.block_id))).scalar_one())
        found, last = since_block(conn, "credit", "7", first)
        assert found.ids == [f"row-{i}" for i in range(20)]
        again, end = since_block(conn, "credit", "7", last)
        assert (len(again), end) == (0, last)


def test_rows_of_a_slice_are_those_of_their_segment_or_category(db: Database) -> None:
    with db.read() as conn:
        found = newest(conn, "credit", "7", 30).of_slice(conn, "credit", "region=US")
        assert found.ids == [f"row-{i}" for i in range(0, 30, 3)]


def test_rows_with_a_label_and_rows_asked_for_are_left_out(db: Database) -> None:
    with db.begin() as conn:
        rows = newest(conn, "credit", "7", 3)
        conn.execute(
            sa.insert(t.label_request_rows).values(
                model="credit", id_hash=int(rows.hashes[1]), request_id="r", id=rows.ids[1],
                served_at=0, asked_at=0,
            )
        )  # fmt: skip
        conn.execute(
            sa.insert(t.outcomes).values(
                model="credit", version="7", seq=1, id_hash=int(rows.hashes[2]), id=rows.ids[2],
                correct=1, prediction="a", served_at=0, observed_at=0, source="s", made_at=0,
            )
        )  # fmt: skip
        assert unlabelled(conn, "credit", rows).ids == rows.ids[:1]

"""Topics of bound sources that were read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from stream_rows import new_database

from redistill.streams.store.database import Database
from redistill.streams.store.label_topics import sources_read
from redistill.streams.store.tables import offsets


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    db = new_database(f"sqlite:///{tmp_path / 'x.db'}")
    yield db
    db.dispose()


def test_sources_are_those_whose_topic_in_this_namespace_was_counted(db: Database) -> None:
    topics = ["x.labels", "x.labels.ledger", "x.predictions", "labels.bank", "y.labels.other",
              "x.labels.a.b"]  # fmt: skip
    counts = dict.fromkeys(("first_offset", "next_offset", "counted", "dead", "skipped", "rows"), 0)
    with db.begin() as conn:
        for number, topic in enumerate(topics):
            row = {"topic_id": f"id-{topic}", "partition": number, "topic": topic, "updated_at": 0}
            conn.execute(sa.insert(offsets).values(row | counts))
        assert sources_read(conn, "x") == {"ledger"}
        assert sources_read(conn, "") == {"bank"}

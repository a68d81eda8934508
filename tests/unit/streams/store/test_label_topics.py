"""Topics of bound sources that were read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from stream_rows import CONFIG, new_database, watch

from redistill.streams.store.database import Database
from redistill.streams.store.label_topics import BoundSources, sources_read
from redistill.streams.store.tables import offsets, specs


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


def test_bound_sources_are_read_anew_where_a_specification_changed(db: Database) -> None:
    asked = BoundSources(db)
    assert asked.read() == frozenset()
    watch(db, replace(CONFIG, bound_sources=("ledger", "bank")))
    watch(db, replace(CONFIG, model="other", bound_sources=("bank", "desk")))
    assert asked.read() == {"ledger", "bank", "desk"}
    with db.begin() as conn:
        of_other = specs.c.model == "other"
        conn.execute(sa.update(specs).where(of_other).values(watch='{"of": "a newer program"}'))
    assert asked.read() == {"ledger", "bank", "desk"}, "no revision changed"
    watch(db, CONFIG)
    assert asked.read() == frozenset()

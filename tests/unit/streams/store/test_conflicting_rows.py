"""Ids that are used twice: which of the rows offered say something else than the stored one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from stream_rows import new_database

from redistill.streams.store import conflicting_rows
from redistill.streams.store.batch import FlushBatch, Flushed, JoinRows
from redistill.streams.store.database import Database
from redistill.streams.store.flush import flush
from redistill.streams.store.tables import counters

NOW = 1_000


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    made = new_database(database_url)
    yield made
    made.dispose()


def rows(*ids: int, **over: Any) -> JoinRows:
    made = JoinRows(
        id_hash=list(ids), version=["7"] * len(ids), prediction=["repay"] * len(ids),
        score=[0.75] * len(ids), slices=[None] * len(ids), served_at=[NOW] * len(ids),
        topic_id=["t"] * len(ids), partition=[0] * len(ids), window=[0] * len(ids),
        failed=[None] * len(ids), predicted_low=[None] * len(ids), predicted_high=[None] * len(ids),
    )  # fmt: skip
    for name, value in over.items():
        setattr(made, name, [value] * len(ids))
    return made


def offered(db: Database, *parts: JoinRows) -> int:
    """How many of the last part's rows differ from what was stored."""
    for part in parts:
        done = flush(db, FlushBatch(joins={"credit": part}), now=NOW)
    assert isinstance(done, Flushed)
    return done.conflicting


@pytest.mark.parametrize(
    ("change", "counted"),
    [
        ({}, 0),
        ({"partition": 3, "window": 9}, 0),  # where it stood says nothing
        ({"version": "8", "prediction": "default"}, 0),  # two versions answer one request
        ({"prediction": "default"}, 1),
        ({"score": 0.5}, 1),
        ({"score": None}, 1),
        ({"slices": '{"region": "EU"}'}, 1),
        ({"served_at": 7}, 1),
        ({"failed": "error"}, 1),
        ({"predicted_low": 0.0, "predicted_high": 1.0}, 1),
    ],
)
def test_second_row_with_an_id_is_counted_where_it_says_something_else(
    db: Database, change: dict[str, Any], counted: int
) -> None:
    assert offered(db, rows(1), rows(1, **change)) == counted
    with db.read() as conn:
        values = {r.name: r.value for r in conn.execute(sa.select(counters))}
    assert values["rows_duplicate"] == 1
    assert values.get("rows_conflicting", 0) == counted


def test_rows_of_one_flush_are_compared_with_the_first_of_them(db: Database) -> None:
    both = rows(1)
    for name in JoinRows.__slots__:
        getattr(both, name).extend(getattr(rows(1, prediction="default"), name))
    assert offered(db, both) == 1


def test_many_are_asked_for_in_pieces(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conflicting_rows, "PIECE", 3)
    assert offered(db, rows(*range(10)), rows(*range(11), prediction="default")) == 10

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import loop
import pyarrow as pa
import pytest
import sqlalchemy as sa
from loop import NOW
from served_rows import labelled, said

from redistill.streams.store.database import Database
from redistill.streams.store.tables import labels
from redistill.times import SECOND
from redistill.workers.jobs.second_labels import differed_before, with_second_labels
from redistill.workers.jobs.training_window import WindowQuery

QUERY = WindowQuery(
    model="credit", version="v1", features=("x",), salt="s", train_rows=10, since=NOW + 9 * SECOND
)
"""Rows 10 and later."""
CLASSES = ("repay", "default")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    labelled(opened, range(1, 21))  # the ledger: repay
    yield opened
    opened.dispose()


def superseded(database: Database) -> None:
    """What other sources said was looked at, and the ledger's word stood."""
    with database.begin() as conn:
        conn.execute(sa.update(labels).values(state="superseded"))


def second(database: Database, sources: tuple[str, ...] = ()) -> dict[int, str]:
    table = pa.table({"id_hash": list(range(1, 25))})
    with database.read() as conn:
        found = with_second_labels(conn, QUERY, sources, table)
    return {h: x for h, x in zip(*found.to_pydict().values(), strict=True) if x is not None}


def before(database: Database) -> tuple[int, int] | None:
    with database.read() as conn:
        return differed_before(conn, QUERY, (), CLASSES)


def test_rows_since_the_change_get_the_label_of_another_source(database: Database) -> None:
    said(database, range(8, 12), "analyst", "default")
    said(database, range(19, 23), "ledger", "default")  # the same source; and rows without a label
    superseded(database)
    assert second(database) == {10: "default", 11: "default"}
    assert before(database) == (2, 2)


def test_only_believed_sources_count_and_the_best_of_them(database: Database) -> None:
    said(database, range(10, 12), "stranger", "default")
    said(database, range(10, 12), "analyst", "repay")
    superseded(database)
    assert second(database, ("ledger", "analyst")) == {10: "repay", 11: "repay"}
    assert second(database, ("stranger", "analyst"))[10] == "default"
    with database.begin() as conn:
        conn.execute(sa.update(labels).values(state="ignored"))  # a source that is bound elsewhere
    assert second(database) == {}


def test_label_that_was_taken_back_says_nothing(database: Database) -> None:
    said(database, range(10, 12), "analyst", "default")
    said(database, range(10, 11), "analyst", "", op="retract")
    superseded(database)
    assert second(database) == {11: "default"}


def test_before_the_change_names_are_compared_and_nothing_is_known_without_one(
    database: Database,
) -> None:
    assert before(database) is None
    said(database, range(1, 4), "analyst", "default")
    said(database, range(4, 7), "analyst", "repay")
    superseded(database)
    assert before(database) == (3, 6)
    assert second(database) == {}
    with database.read() as conn:
        query = WindowQuery(model="credit", version="v1", features=(), salt="", train_rows=0, since=None)  # fmt: skip
        assert differed_before(conn, query, (), CLASSES) is None

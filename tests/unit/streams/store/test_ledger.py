"""Counters that are added up are kept: under no name where a stranger's would stay for ever."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from stream_rows import new_database, watch

from redistill.streams.store import ledger
from redistill.streams.store import tables as t
from redistill.streams.store.counters import add_counters
from redistill.streams.store.database import Database


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    made = new_database(database_url)
    watch(made)
    yield made
    made.dispose()


def test_counts_of_strangers_move_to_no_name(db: Database) -> None:
    with db.begin() as conn:
        for model in ("credit", "stranger", ""):
            add_counters(
                conn, {(model, "labels_unknown"): 3, (model, "outcomes_expired"): 1}, now=5
            )
        add_counters(conn, {("newcomer", "labels_unknown"): 2}, now=9)
        ledger.fold(conn, before=8)
        found = {(r.model, r.name): r.value for r in conn.execute(sa.select(t.counters))}
    assert found == {
        ("credit", "labels_unknown"): 3,
        ("credit", "outcomes_expired"): 1,
        ("stranger", "outcomes_expired"): 1,
        ("", "labels_unknown"): 6,
        ("", "outcomes_expired"): 1,
        ("newcomer", "labels_unknown"): 2,
    }


def row(**values: object) -> SimpleNamespace:
    return SimpleNamespace(**values)


@pytest.mark.parametrize(
    ("table", "rows", "counts"),
    [
        (t.outcomes, [row(seq=1), row(seq=2)], {"outcomes_expired": 2}),
        (t.input_states, [row(rows=5), row(rows=7)], {"state_rows_expired": 12}),
        (
            t.labels,
            [row(state="joined"), row(state="waiting"), row(state="orphan")],
            {"labels_expired": 3, "labels_decided_expired": 2},
        ),
        (
            t.outbox,
            [row(topic="drift"), row(topic="dlq"), row(topic="drift")],
            {"outbox_expired:drift": 2, "outbox_expired:dlq": 1},
        ),
    ],
)
def test_deleted_rows_are_counted_by_what_they_were(
    table: sa.Table, rows: list[SimpleNamespace], counts: dict[str, int]
) -> None:
    told = ledger.expired(table)
    assert told is not None
    column, count = told
    assert column.table is table
    assert count(rows) == counts


def test_other_tables_are_not_added_up() -> None:
    assert ledger.expired(t.findings) is None

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from stream_rows import new_database

from redistill.streams.store.counters import add_counters
from redistill.streams.store.tables import counters


@pytest.fixture
def conn(database_url: str) -> Iterator[sa.Connection]:
    db = new_database(database_url)
    with db.begin() as conn:
        yield conn
    db.dispose()


def stored(conn: sa.Connection) -> dict[tuple[str, str], int]:
    return {(r.model, r.name): r.value for r in conn.execute(sa.select(counters))}


def test_counts_add_up_by_model_and_name(conn: sa.Connection) -> None:
    add_counters(conn, {("credit", "a"): 2, ("", "a"): 1}, now=5)
    add_counters(conn, {("credit", "a"): 3, ("credit", "b"): 5}, now=5)
    assert stored(conn) == {("credit", "a"): 5, ("credit", "b"): 5, ("", "a"): 1}


def test_nothing_makes_no_counter(conn: sa.Connection) -> None:
    add_counters(conn, {("credit", "a"): 0}, now=5)
    assert stored(conn) == {}


def test_count_is_not_lost_when_another_transaction_makes_the_row(
    conn: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = conn.execute
    raced = []

    def meanwhile(statement: sa.Executable, *args: object) -> sa.CursorResult[object]:
        done = execute(statement, *args)
        if isinstance(statement, sa.Update) and not raced:
            raced.append(done.rowcount)
            execute(sa.insert(counters).values(model="credit", name="a", value=10))
        return done

    monkeypatch.setattr(conn, "execute", meanwhile)
    add_counters(conn, {("credit", "a"): 2}, now=5)
    assert raced == [0]
    assert stored(conn) == {("credit", "a"): 12}

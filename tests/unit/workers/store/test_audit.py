from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from redistill.streams.store.database import Database
from redistill.streams.store.tables import properties
from redistill.workers.settings.settings import Settings
from redistill.workers.store import audit, audit_chain, opening
from redistill.workers.store.tables import audit as table


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[Database]:
    settings = Settings.load({"database": database_url, "home": tmp_path})
    opening.upgrade(settings)
    database = opening.open(settings)
    yield database
    database.dispose()


def fill(database: Database, entries: int) -> None:
    for i in range(entries):
        with database.begin() as conn:
            audit.append(conn, "cli:test", "model.registered", f"m{i}", {"i": i}, i)


def problem(database: Database) -> str | None:
    with database.read() as conn:
        return audit_chain.verify(conn).problem


def test_an_empty_chain_verifies(database: Database) -> None:
    with database.read() as conn:
        assert audit_chain.verify(conn) == audit_chain.Verified(0, audit.GENESIS, None)


def test_entries_are_numbered_and_verify(database: Database) -> None:
    fill(database, 5)
    with database.read() as conn:
        verified = audit_chain.verify(conn)
        assert (verified.entries, verified.problem) == (5, None)
        assert conn.execute(sa.select(table.c.seq).order_by(table.c.seq)).scalars().all() == [
            1,
            2,
            3,
            4,
            5,
        ]


@pytest.mark.parametrize("column", ["actor", "action", "subject", "body"])
def test_a_changed_entry_breaks_the_chain(database: Database, column: str) -> None:
    fill(database, 3)
    with database.begin() as conn:
        conn.execute(sa.update(table).where(table.c.seq == 2).values({column: "forged"}))
    assert "audit entry 2 (" in str(problem(database))
    assert str(problem(database)).endswith("was changed")


def test_a_removed_entry_breaks_the_chain(database: Database) -> None:
    fill(database, 3)
    with database.begin() as conn:
        conn.execute(sa.delete(table).where(table.c.seq == 2))
    assert problem(database) == "audit entry 2 is missing"


def test_a_cut_end_is_seen(database: Database) -> None:
    fill(database, 3)
    with database.begin() as conn:
        conn.execute(sa.delete(table).where(table.c.seq == 3))
    assert problem(database) == "the chain ends at entry 2, its head says 3"


def test_a_lost_head_is_seen(database: Database) -> None:
    fill(database, 2)
    with database.begin() as conn:
        conn.execute(sa.delete(properties).where(properties.c.name == audit.HEAD))
    assert problem(database) == "the chain ends at entry 2, its head says 0"


def test_an_entry_goes_with_its_transaction(database: Database) -> None:
    fill(database, 1)

    def fail() -> None:
        with database.begin() as conn:
            audit.append(conn, "cli:test", "x", "y", None, 0)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with database.read() as conn:
        assert audit_chain.verify(conn).entries == 1


def test_concurrent_writers_make_one_chain(database: Database) -> None:
    failures: list[BaseException] = []

    def write(name: str) -> None:
        try:
            for i in range(20):
                with database.begin() as conn:
                    audit.append(conn, name, "x", str(i), None, i)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(f"w{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with database.read() as conn:
        verified = audit_chain.verify(conn)
    assert (verified.entries, verified.problem) == (80, None)

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import database_faults
import pytest
import sqlalchemy as sa
from waiting import eventually

from redistill.streams.errors import StoreUnavailable, StoreUnusable
from redistill.streams.store import database as module
from redistill.streams.store import properties
from redistill.streams.store.availability import Availability
from redistill.streams.store.database import connect, insert_ignore, upsert
from redistill.streams.store.store_fault import Fault, StoreFault
from redistill.streams.store.tables import counters, metadata, outbox


@pytest.fixture
def db(database_url: str) -> Iterator[module.Database]:
    db = connect(database_url)
    metadata.create_all(db.engine)
    yield db
    db.dispose()


def _put_and_fail(conn: sa.Connection) -> None:
    properties.put(conn, "a", "2")
    raise ZeroDivisionError


def test_begin_commits_and_rolls_back_on_an_exception(db: module.Database) -> None:
    with db.begin() as conn:
        properties.put(conn, "a", "1")
    with pytest.raises(ZeroDivisionError), db.begin() as conn:
        _put_and_fail(conn)
    with db.read() as conn:
        assert properties.get(conn, "a") == "1"
        assert properties.get(conn, "b") is None


def test_insert_ignore_keeps_the_first_row(db: module.Database) -> None:
    with db.begin() as conn:
        for value in (1, 2):
            conn.execute(insert_ignore(counters).values(model="m", name="n", value=value))
        assert conn.execute(sa.select(counters.c.value)).scalars().all() == [1]


def test_upsert_replaces_only_where_asked(db: module.Database) -> None:
    newer = upsert(
        counters,
        ["model", "name"],
        where=lambda offered: offered.value > counters.c.value,
    )
    with db.begin() as conn:
        for value in (1, 3, 2):
            conn.execute(newer, {"model": "m", "name": "n", "value": value})
        assert conn.execute(sa.select(counters.c.value)).scalars().all() == [3]


def test_salt_is_the_same_for_everybody(db: module.Database) -> None:
    with db.begin() as conn:
        first = properties.salt(conn, make=lambda n: b"a" * n)
    with db.begin() as conn:
        assert properties.salt(conn, make=lambda n: b"b" * n) == first == b"a" * 16


def test_growing_keys_are_given_by_both_dialects(db: module.Database) -> None:
    row = {
        "topic": "t", "key": "k", "headers": "{}", "value": b"v", "created_at": 2**50,
    }  # fmt: skip
    with db.begin() as conn:
        for i in range(3):
            conn.execute(sa.insert(outbox).values(event_id=str(i), **row))
        rows = conn.execute(sa.select(outbox.c.seq).order_by(outbox.c.event_id)).scalars().all()
    assert rows == sorted(rows)
    assert len(set(rows)) == 3


def test_missing_table_says_what_to_do(database_url: str) -> None:
    db = connect(database_url)
    with pytest.raises(StoreUnusable, match="redistill db upgrade"), db.read() as conn:
        properties.get(conn, "a")
    db.dispose()


def test_password_is_never_shown() -> None:
    db = connect("postgresql://ann:secret@127.0.0.1:1/x")
    assert "secret" not in repr(db)
    with pytest.raises(StoreUnavailable) as caught, db.begin():
        pass
    assert "secret" not in str(caught.value)
    assert "cannot be reached" in str(caught.value)


def test_wrong_password_and_missing_database_are_told_apart(postgres_url: str) -> None:
    url = sa.make_url(postgres_url)
    missing = connect(url.set(database="nowhere").render_as_string(hide_password=False))
    with pytest.raises(StoreUnusable, match="does not exist"), missing.begin():
        pass
    nobody = connect(url.set(username="nobody_here").render_as_string(hide_password=False))
    with pytest.raises(StoreUnusable, match="refused"), nobody.begin():
        pass


@pytest.mark.parametrize("url", ["sqlite://", "mysql://a/b", "what"])
def test_unusable_url_is_refused(url: str) -> None:
    with pytest.raises(StoreUnusable, match="sqlite:///"):
        connect(url)


def test_file_that_is_no_database_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"no database at all" * 100)
    with (
        pytest.raises(StoreUnusable, match="not an intact SQLite"),
        connect(f"sqlite:///{path}").begin(),
    ):
        pass


def test_missing_folder_is_said_so(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreUnavailable, match="cannot be reached or used: unable to open"),
        connect(f"sqlite:///{tmp_path}/no/such/x.db").begin(),
    ):
        pass


def test_locked_database_is_retriable_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.2)
    db = connect(f"sqlite:///{tmp_path}/x.db")
    metadata.create_all(db.engine)
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="kept it locked") as caught, db.begin() as conn:
        properties.put(conn, "a", "1")
    assert caught.value.retriable
    other.execute("ROLLBACK")
    other.close()
    eventually(lambda: not db.availability.refuses(writing=True))
    with db.begin() as conn:
        assert properties.get(conn, "a") is None


def test_writers_wait_for_each_other_and_none_is_lost(db: module.Database) -> None:
    def work() -> None:
        for _ in range(20):
            with db.begin() as conn:
                where = (counters.c.model == "m") & (counters.c.name == "n")
                value = conn.execute(
                    sa.select(counters.c.value).where(where).with_for_update()
                ).scalar_one()
                conn.execute(sa.update(counters).where(where).values(value=value + 1))

    with db.begin() as conn:
        conn.execute(sa.insert(counters).values(model="m", name="n", value=0))
    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    with db.read() as conn:
        assert conn.execute(sa.select(counters.c.value)).scalar_one() == 80


def test_checkpoint_truncates_the_wal(tmp_path: Path) -> None:
    db = connect(f"sqlite:///{tmp_path}/x.db")
    metadata.create_all(db.engine)
    keep = db.engine.connect()  # an open connection, or closing the last one removes the file
    keep.exec_driver_sql("SELECT 1").fetchall()
    keep.commit()
    with db.begin() as conn:
        properties.put(conn, "a", "1" * 100_000)
    wal = tmp_path / "x.db-wal"
    assert wal.stat().st_size > 100_000
    db.checkpoint()
    assert wal.stat().st_size == 0
    keep.close()


def test_while_it_is_held_open_the_wal_outlives_its_transactions(tmp_path: Path) -> None:
    db = connect(f"sqlite:///{tmp_path / 'held.db'}")
    metadata.create_all(db.engine)
    wal = tmp_path / "held.db-wal"

    def put(value: str) -> None:
        with db.begin() as conn:
            properties.put(conn, "a", value)

    put("1")
    assert not wal.exists()  # the last connection was closed: it went into the file
    with db.held_open():
        put("2")
        assert wal.stat().st_size > 0
        db.checkpoint()  # which no idle connection holds up
        assert wal.stat().st_size == 0
    assert not wal.exists()
    with db.read() as conn:
        assert properties.get(conn, "a") == "2"


def test_password_in_the_query_of_a_url_is_masked_as_any_other() -> None:
    database = connect("postgresql://host/name?user=ann&password=canary&sslmode=require")
    assert database.url.password == "canary"
    assert "canary" not in repr(database)
    assert "canary" not in database.url.render_as_string(hide_password=True)
    database.dispose()


def test_disk_that_was_full_is_not_believed_to_have_room_by_what_writes_nothing(
    db: module.Database,
) -> None:
    full = StoreFault(Fault.UNWRITABLE, "full")
    with db.availability.attempt(writing=True) as attempt:
        attempt.failed(full)
    eventually(lambda: not db.availability.refuses(writing=True))
    with db.begin() as conn:
        assert properties.get(conn, "a") is None
    assert db.availability.away
    with db.read() as conn:
        assert properties.get(conn, "a") is None
    assert db.availability.away
    with db.begin() as conn:
        properties.put(conn, "a", "1")
    assert not db.availability.away


def test_worker_waits_for_what_somebody_may_mend_and_a_command_does_not(
    database_url: str,
) -> None:
    db = connect(database_url)
    with pytest.raises(StoreUnusable, match="not up to date"), db.read() as conn:
        properties.get(conn, "a")
    db.wait_out()
    with pytest.raises(StoreUnavailable, match="not up to date"), db.read() as conn:
        properties.get(conn, "a")
    assert db.availability.away
    metadata.create_all(db.engine)
    eventually(lambda: not db.availability.refuses(writing=False))
    with db.read() as conn:
        assert properties.get(conn, "a") is None
    assert not db.availability.away
    db.dispose()


def test_unhurried_statement_has_more_time_and_the_next_one_has_not(postgres_url: str) -> None:
    db = connect(postgres_url)
    with db.unhurried().read() as conn:
        assert conn.exec_driver_sql("SHOW statement_timeout").scalar() == "1h"
    with db.read() as conn:
        assert conn.exec_driver_sql("SHOW statement_timeout").scalar() == "1min"
        assert conn.exec_driver_sql("SHOW lock_timeout").scalar() == "10s"
        shown = conn.exec_driver_sql("SHOW idle_in_transaction_session_timeout")
        assert shown.scalar() == "5min"
    db.dispose()


def test_sqlite_file_on_a_full_disk_is_read_waited_for_and_written_again(small_disk: Path) -> None:
    db = connect(f"sqlite:///{small_disk / 'redistill.db'}")
    metadata.create_all(db.engine)
    db.wait_out()
    with db.held_open():
        with database_faults.full(small_disk):
            with pytest.raises(StoreUnavailable, match="cannot be"), db.begin() as conn:
                properties.put(conn, "a", "x" * 1_000_000)
            with db.read() as conn:
                assert properties.get(conn, "a") is None
            db.availability = Availability()
            with contextlib.suppress(StoreUnavailable):  # and no error of another kind
                db.checkpoint()
        eventually(lambda: not db.availability.refuses(writing=True))
        with db.begin() as conn:
            properties.put(conn, "a", "1")
    assert not db.availability.away
    db.dispose()

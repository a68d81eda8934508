"""A server that hangs is told from one that works, on a real one."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import database_faults as faults
import postgres_server as postgres
import psycopg
import pytest
from waiting import eventually

from redistill.streams.store import bounded_connection as module
from redistill.streams.store.bounded_connection import BoundedConnection
from redistill.streams.store.waits import Waits


@pytest.fixture
def own_postgres(postgres_server: postgres.PostgresServer) -> Iterator[postgres.PostgresServer]:
    """One that may be stopped; the shared fixture skips where there is none."""
    folder = Path(tempfile.mkdtemp(prefix="redistill-postgres-"))
    server = postgres.PostgresServer(folder, durable=False)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


def connected(server: postgres.PostgresServer) -> BoundedConnection:
    return BoundedConnection.connect(
        f"postgresql://redistill@127.0.0.1:{server.port}/postgres", autocommit=True
    )


def test_server_that_hangs_is_left_and_the_connection_closed(
    own_postgres: postgres.PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.3)
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.5)
    mine = connected(own_postgres)
    with faults.frozen(own_postgres):
        with pytest.raises(psycopg.OperationalError, match="it hangs: no answer for"):
            mine.execute("SELECT 1")
        assert mine.closed
        with pytest.raises(psycopg.OperationalError, match="closed"):
            mine.execute("SELECT 1")  # at once: nobody waits a second time
    with connected(own_postgres) as again:
        assert again.execute("SELECT 1").fetchone() == (1,)


def test_statement_that_takes_long_is_waited_for_as_long_as_it_may(
    postgres_server: postgres.PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENT_SECONDS", 0.1)
    with connected(postgres_server) as mine:
        mine.execute("SELECT pg_sleep(0.6)")
        monkeypatch.setattr(module, "GRACE_SECONDS", 0.0)
        mine.allow(0.3)
        with pytest.raises(psycopg.OperationalError, match="no answer for 0 s"):
            mine.execute("SELECT pg_sleep(60)")


def test_waits_know_who_waits(postgres_server: postgres.PostgresServer) -> None:
    with connected(postgres_server) as mine:
        mine.waits = waits = Waits()
        assert waits.longest() == 0.0
        asked = threading.Thread(target=mine.execute, args=("SELECT pg_sleep(0.5)",))
        asked.start()
        eventually(lambda: waits.longest() > 0.05, every=0.01)
        asked.join()
        assert waits.longest() == 0.0
        with pytest.raises(psycopg.errors.DivisionByZero):
            mine.execute("SELECT 1 / 0")
        assert waits.longest() == 0.0

"""What a code of the database means for a worker."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import errors

from redistill.streams.store.store_fault import RESULTS, Fault, fault_of

POSTGRES = sa.make_url("postgresql+psycopg://ann:secret@db/x")
SQLITE = sa.make_url("sqlite:///x.db")


def fault(error: Exception, url: sa.URL = POSTGRES) -> Fault | None:
    wrapped = sa.exc.DBAPIError.instance("X", {}, error, Exception)
    assert isinstance(wrapped, sa.exc.DBAPIError)
    found = fault_of(wrapped, url)
    assert found is None or "secret" not in found.text
    return None if found is None else found.fault


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.TooManyConnections, Fault.AWAY),
        (errors.OutOfMemory, Fault.AWAY),
        (errors.AdminShutdown, Fault.AWAY),
        (errors.CrashShutdown, Fault.AWAY),
        (errors.CannotConnectNow, Fault.AWAY),
        (errors.DatabaseDropped, Fault.AWAY),
        (errors.ConnectionFailure, Fault.AWAY),
        (errors.IoError, Fault.AWAY),
        (errors.DiskFull, Fault.UNWRITABLE),
        (errors.ReadOnlySqlTransaction, Fault.UNWRITABLE),
        (errors.LockNotAvailable, Fault.BUSY),
        (errors.QueryCanceled, Fault.BUSY),
        (errors.SerializationFailure, Fault.BUSY),
        (errors.DeadlockDetected, Fault.BUSY),
        (errors.IdleInTransactionSessionTimeout, Fault.BUSY),
        (errors.UndefinedTable, Fault.UNUSABLE),
        (errors.UndefinedColumn, Fault.UNUSABLE),
        (errors.InvalidPassword, Fault.UNUSABLE),
        (errors.InvalidCatalogName, Fault.UNUSABLE),
        (errors.InsufficientPrivilege, Fault.UNUSABLE),
        (errors.DataCorrupted, Fault.UNUSABLE),
        (errors.UniqueViolation, None),
        (errors.SyntaxError, None),
        (errors.NumericValueOutOfRange, None),
    ],
)
def test_sqlstates_say_what_to_do(error: type[psycopg.Error], expected: Fault | None) -> None:
    assert fault(error("it said so")) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FATAL: sorry, too many clients already", Fault.AWAY),
        ("FATAL: remaining connection slots are reserved for roles with SUPERUSER", Fault.AWAY),
        ("FATAL: the database system is starting up", Fault.AWAY),
        ("connection timeout expired", Fault.AWAY),
        ("server closed the connection unexpectedly", Fault.AWAY),
        ('FATAL: database "x" does not exist', Fault.UNUSABLE),
        ('FATAL: password authentication failed for user "ann"', Fault.UNUSABLE),
        ("FATAL: no pg_hba.conf entry for host", Fault.UNUSABLE),
    ],
)
def test_while_connecting_there_is_a_sentence_only(text: str, expected: Fault) -> None:
    assert fault(psycopg.OperationalError(text)) is expected


def test_pool_without_a_free_connection_is_busy() -> None:
    found = fault_of(sa.exc.TimeoutError("QueuePool limit of size 5"), POSTGRES)
    assert found is not None
    assert found.fault is Fault.BUSY


def test_sqlite_says_it_by_name_with_its_extended_codes(tmp_path: Path) -> None:
    def named(name: str) -> sqlite3.OperationalError:
        error = sqlite3.OperationalError("so it is")
        error.sqlite_errorname = name
        return error

    assert fault(named("SQLITE_FULL"), SQLITE) is Fault.UNWRITABLE
    assert fault(named("SQLITE_IOERR_WRITE"), SQLITE) is Fault.AWAY
    assert fault(named("SQLITE_READONLY_DBMOVED"), SQLITE) is Fault.UNWRITABLE
    assert fault(named("SQLITE_BUSY_SNAPSHOT"), SQLITE) is Fault.UNWRITABLE
    assert fault(named("SQLITE_CONSTRAINT_UNIQUE"), SQLITE) is None
    for code in RESULTS:
        assert code.startswith("SQLITE_")
    other = sqlite3.connect(tmp_path / "x.db")
    with pytest.raises(sqlite3.OperationalError) as caught:
        other.execute("SELECT * FROM nowhere")
    other.close()
    assert fault(caught.value, SQLITE) is Fault.UNUSABLE

"""Database of both sides: SQLite by default, PostgreSQL in production, the same statements on both.

Every write goes through :meth:`Database.begin`. On SQLite that is ``BEGIN IMMEDIATE``: the one
writer is known from the first statement, so a transaction never fails half-way for having read
before it wrote. ``synchronous=FULL`` makes a commit survive a power cut too: what the relay
announced must not be forgotten afterwards, and a flush is so rare that the sync does not show.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from redistill.streams.errors import StoreUnavailable, StoreUnusable
from redistill.streams.store.availability import Attempt, Availability
from redistill.streams.store.clock import DatabaseClock
from redistill.streams.store.store_fault import Fault, fault_of
from redistill.streams.store.waits import (
    CONNECT_SECONDS,
    SILENT_SECONDS,
    STATEMENT_SECONDS,
    Waits,
)

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

    from redistill.streams.store.bounded_connection import BoundedConnection

__all__ = ["JOURNAL_BYTES", "Database", "connect", "insert_ignore", "upsert"]

BUSY_SECONDS = 10.0
"""How long SQLite waits for another writer: longer than any flush, shorter than a watchdog's
patience.
"""

JOURNAL_BYTES = 64 * 1024 * 1024
"""The WAL file is cut back to this after a checkpoint; without it the file keeps its largest size
for ever.
"""

LONG_STATEMENT_SECONDS = 3_600.0
"""For what looks at every row: retention, `check-history`, an upgrade."""

IDLE_SECONDS = 300.0
"""A transaction of ours in which nothing happens so long is ended by PostgreSQL, and its locks with
it: its process hangs, and others wait."""

POOL_SECONDS = 10.0
"""How long a thread waits for one of this process's connections."""

CHECKPOINT = "PRAGMA wal_checkpoint(TRUNCATE)"

_WRITE = "redistill_write"


class Database:
    """A database that both sides share. Make one per process with :func:`connect`; it is safe
    between threads.

    Attributes
    ----------
    url
        What it was opened with; the password is masked in ``repr``.
    engine
        SQLAlchemy's engine. Use :meth:`begin` and :meth:`read`: they map errors and begin as the
        dialect wants it.
    is_sqlite
        Whether this is SQLite: one writer at a time, no ``SKIP LOCKED``.
    clock
        The time that all processes share: what is stored or compared between them is taken from it.
    availability
        Whether it is there, as all threads of this process found.
    waits
        Threads that wait for an answer of PostgreSQL.
    """

    def __init__(
        self,
        engine: sa.Engine,
        *,
        waits: Waits,
        availability: Availability | None = None,
        clock: DatabaseClock | None = None,
        statement_seconds: float = STATEMENT_SECONDS,
    ) -> None:
        self.engine = engine
        self.url = engine.url
        self.is_sqlite = engine.dialect.name == "sqlite"
        self.clock = DatabaseClock(shared=not self.is_sqlite) if clock is None else clock
        self.waits = waits
        self.availability = Availability() if availability is None else availability
        self._statement_seconds = statement_seconds
        # without preserve_rowcount an INSERT on PostgreSQL does not say whether it inserted
        self._writer = engine.execution_options(**{_WRITE: True, "preserve_rowcount": True})

    def __repr__(self) -> str:
        return f"Database({self.url.render_as_string(hide_password=True)!r})"

    def unhurried(self) -> Database:
        """The same database, for statements that may take their time: what looks at every row."""
        return Database(
            self.engine,
            waits=self.waits,
            availability=self.availability,
            clock=self.clock,
            statement_seconds=LONG_STATEMENT_SECONDS,
        )

    def carrying(self, **options: Any) -> Database:
        """The same database, whose connections have these among their execution options: what a
        transaction needs far down (the audit key) and nobody in between should know of."""
        return Database(
            self.engine.execution_options(**options),
            waits=self.waits,
            availability=self.availability,
            clock=self.clock,
            statement_seconds=self._statement_seconds,
        )

    def wait_out(self) -> None:
        """From now on this process waits for whatever somebody may mend outside, a changed password
        too, and logs when the database goes away and comes back. For those that run on; called once
        they have found the database in order.
        """
        self.availability.say = _say

    def is_silent(self) -> bool:
        """Whether it is away, or somebody has been waiting for its answer for too long."""
        return self.availability.away or self.waits.longest() >= SILENT_SECONDS

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """A transaction that may write; committed at the end, rolled back by an exception.

        Raises
        ------
        StoreUnavailable
            The database is away, hangs, cannot be written, or stayed locked for longer than
            ``BUSY_SECONDS``. Nothing was written; only where the answer to the commit was lost may
            it have been, so whatever is tried again has to bear that.
        StoreUnusable
            Somebody has to do something first: a table or column is missing, the password is wrong.
            Never after :meth:`wait_out`.
        """
        with self._transaction(self._writer, writing=True) as conn:
            yield conn

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """For reading; keep it short: an open reader lets SQLite's WAL grow."""
        with self._transaction(self.engine, writing=False) as conn:
            yield conn

    @contextmanager
    def view(self) -> Iterator[sa.Connection]:
        """One moment for all statements, on PostgreSQL too: for what compares tables."""
        engine = self.engine
        if not self.is_sqlite:
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        with self._transaction(engine, writing=False) as conn:
            yield conn

    @contextmanager
    def _transaction(self, engine: sa.Engine, *, writing: bool) -> Iterator[sa.Connection]:
        with self.availability.attempt(writing=writing) as attempt, self._mapped(attempt, writing):
            with engine.begin() as conn:
                self._allow(conn)
                attempt.reached()
                self.clock.look(conn)
                yield conn
                # one that changed nothing proves nothing of a disk that was full
                wrote = writing and (not self.availability.away or self._changed(conn))
            attempt.done(writing=wrote)

    def _changed(self, conn: sa.Connection) -> bool:
        if not self.is_sqlite:
            asked = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL"
            return bool(conn.exec_driver_sql(asked).scalar())
        raw: Any = conn.connection.dbapi_connection  # one of this transaction only
        return raw is None or raw.total_changes > 0

    def _allow(self, conn: sa.Connection) -> None:
        """Say how long a statement may take, to both sides, where it is not what they know."""
        if self.is_sqlite:
            return
        raw: Any = conn.connection.dbapi_connection  # made by ``connect``
        raw.allow(self._statement_seconds)
        if self._statement_seconds != STATEMENT_SECONDS:
            milliseconds = round(self._statement_seconds * 1_000)
            conn.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}")

    def checkpoint(self) -> None:
        """Move SQLite's WAL into the file and truncate it; nothing to do elsewhere."""
        if self.is_sqlite:
            with (
                self.availability.attempt(writing=True) as attempt,
                self._mapped(attempt, writing=True),
                self.engine.connect() as conn,
            ):
                raw: Any = conn.connection.dbapi_connection  # by itself: not in a transaction
                try:
                    raw.execute(CHECKPOINT).fetchall()
                except sqlite3.Error as error:
                    raise sa.exc.DBAPIError(CHECKPOINT, {}, error) from error

    @contextmanager
    def held_open(self) -> Iterator[None]:
        """Keep an idle connection to SQLite: closing the last one of all moves the whole WAL into
        the file, some 7 ms for a process that comes back twice a second. Not across a fork.
        """
        if not self.is_sqlite:
            yield
            return
        with (
            self.availability.attempt(writing=False) as attempt,
            self._mapped(attempt, writing=False),
        ):
            idle = self.engine.connect()
        try:
            yield
        finally:
            idle.close()

    def dispose(self) -> None:
        """Close all idle connections."""
        self.engine.dispose()

    @contextmanager
    def _mapped(self, attempt: Attempt, writing: bool) -> Iterator[None]:
        try:
            yield
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            found = fault_of(error, self.url)
            if found is None:
                raise
            if found.fault is Fault.UNWRITABLE and not writing:
                found = found._replace(fault=Fault.AWAY)
            if found.fault is Fault.UNUSABLE and self.availability.say is None:
                raise StoreUnusable(found.text) from error
            attempt.failed(found)
            raise StoreUnavailable(found.text) from error


def _say(action: str, fields: Mapping[str, Any]) -> None:
    import structlog  # a command that only lists says nothing by it

    structlog.get_logger(__name__).log(
        logging.INFO if action == "store_back" else logging.WARNING, action, action=action, **fields
    )


def connect(url: str) -> Database:
    """Open a database by its SQLAlchemy URL. Nothing is sent before the first transaction.

    Parameters
    ----------
    url
        ``sqlite:///path/to/file.db`` or ``postgresql://user:password@host/name`` (the driver is
        psycopg 3).

    Raises
    ------
    StoreUnusable
        The URL cannot be read, or names another kind of database.

    Examples
    --------
    >>> db = connect("sqlite:///:memory:")
    Traceback (most recent call last):
    ...
    redistill.streams.errors.StoreUnusable: an in-memory SQLite cannot be shared; name a file:
    sqlite:///redistill.db
    """
    try:
        parsed = _masked(sa.make_url(url))
    except sa.exc.ArgumentError as error:
        raise StoreUnusable(
            "the database URL cannot be read; it looks like sqlite:///file.db"
        ) from error
    if parsed.get_backend_name() == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise StoreUnusable(
                "an in-memory SQLite cannot be shared; name a file: sqlite:///redistill.db"
            )
        # A connection per transaction: it costs 60 us, and no idle connection survives a fork or
        # pins the WAL.
        engine = sa.create_engine(
            parsed,
            poolclass=NullPool,
            connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False},
        )
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
        return Database(engine, waits=Waits())
    if parsed.get_backend_name() == "postgresql":
        if parsed.drivername != "postgresql+psycopg":
            parsed = parsed.set(drivername="postgresql+psycopg")
        engine = sa.create_engine(
            parsed,
            pool_pre_ping=True,
            pool_size=5,
            max_overflow=5,
            pool_timeout=POOL_SECONDS,
            connect_args={
                "connect_timeout": CONNECT_SECONDS,
                # A statement that waits longer than this for a lock is told so, as on SQLite.
                "options": f"-c lock_timeout={round(BUSY_SECONDS * 1_000)}"
                f" -c statement_timeout={round(STATEMENT_SECONDS * 1_000)}"
                f" -c idle_in_transaction_session_timeout={round(IDLE_SECONDS * 1_000)}"
                " -c timezone=UTC",
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
            },
        )
        waits = Waits()
        from redistill.streams.store.bounded_connection import BoundedConnection

        @sa.event.listens_for(engine, "do_connect")
        def bounded(_: Any, __: Any, args: Any, settings: Any) -> BoundedConnection:
            made = BoundedConnection.connect(*args, **settings)
            made.waits = waits
            return made

        return Database(engine, waits=waits)
    raise StoreUnusable(
        f"{parsed.get_backend_name()} is not supported: use sqlite:///file.db or postgresql://..."
    )


def _masked(url: sa.URL) -> sa.URL:
    """A URL whose password stands where SQLAlchemy masks it, not in the query."""
    password = url.query.get("password")
    if not isinstance(password, str):
        return url
    return url.difference_update_query(["password"]).set(password=password)


def _prepare_sqlite(raw: Any, _record: Any) -> None:
    raw.isolation_level = (
        None  # the driver must not begin transactions of its own: _begin_sqlite does
    )
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"journal_size_limit={JOURNAL_BYTES}",
        "temp_store=MEMORY",
        "cache_size=-16000",
    ):
        raw.execute(f"PRAGMA {pragma}")


def _begin_sqlite(conn: sa.Connection) -> None:
    conn.exec_driver_sql("BEGIN IMMEDIATE" if conn.get_execution_options().get(_WRITE) else "BEGIN")


def insert_ignore(table: sa.Table) -> postgresql.Insert:
    """``INSERT`` that leaves a row alone whose key is there already, for both dialects.

    PostgreSQL's construct is used for both: it carries everything that SQLite's compiler asks for.

    Examples
    --------
    >>> from redistill.streams.store.tables import properties
    >>> print(insert_ignore(properties))
    INSERT INTO facts (name, value) VALUES (...) ON CONFLICT DO NOTHING
    """
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table).on_conflict_do_nothing()


def upsert(
    table: sa.Table,
    keys: Sequence[str],
    *,
    update: Sequence[str] | None = None,
    where: Callable[[Any], sa.ColumnElement[bool]] | None = None,
) -> postgresql.Insert:
    """``INSERT`` that replaces the row with the same key, for both dialects.

    Parameters
    ----------
    table
        Where to.
    keys
        Columns of the unique key.
    update
        Columns to replace; ``None``: all but the keys.
    where
        Given the row that was offered (``excluded``), the condition under which the old one is
        replaced.

    Examples
    --------
    >>> from redistill.streams.store.tables import properties
    >>> print(upsert(properties, ["name"]))
    INSERT INTO facts (name, value) VALUES (...)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value
    """
    from sqlalchemy.dialects import postgresql

    statement = postgresql.insert(table)
    names = update if update is not None else [c.name for c in table.c if c.name not in keys]
    return statement.on_conflict_do_update(
        index_elements=list(keys),
        set_={name: statement.excluded[name] for name in names},
        where=where(statement.excluded) if where is not None else None,
    )

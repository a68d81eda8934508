"""Database of both sides: SQLite by default, PostgreSQL in production, the same statements on both.

Every write goes through :meth:`Database.begin`. On SQLite that is ``BEGIN IMMEDIATE``: the one
writer is known from the first statement, so a transaction never fails half-way for having read
before it wrote. ``synchronous=FULL`` makes a commit survive a power cut too: what the relay
announced must not be forgotten afterwards, and a flush is so rare that the sync does not show.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.pool import NullPool

from redistill.streams.errors import StoreUnavailable, StoreUnusable

__all__ = ["JOURNAL_BYTES", "Database", "connect", "insert_ignore", "upsert"]

BUSY_SECONDS = 10.0
"""How long SQLite waits for another writer: longer than any flush, shorter than a watchdog's
patience.
"""

JOURNAL_BYTES = 64 * 1024 * 1024
"""The WAL file is cut back to this after a checkpoint; without it the file keeps its largest size
for ever.
"""

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
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self.url = engine.url
        self.is_sqlite = engine.dialect.name == "sqlite"
        # without preserve_rowcount an INSERT on PostgreSQL does not say whether it inserted
        self._writer = engine.execution_options(**{_WRITE: True, "preserve_rowcount": True})

    def __repr__(self) -> str:
        return f"Database({self.url.render_as_string(hide_password=True)!r})"

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """A transaction that may write; committed at the end, rolled back by an exception.

        Raises
        ------
        StoreUnavailable
            The database is away, or stayed locked for longer than ``BUSY_SECONDS``; nothing was
            written.
        StoreUnusable
            A table or column is missing: the database was not upgraded.
        """
        with self._mapped(), self._writer.begin() as conn:
            yield conn

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A consistent view for reading; keep it short: an open reader lets SQLite's WAL grow."""
        with self._mapped(), self.engine.begin() as conn:
            yield conn

    def checkpoint(self) -> None:
        """Move SQLite's WAL into the file and truncate it; nothing to do elsewhere."""
        if self.is_sqlite:
            with self._mapped(), self.engine.connect() as conn:
                raw = conn.connection.dbapi_connection
                if raw is not None:
                    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    @contextmanager
    def held_open(self) -> Iterator[None]:
        """Keep an idle connection to SQLite: closing the last one of all moves the whole WAL into
        the file, some 7 ms for a process that comes back twice a second. Not across a fork.
        """
        if not self.is_sqlite:
            yield
            return
        with self._mapped():
            idle = self.engine.connect()
        try:
            yield
        finally:
            idle.close()

    def dispose(self) -> None:
        """Close all idle connections."""
        self.engine.dispose()

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            mapped = self._explain(error)
            if mapped is None:
                raise
            raise mapped from error

    def _explain(self, error: sa.exc.DBAPIError) -> StoreUnavailable | StoreUnusable | None:
        text = str(error.orig).strip().replace("\n", " ")
        url = self.url.render_as_string(hide_password=True)
        if self.is_sqlite:
            if "is locked" in text or "is busy" in text:
                return StoreUnavailable(
                    f"another process kept {url} locked for {BUSY_SECONDS:.0f} s"
                )
            if "unable to open" in text or "disk I/O" in text or "disk is full" in text:
                return StoreUnavailable(f"the database {url} cannot be used: {text}")
            if "readonly" in text:
                return StoreUnusable(f"the database {url} may not be written: {text}")
            if "not a database" in text or "malformed" in text:
                return StoreUnusable(f"{url} is not an intact SQLite database: {text}")
            if "no such table" in text or "no such column" in text or "no column named" in text:
                return StoreUnusable(f"the database {url} is not up to date ({text}); {UPGRADE}")
            return None
        state = getattr(error.orig, "sqlstate", None) or ""
        if state in ("42P01", "42703"):  # undefined table, undefined column
            first = text.split(" LINE ")[0]
            return StoreUnusable(f"the database {url} is not up to date ({first}); {UPGRADE}")
        if isinstance(error, sa.exc.OperationalError) or error.connection_invalidated:
            # libpq gives no code for what the server said while connecting, only its text
            if re.search(r'database "[^"]*" does not exist', text):
                return StoreUnusable(f"the database {url} does not exist: create it first")
            if re.search(r"authentication failed|role .* does not exist|no pg_hba.conf", text):
                return StoreUnusable(f"the database {url} refused the user or password: {text}")
            return StoreUnavailable(f"the database {url} cannot be reached or was busy: {text}")
        return None


UPGRADE = "run `redistill db upgrade`"


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
        parsed = sa.make_url(url)
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
        return Database(engine)
    if parsed.get_backend_name() == "postgresql":
        if parsed.drivername != "postgresql+psycopg":
            parsed = parsed.set(drivername="postgresql+psycopg")
        engine = sa.create_engine(
            parsed,
            pool_pre_ping=True,
            pool_size=5,
            max_overflow=5,
            connect_args={
                "connect_timeout": 5,
                # A statement that waits longer than this for a lock is told so, as on SQLite.
                "options": f"-c lock_timeout={int(BUSY_SECONDS * 1000)} -c timezone=UTC",
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
            },
        )
        return Database(engine)
    raise StoreUnusable(
        f"{parsed.get_backend_name()} is not supported: use sqlite:///file.db or postgresql://..."
    )


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
    statement = postgresql.insert(table)
    names = update if update is not None else [c.name for c in table.c if c.name not in keys]
    return statement.on_conflict_do_update(
        index_elements=list(keys),
        set_={name: statement.excluded[name] for name in names},
        where=where(statement.excluded) if where is not None else None,
    )

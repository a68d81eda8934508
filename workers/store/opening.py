"""Opening the database: is it there, is it ours, is it of this program's revision?

A SQLite file that does not exist yet is made on the spot, so that the first command just works.
Anything else is changed only by ``redistill db upgrade``: an upgrade of a shared database is a
person's decision. An upgrade is one transaction under one lock, so that two at once do it once, and
a killed one leaves what was there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from redistill.modes import private_folder
from redistill.streams.errors import StreamsError
from redistill.streams.store.database import Database, connect
from redistill.workers.errors import DatabaseError
from redistill.workers.settings.settings import Settings
from redistill.workers.store import audit_key

__all__ = [
    "HEAD",
    "REVISIONS",
    "Upgraded",
    "check",
    "missing",
    "open",
    "open_unchanged",
    "revision",
    "upgrade",
]

REVISIONS = tuple(f"{number:04}" for number in range(1, 14))
"""Every revision, oldest first (a test compares them with the scripts: Alembic costs .5 s)."""

HEAD = REVISIONS[-1]

UPGRADE_LOCK = 0x7265_6469_7374  # "redist", a key of PostgreSQL's advisory locks
UPGRADE_WAIT = "60s"
"""How long one upgrade waits for another: longer than a migration of a database of usual size."""


@dataclass(frozen=True, slots=True)
class Upgraded:
    """What an upgrade did."""

    before: str | None
    """Revision that was found; ``None``: an empty database."""
    after: str

    @property
    def changed(self) -> bool:
        """Whether anything was done."""
        return self.before != self.after


def open(settings: Settings) -> Database:
    """Open the database of the settings, checked; a SQLite file that is not there is made. It
    carries the audit key, which is read when somebody writes what needs it.

    Raises
    ------
    DatabaseError
        It is away, locked, not ours, newer than this program, or has to be upgraded first.
    """
    with _connected(settings) as (database, stored):
        if stored is None and database.is_sqlite:
            stored = _migrate(database).after
        check(stored, database)
    return database


def open_unchanged(settings: Settings) -> Database:
    """The same for who only looks: nothing is made, and an empty file is told as such.

    Raises
    ------
    DatabaseError
    """
    with _connected(settings) as (database, stored):
        check(stored, database)
    return database


@contextmanager
def _connected(settings: Settings) -> Iterator[tuple[Database, str | None]]:
    """The database and its revision; closed where anything is wrong."""
    database = audit_key.with_key(_connect(settings), settings.audit_key_path)
    try:
        with _as_database_errors():
            with database.read() as conn:
                stored = revision(conn)
            yield database, stored
    except BaseException:
        database.dispose()
        raise


def missing(settings: Settings) -> Path | None:
    """The SQLite file of the settings if it is not there, for commands that only read and make
    none."""
    with _as_database_errors():
        url = connect(settings.database_url).url
    if url.get_backend_name() != "sqlite" or url.database is None:
        return None
    file = Path(url.database)
    return None if file.exists() else file


def upgrade(settings: Settings) -> Upgraded:
    """Create or upgrade the database; safe to call from several processes at once.

    Raises
    ------
    DatabaseError
        It is away, locked, not ours, or newer than this program.
    """
    database = _connect(settings)
    try:
        with _as_database_errors():
            return _migrate(database)
    finally:
        database.dispose()


def revision(conn: sa.Connection) -> str | None:
    """The revision that the database says it has; ``None``: it is empty.

    Raises
    ------
    DatabaseError
        It holds our tables, but no revision.
    """
    inspector = sa.inspect(conn)
    if not inspector.has_table("alembic_version"):
        if inspector.has_table("specs"):
            raise DatabaseError(
                "the database has redistill's tables but no revision: it was not made by"
                " `redistill db upgrade`; use another database, or restore a backup"
            )
        return None
    return conn.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def check(stored: str | None, database: Database) -> None:
    """Compare a revision with this program's.

    Raises
    ------
    DatabaseError
        They differ; the message says what to do.
    """
    url = database.url.render_as_string(hide_password=True)
    if stored is None:
        raise DatabaseError(f"the database {url} is empty: run `redistill db upgrade` once")
    if stored not in REVISIONS:
        raise DatabaseError(
            f"the database {url} is newer than this program: it has revision {stored}, the newest"
            f" known here is {HEAD}; install the newer redistill (nothing was changed)"
        )
    if stored != HEAD:
        raise DatabaseError(
            f"the database {url} has revision {stored}, this program needs {HEAD}:"
            " stop the workers, make a backup and run `redistill db upgrade`"
        )


def _connect(settings: Settings) -> Database:
    with _as_database_errors():
        database = connect(settings.database_url)
    if database.is_sqlite and database.url.database is not None:
        folder = Path(database.url.database).parent
        try:
            private_folder(folder)
        except OSError as error:
            raise DatabaseError(f"the folder {folder} cannot be made: {error.strerror}") from error
    return database


@contextmanager
def _as_database_errors() -> Iterator[None]:
    """Errors of the store are errors of the database to whoever gave the command."""
    try:
        yield
    except StreamsError as error:
        raised = DatabaseError(str(error))
        raised.retriable = error.retriable
        raise raised from error


def _migrate(database: Database) -> Upgraded:
    # Alembic is imported here: most commands never need it.
    from alembic import command
    from alembic.config import Config

    # It speaks of "non-transactional DDL", which is not so here, and of every table.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with database.unhurried().begin() as conn:  # on SQLite this is the lock already
        if not database.is_sqlite:
            conn.execute(sa.text(f"SET LOCAL lock_timeout = '{UPGRADE_WAIT}'"))
            conn.execute(sa.select(sa.func.pg_advisory_xact_lock(UPGRADE_LOCK)))
        before = revision(conn)
        if before is not None and before not in REVISIONS:
            check(before, database)
        if before != HEAD:
            config = Config()
            config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
            config.attributes["connection"] = conn
            command.upgrade(config, "head")
    return Upgraded(before, HEAD)

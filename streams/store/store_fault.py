"""Faults of a database, told apart: who has to do with one, and whether it passes by itself.

A database says what is wrong by a code (PostgreSQL's ``SQLSTATE``, SQLite's result code). While a
connection is made there is none: libpq hands on the server's sentence only.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

import sqlalchemy as sa

__all__ = ["Fault", "StoreFault", "fault_of"]


class Fault(Enum):
    """What a fault means for those who want something of the database."""

    AWAY = "away"
    """Nobody is answered: it is down, hangs, takes no connections, or its disk fails."""
    UNWRITABLE = "unwritable"
    """Who reads is answered, nothing can be written: a full disk, a standby, one writer's lock."""
    BUSY = "busy"
    """This transaction failed and the next may not: a lock that others hold, a deadlock."""
    UNUSABLE = "unusable"
    """Somebody has to do something: another password, ``db upgrade``, a backup."""


class StoreFault(NamedTuple):
    """One fault."""

    fault: Fault
    text: str
    """What is wrong, for a person; no password."""


UPGRADE = "run `redistill db upgrade`"

STATES: dict[str, Fault] = {
    "08": Fault.AWAY,  # connection exception
    "25006": Fault.UNWRITABLE,  # read_only_sql_transaction: a standby, or somebody's setting
    "25P03": Fault.BUSY,  # idle_in_transaction_session_timeout: we were held up
    "25P04": Fault.BUSY,  # transaction_timeout
    "28": Fault.UNUSABLE,  # invalid authorization
    "3D000": Fault.UNUSABLE,  # no such database
    "3F000": Fault.UNUSABLE,  # no such schema
    "40": Fault.BUSY,  # serialization failure, deadlock
    "42501": Fault.UNUSABLE,  # insufficient privilege
    "42P01": Fault.UNUSABLE,  # undefined table
    "42703": Fault.UNUSABLE,  # undefined column
    "53": Fault.AWAY,  # too_many_connections, out_of_memory, configuration_limit_exceeded
    "53100": Fault.UNWRITABLE,  # disk_full
    "55P03": Fault.BUSY,  # lock_not_available
    "57": Fault.AWAY,  # admin_shutdown, crash_shutdown, cannot_connect_now, database_dropped
    "57014": Fault.BUSY,  # query_canceled: it took too long, or somebody ended it
    "58": Fault.AWAY,  # system_error, io_error: the server's disk
    "XX": Fault.UNUSABLE,  # internal_error, data_corrupted, index_corrupted
}
"""By ``SQLSTATE`` or its class (https://www.postgresql.org/docs/current/errcodes-appendix.html);
the longer one wins. What is not here (syntax, a constraint, a value) is our own mistake."""

RESULTS: dict[str, Fault] = {
    "SQLITE_BUSY": Fault.UNWRITABLE,
    "SQLITE_LOCKED": Fault.BUSY,
    "SQLITE_FULL": Fault.UNWRITABLE,
    "SQLITE_READONLY": Fault.UNWRITABLE,
    "SQLITE_IOERR": Fault.AWAY,
    "SQLITE_CANTOPEN": Fault.AWAY,
    "SQLITE_NOMEM": Fault.AWAY,
    "SQLITE_PROTOCOL": Fault.AWAY,  # locks that do not work, as on a network share
    "SQLITE_PERM": Fault.UNUSABLE,
    "SQLITE_AUTH": Fault.UNUSABLE,
    "SQLITE_CORRUPT": Fault.UNUSABLE,
    "SQLITE_NOTADB": Fault.UNUSABLE,
    "SQLITE_SCHEMA": Fault.BUSY,
}
"""By SQLite's primary result code (https://www.sqlite.org/rescode.html)."""

_WORDS: dict[Fault, str] = {
    Fault.AWAY: "the database {url} cannot be reached or used: {text}",
    Fault.UNWRITABLE: "the database {url} cannot be written: {text}",
    Fault.BUSY: "the database {url} was busy: {text}",
    Fault.UNUSABLE: "the database {url} cannot be used as it is: {text}",
}


def fault_of(error: sa.exc.SQLAlchemyError, url: sa.URL) -> StoreFault | None:
    """What an error of the database means; ``None``: it is no fault of the database.

    Parameters
    ----------
    url
        Which database, for the text; its password is masked.

    Examples
    --------
    >>> class Full(Exception):
    ...     sqlstate = "53100"
    >>> error = sa.exc.OperationalError("INSERT", {}, Full("no space left on device"))
    >>> fault_of(error, sa.make_url("postgresql://ann:secret@db/x"))
    StoreFault(fault=<Fault.UNWRITABLE: 'unwritable'>, text='the database
    postgresql://ann:***@db/x cannot be written: no space left on device')
    """
    shown = url.render_as_string(hide_password=True)
    if isinstance(error, sa.exc.TimeoutError):  # of the pool
        return StoreFault(Fault.BUSY, f"every connection to {shown} is in use: {error}")
    if not isinstance(error, sa.exc.DBAPIError):
        return None
    text = " ".join(str(error.orig).split())
    if url.get_backend_name() == "sqlite":
        return _of_sqlite(error, shown, text)
    state = getattr(error.orig, "sqlstate", None) or ""
    fault = STATES.get(state) or STATES.get(state[:2])
    if state in ("42P01", "42703"):
        text = f"it is not up to date ({text.partition(' LINE ')[0]}); {UPGRADE}"
    if state == "" and (isinstance(error, sa.exc.OperationalError) or error.connection_invalidated):
        # the server's own sentence while connecting, or libpq's that the connection broke
        fault = Fault.AWAY
        if re.search(r'database "[^"]*" does not exist', text):
            return StoreFault(
                Fault.UNUSABLE, f"the database {shown} does not exist: create it first"
            )
        if re.search(r"authentication failed|role .* does not exist|no pg_hba.conf", text):
            fault, text = Fault.UNUSABLE, f"it refused the user or password: {text}"
    return None if fault is None else _told(fault, shown, text)


def _of_sqlite(error: sa.exc.DBAPIError, shown: str, text: str) -> StoreFault | None:
    name = getattr(error.orig, "sqlite_errorname", None) or ""
    if re.search("no such table|no such column|no column named", text):
        return _told(Fault.UNUSABLE, shown, f"it is not up to date ({text}); {UPGRADE}")
    known = [code for code in RESULTS if name == code or name.startswith(f"{code}_")]
    if not known:
        return None
    fault = RESULTS[known[0]]
    if known[0] == "SQLITE_BUSY":
        text = "another process kept it locked"
    elif known[0] in ("SQLITE_CORRUPT", "SQLITE_NOTADB"):
        text = f"it is not an intact SQLite database: {text}"
    return _told(fault, shown, text)


def _told(fault: Fault, shown: str, text: str) -> StoreFault:
    return StoreFault(fault, _WORDS[fault].format(url=shown, text=text))

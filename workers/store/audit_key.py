"""Audit key: authenticates audit entries and release requests, and is no row of any table.

Whoever can write SQL can write any row, but not its MAC. A database that is opened with
:func:`with_key` carries the key's file down to whoever writes such a row (``audit.append``,
``release_requests.submit``); it is read when it is first needed, so that commands that only read
need none. The property ``audit_key`` says by a fingerprint which key counts, so that a process with
another one is told so instead of being taken for a forger.
"""

from __future__ import annotations

import hashlib
import hmac
import stat
import threading
from pathlib import Path

import sqlalchemy as sa

from redistill.streams.store import properties
from redistill.streams.store.database import Database, insert_ignore
from redistill.streams.store.tables import properties as table
from redistill.workers.errors import KeysError, SettingsError
from redistill.workers.settings.state_key import stored_key
from redistill.workers.store.tables import audit

__all__ = [
    "AUDIT_KEY",
    "AuditKey",
    "AuditKeyFile",
    "check",
    "claim",
    "is_unnamed",
    "known",
    "of_file",
    "with_key",
]

AUDIT_KEY = "audit_key"
"""Name of the property: the fingerprint of the key. That it is there says that entries have a
MAC."""

_OPTION = "redistill_audit_key"
LABEL = "redistill/audit-key"
LOST = (
    "if it is lost for good, `redistill keys accept-restore --new-audit-key --reason TEXT` makes"
    " another one count"
)


class AuditKey:
    """The key itself; its bytes stand in no ``repr``.

    Examples
    --------
    >>> key = AuditKey(b"k" * 32)
    >>> mac = key.mac("request", "id", "publish")
    >>> key.fits(mac, "request", "id", "publish"), key.fits(mac, "request", "idp", "ublish")
    (True, False)
    >>> key
    AuditKey('2794...')
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def __repr__(self) -> str:
        return f"AuditKey('{self.fingerprint[:4]}...')"

    @property
    def fingerprint(self) -> str:
        """Tells keys apart without giving one away."""
        return self.mac("fingerprint")[:32]

    def mac(self, kind: str, *parts: str) -> str:
        """HMAC-SHA256 over a kind and its parts, each with its length before it: no two rows, and
        no two kinds of them, read the same. Lower-case hexadecimal."""
        mac = hmac.new(self._secret, digestmod=hashlib.sha256)
        for part in (LABEL, kind, *parts):
            data = part.encode("utf-8", "surrogatepass")
            mac.update(len(data).to_bytes(8, "big"))
            mac.update(data)
        return mac.hexdigest()

    def fits(self, mac: str, kind: str, *parts: str) -> bool:
        """Whether a MAC was made with this key over these parts."""
        return hmac.compare_digest(str(mac).encode(), self.mac(kind, *parts).encode())


class AuditKeyFile:
    """Where the key lies; it is read once, when it is needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._key: AuditKey | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"AuditKeyFile({str(self.path)!r})"

    def key(self, *, make: bool = False) -> AuditKey:
        """The key.

        Parameters
        ----------
        make
            Make it where it is not there: only while nothing was authenticated with another one.

        Raises
        ------
        KeysError
            It is missing, holds no key, or others may read it; the message says what to do.
        """
        with self._lock:
            if self._key is None:
                self._key = AuditKey(self._read(make))
            return self._key

    def _read(self, make: bool) -> bytes:
        try:
            if not make and not self.path.exists():
                raise KeysError(
                    f"the audit key {self.path} is not here: bring it from the machine that has it"
                    f" (REDISTILL_AUDIT_KEY names another place), or from a backup; {LOST}"
                )
            secret = stored_key(self.path, mend=f"restore it from a backup; {LOST}")
            if self.path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise KeysError(f"others may read the audit key {self.path}: chmod 600 it")
        except OSError as error:
            raise KeysError(f"the audit key {self.path}: {error.strerror}") from error
        except SettingsError as error:
            raise KeysError(str(error)) from error
        return secret


def with_key(database: Database, path: Path) -> Database:
    """A database whose transactions can write audit entries and release requests that count."""
    return database.carrying(**{_OPTION: AuditKeyFile(path)})


def of_file(conn: sa.Connection) -> AuditKeyFile | None:
    """The file of the key with which a connection's database was opened; ``None``: without."""
    file = conn.get_execution_options().get(_OPTION)
    return file if isinstance(file, AuditKeyFile) else None


def known(conn: sa.Connection) -> AuditKey | None:
    """The key that counts in this database; ``None``: it was opened without, or none counts yet.

    Raises
    ------
    KeysError
        The key is not here, or another one is.
    """
    file, stored = of_file(conn), properties.get(conn, AUDIT_KEY)
    if file is None or stored is None:
        return None
    key = file.key()
    if key.fingerprint != stored:
        raise KeysError(
            f"the audit key {file.path} is not the one of this database: copy that of the"
            " machine on"
            " which `redistill db upgrade` was run, or set REDISTILL_AUDIT_KEY to its file;"
            f" {LOST}"
        )
    return key


def is_unnamed(conn: sa.Connection) -> bool:
    """Whether there are audit entries, and no row says which key counts: an older redistill wrote
    them, or somebody took the row away."""
    if properties.get(conn, AUDIT_KEY) is not None:
        return False
    return conn.execute(sa.select(audit.c.seq).limit(1)).first() is not None


def check(database: Database) -> None:
    """Refuse a key that is not the database's, before anything is written with it.

    Raises
    ------
    KeysError
        See :func:`claim`.
    """
    with database.begin() as conn:
        claim(conn)


def claim(conn: sa.Connection) -> AuditKey | None:
    """The key that counts, for whoever writes; in a database without any entry it is the one that
    is here, which is made if need be.

    Parameters
    ----------
    conn
        A writing transaction (``Database.begin``).

    Returns
    -------
    AuditKey or None
        ``None``: the database was opened without a key: what is written then, nobody obeys.

    Raises
    ------
    KeysError
        See :func:`known`; or there are entries of an older redistill, which nobody has taken in
        yet.
    """
    file = of_file(conn)
    if file is None:
        return None
    if properties.get(conn, AUDIT_KEY) is None:
        if is_unnamed(conn):
            raise KeysError(
                "the audit entries of this database have no MAC yet: stop the workers and run"
                " `redistill db upgrade` where the signing keys are"
            )
        fingerprint = file.key(make=True).fingerprint
        conn.execute(insert_ignore(table).values(name=AUDIT_KEY, value=fingerprint))
    return known(conn)

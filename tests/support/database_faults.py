"""Faults of a database and of a disk, each as a context manager: it holds inside the block, and is
undone behind it, whatever happens within."""

from __future__ import annotations

import contextlib
import errno
import random
import select
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pids
import psycopg
from postgres_server import PostgresServer, Unavailable

APPLICATION = "redistill-test-fault"


def connect(server: PostgresServer, database: str = "postgres") -> psycopg.Connection:
    """A connection of the operator, to whom no limit of the fault applies."""
    return psycopg.connect(
        f"postgresql://redistill@127.0.0.1:{server.port}/{database}",
        autocommit=True,
        connect_timeout=10,
        application_name=APPLICATION,
        options="-c default_transaction_read_only=off",
    )


def name_of(url: str) -> str:
    """Name of the database in a URL."""
    return url.rpartition("/")[2]


@contextlib.contextmanager
def frozen(server: PostgresServer) -> Iterator[None]:
    """SIGSTOP to the whole server: the kernel takes connections and bytes, and nobody answers."""
    assert server.process is not None
    with pids.frozen(_all_of(server.process.pid)):
        yield


def _all_of(postgres: int) -> Iterator[int]:
    """The server first: once it stands still it makes no more of them."""
    yield postgres
    yield from pids.children(postgres)


@contextlib.contextmanager
def exhausted(server: PostgresServer) -> Iterator[None]:
    """Every connection that the server allows is taken, those of the others are ended."""
    held: list[psycopg.Connection] = []
    try:
        held.append(connect(server))
        end = time.monotonic() + 10
        full = 0.0
        while time.monotonic() < end and (not full or time.monotonic() < full + 1):
            _end_others(held[0])  # whoever still has one loses it, and we are there first
            try:
                while True:
                    held.append(connect(server))
            except psycopg.OperationalError:
                full = full or time.monotonic()
        yield
    finally:
        for connection in held:
            connection.close()


def _end_others(operator: psycopg.Connection) -> None:
    operator.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend' AND application_name <> %s",
        (APPLICATION,),
    )


@contextlib.contextmanager
def locked(server: PostgresServer, url: str, *tables: str) -> Iterator[None]:
    """Somebody's session holds tables in ``ACCESS EXCLUSIVE MODE``, as ``ALTER TABLE`` does."""
    with connect(server, name_of(url)) as operator, operator.transaction():
        operator.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE")
        yield


@contextlib.contextmanager
def read_only(server: PostgresServer) -> Iterator[None]:
    """Every transaction only reads, as on a standby; those that are open go on to their end."""
    with connect(server) as operator:
        try:
            _set(operator, "default_transaction_read_only", "on")
            yield
        finally:
            _set(operator, "default_transaction_read_only", None)


def _set(operator: psycopg.Connection, name: str, value: str | None) -> None:
    operator.execute(
        f"ALTER SYSTEM SET {name} = {value}" if value else f"ALTER SYSTEM RESET {name}"
    )
    operator.execute("SELECT pg_reload_conf()")


@contextlib.contextmanager
def stopped(server: PostgresServer) -> Iterator[None]:
    """The server is shut down, as for an upgrade of its package, and started again."""
    server.stop()
    try:
        yield
    finally:
        server.start()


class LostCommit:
    """A way to the server on which the answer to a commit can be lost: the server commits, and the
    connection breaks before anybody is told."""

    def __init__(self, server: PostgresServer, url: str) -> None:
        self._target = server.port
        self.commit = 0
        """Which of the next commits gets no answer: 1 is the next, 0 none."""
        self.share = 0.0
        """Of all commits; which ones is always the same."""
        self.lost = 0
        self._dice = random.Random(7)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = url.replace(f":{server.port}/", f":{self._server.getsockname()[1]}/")
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more."""
        self._server.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                threading.Thread(target=self._carry, args=(near, far), daemon=True).start()

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        with contextlib.suppress(OSError), near, far:
            while True:
                for ready in select.select([near, far], [], [])[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        return
                    (far if ready is near else near).sendall(data)
                    if ready is far or b"COMMIT\0" not in data:
                        continue
                    chosen = self.commit == 1 or self._dice.random() < self.share
                    self.commit = max(0, self.commit - 1)
                    if chosen:
                        far.recv(1 << 16)  # it is committed
                        self.lost += 1
                        return


@contextlib.contextmanager
def sqlite_locked(file: Path) -> Iterator[None]:
    """Another process's writer does not end its transaction."""
    other = sqlite3.connect(file, isolation_level=None, timeout=60)
    try:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")
    finally:
        other.close()


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A disk of its own, of so many megabytes, mounted on a folder.

    Raises
    ------
    Unavailable
        This account may not mount.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "redistill-test"]
    try:
        done = subprocess.run(
            [*mount, str(folder)], capture_output=True, text=True, timeout=30, check=False
        )
    except FileNotFoundError as error:
        raise Unavailable("there is no mount command") from error
    if done.returncode:
        raise Unavailable(f"a small disk cannot be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], timeout=30, check=False)


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    """Something else fills the disk to the last byte, and is deleted in the end. What is freed
    meanwhile is taken, too: the block is as full at its end as at its beginning only if nobody
    frees anything; see :func:`fill`."""
    filler = disk / "filler"
    try:
        fill(filler)
        yield
    finally:
        filler.unlink(missing_ok=True)


def fill(filler: Path) -> None:
    """Take what is left of a disk with one file, which grows each time."""
    size = 1 << 20
    with filler.open("ab", buffering=0) as file:
        while size:
            try:
                if file.write(b"\0" * size) < size:
                    size //= 2
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 2

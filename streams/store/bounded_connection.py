"""Connection to PostgreSQL that does not wait for ever: a server that hangs is told from one that
works.

A server whose processes are stopped, or whose disk hangs, closes no connection: the kernel takes
and acknowledges every byte, so that neither keepalives nor TCP's own limits notice anything, and
the limits that the server was given (``statement_timeout``) are kept by nobody. So whoever waits
asks, after some seconds of silence, whether the server still answers a new connection. One that
does is at work, and its own limit ends the statement; this side's limit, a little longer, is for a
single process of it that hangs.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Generator
from contextlib import suppress
from typing import Any

import psycopg

from redistill.streams.store.waits import (
    CONNECT_SECONDS,
    GRACE_SECONDS,
    SILENT_SECONDS,
    STATEMENT_SECONDS,
    Waits,
)

__all__ = ["BoundedConnection"]

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
"""What libpq sends first, and each server answers with a byte before it asks who we are
(https://www.postgresql.org/docs/current/protocol-message-formats.html)."""


class BoundedConnection(psycopg.Connection[Any]):
    """Raises ``OperationalError``, and is closed then, where the plain one would wait for ever."""

    waits: Waits | None = None
    limit_seconds: float | None = STATEMENT_SECONDS + GRACE_SECONDS
    """Of one answer; ``None``: as long as the server is there."""
    _address: tuple[str, int] | None = None

    def allow(self, seconds: float) -> None:
        """Let each answer take so long (and the grace)."""
        self.limit_seconds = seconds + GRACE_SECONDS

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
        """Wait for an answer, as long as there is hope for one."""
        if self.waits is None:
            return super().wait(self._watched(gen), *args, **kwargs)
        self.waits.begin()
        try:
            return super().wait(self._watched(gen), *args, **kwargs)
        finally:
            self.waits.end()

    def _watched(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """``gen``, which is told each tenth of a second that nothing has come, if nothing has."""
        began = time.monotonic()
        look_at = began + SILENT_SECONDS
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and (now := time.monotonic()) >= look_at:
                    if self.limit_seconds is not None and now >= began + self.limit_seconds:
                        self._give_up(f"no answer for {now - began:.0f} s")
                    if not self._server_answers():
                        self._give_up(f"it hangs: no answer for {time.monotonic() - began:.0f} s")
                    look_at = time.monotonic() + SILENT_SECONDS
                wanted = gen.send(ready)
        except StopIteration as done:
            return done.value

    def _give_up(self, why: str) -> None:
        self.pgconn.finish()  # or whoever rolls back would wait again
        raise psycopg.OperationalError(why)

    def _server_answers(self) -> bool:
        host, port = self._where()
        try:
            if host.startswith("/"):
                with socket.socket(socket.AF_UNIX) as made:
                    made.settimeout(CONNECT_SECONDS)
                    made.connect(f"{host}/.s.PGSQL.{port}")
                    return _asked(made)
            with socket.create_connection((host, port), timeout=CONNECT_SECONDS) as made:
                return _asked(made)
        except OSError:
            return False

    def _where(self) -> tuple[str, int]:
        if self._address is None:
            info = self.info
            host = info.host
            if not host.startswith("/"):
                with suppress(psycopg.Error):
                    host = info.hostaddr or host
            self._address = (host, info.port)
        return self._address


def _asked(made: socket.socket) -> bool:
    made.sendall(_SSL_REQUEST)
    made.recv(1)  # whatever it says, or that it hangs up: somebody is there
    return True

"""Listener: takes connections in, and ends those that are late or in the way.

In place of asyncio's own, which takes in whatever comes: a peer's limits hold from before its TLS
handshake, and a process without free descriptors makes some.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections import Counter
from typing import Any

import structlog
from uvicorn.config import Config
from uvicorn.server import ServerState

from redistill.workers.web.connection import Connection
from redistill.workers.web.places import Place, Places, peer_of

__all__ = ["Listener"]

log = structlog.get_logger(__name__)

AT_ONCE = 64
"""Connections taken in before those that are there are served again."""
NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
PAUSE_SECONDS = 0.2
"""Until descriptors that were freed are free."""
LOOK_SECONDS = 0.25
"""How often connections are looked at; a hundredth of the times that they have, or so."""
TLS_GOODBYE_SECONDS = 2.0
"""How long the end of a TLS connection waits for the peer's agreement."""
TELL_SECONDS = 60.0
"""One line about connections that were ended in this time."""


class Listener:
    """Serves the connections of a listening socket, as uvicorn expects of an asyncio server.

    Parameters
    ----------
    listening
        A socket that listens.
    config, state
        uvicorn's.
    places
        Limits, and the connections that there are.
    """

    def __init__(
        self, listening: socket.socket, config: Config, state: ServerState, places: Places
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._config, self._state, self._places = config, state, places
        self._opening: dict[asyncio.Task[None], Place] = {}
        self._ended: Counter[str] = Counter()
        self._told = self._loop.time()
        listening.setblocking(False)
        self._loop.add_reader(listening, self._take_in)
        self._looking: asyncio.TimerHandle | None = self._loop.call_later(LOOK_SECONDS, self._look)

    def close(self) -> None:
        """Take nobody in any more; those that are there go on."""
        if self._looking is not None:
            self._loop.remove_reader(self._listening)
            self._looking.cancel()
            self._looking = None
            for place in list(self._opening.values()):
                place.end()

    async def wait_closed(self) -> None:
        """Wait until those that were being taken in are gone."""
        await asyncio.gather(*self._opening, return_exceptions=True)

    def _take_in(self) -> None:
        for _ in range(AT_ONCE):
            try:
                sock, address = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in NO_DESCRIPTOR:
                    self._make_room(error)
                    return
                continue  # the peer was gone before it was taken in
            self._admit(sock, address)

    def _make_room(self, error: OSError) -> None:
        """No descriptor is free, whoever has them: some connections go, the rest can wait."""
        for place in self._places.free(self._loop.time()):
            self._end(place, "full")
        log.warning("web_out_of_descriptors", action="web_out_of_descriptors", error=str(error))
        self._loop.remove_reader(self._listening)
        self._loop.call_later(PAUSE_SECONDS, self._listen_again)

    def _listen_again(self) -> None:
        if self._looking is not None:
            self._loop.add_reader(self._listening, self._take_in)

    def _admit(self, sock: socket.socket, address: Any) -> None:
        peer = peer_of(str(address[0])) if isinstance(address, tuple) else "local"
        place, gone = self._places.enter(peer, self._loop.time())
        for other in gone:
            self._end(other, "full")
        if place is None:
            self._ended["refused"] += 1
            sock.close()
            return
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        place.end = lambda: _hang_up(sock)
        task = self._loop.create_task(self._open(sock, place))
        self._opening[task] = place
        task.add_done_callback(self._opened)

    async def _open(self, sock: socket.socket, place: Place) -> None:
        def made() -> Connection:
            return Connection(self._config, self._state, place=place, places=self._places)

        tls: dict[str, Any] = {}
        if self._config.ssl is not None:
            tls = {
                "ssl": self._config.ssl,
                "ssl_handshake_timeout": self._places.limits.header_seconds,
                "ssl_shutdown_timeout": TLS_GOODBYE_SECONDS,
            }
        try:
            await self._loop.connect_accepted_socket(made, sock, **tls)
        except (OSError, ssl.SSLError):
            # speaks no TLS, is gone, or took too long
            self._places.leave(place)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("web_connection_failed", action="web_connection_failed", exc_info=error)

    def _look(self) -> None:
        """End what takes too long."""
        self._looking = self._loop.call_later(LOOK_SECONDS, self._look)
        now = self._loop.time()
        for place in list(self._places):
            place.look()
            if (why := place.overdue(self._places.limits, now)) is not None:
                self._end(place, why)
        if self._ended and now - self._told >= TELL_SECONDS:
            log.warning(
                "web_connections_ended",
                action="web_connections_ended",
                connections=len(self._places),
                **{f"{why}": count for why, count in sorted(self._ended.items())},
            )
            self._ended.clear()
            self._told = now

    def _end(self, place: Place, why: str) -> None:
        if why != "idle":
            self._ended[why] += 1
        self._places.leave(place)
        place.end()


def _hang_up(sock: socket.socket) -> None:
    """End a connection that is being taken in: a task that is cancelled in the middle of a TLS
    handshake leaves its socket open."""
    with contextlib.suppress(OSError):  # it ended by itself
        sock.shutdown(socket.SHUT_RDWR)

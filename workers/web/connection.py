"""Connection: uvicorn's HTTP/1.1 protocol, which tells its place what it is doing.

uvicorn bounds the time between two requests and the size of a header, but neither the time that a
header, a body or a reader takes. All it is asked here is where each of them stands;
:mod:`redistill.workers.web.listener` ends what takes too long.
"""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from redistill.workers.web.places import Phase, Place, Places

__all__ = ["Connection", "place_of"]

EXTENSION = "redistill.place"
"""Name of the place among the extensions of a request's scope."""


def place_of(scope: Any) -> Place | None:
    """The place of a request; ``None`` under another server."""
    place = (scope.get("extensions") or {}).get(EXTENSION)
    return place if isinstance(place, Place) else None


class Connection(H11Protocol):
    """One connection.

    Parameters
    ----------
    config, state
        uvicorn's.
    place
        Its own.
    places
        Where it takes its leave.
    """

    def __init__(self, config: Config, state: ServerState, *, place: Place, places: Places) -> None:
        super().__init__(config, state, {}, asyncio.get_running_loop())
        self._place = place
        self._places = places
        self._thrown_away = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The connection stands, its TLS too."""
        super().connection_made(transport)
        self._place.look, self._place.end = self._look, transport.abort

    def connection_lost(self, exc: Exception | None) -> None:
        """It ended."""
        self._places.leave(self._place)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes came."""
        if self._place.phase is Phase.TAKING:
            self._thrown_away += len(data)
            if self._thrown_away > self._places.limits.body_bytes:
                self.transport.abort()
                return
        super().data_received(data)
        self._tell()

    def handle_events(self) -> None:
        """A request may be complete: its scope tells the application whose it is."""
        before = self.scope
        super().handle_events()
        if self.scope is not before:
            scope: Any = self.scope
            scope.setdefault("extensions", {})[EXTENSION] = self._place

    def on_response_complete(self) -> None:
        """An answer was given; the next request may have come already."""
        self._place.turn(Phase.IDLE, self.loop.time())
        super().on_response_complete()
        self._tell()

    def resume_writing(self) -> None:
        """The reader took what had been kept for it."""
        self._place.moved = self.loop.time()
        super().resume_writing()

    def _look(self) -> None:
        sock = self.transport.get_extra_info("socket")
        self._place.read(self.transport.get_write_buffer_size() + _queued(sock), self.loop.time())

    def _tell(self) -> None:
        theirs, ours = self.conn.their_state, self.conn.our_state
        if theirs is h11.IDLE:
            # a first request has not begun, or the header of a further one has
            begun = bool(self.conn.trailing_data[0]) or self._place.phase is Phase.ASKING
            phase = Phase.ASKING if begun else Phase.IDLE
        elif theirs is h11.SEND_BODY or ours in (h11.MUST_CLOSE, h11.CLOSED, h11.ERROR):
            phase = Phase.TAKING
        elif ours is h11.DONE:
            phase = Phase.IDLE
        else:
            phase = Phase.ANSWERING
        self._place.turn(phase, self.loop.time())


def _queued(sock: Any) -> int:
    """Bytes that the kernel keeps for a reader: up to 4 MB, which asyncio does not see."""
    try:
        return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except (OSError, AttributeError):
        return 0

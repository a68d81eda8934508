"""Port forward: a fixed port of this machine in front of a server at another one.

The dev broker takes whatever port is free, another at each start. Clients that know a forward's
port find it again: they ask there for the broker's address, as they ask any bootstrap server.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from redistill.streams.errors import AddressError

__all__ = ["PortForward"]

CHUNK = 65_536
CONNECT_SECONDS = 5.0
"""For a server on the same machine."""
PAUSE_SECONDS = 0.5
"""Until what this machine lacks (a descriptor, a thread) may be free."""


class PortForward:
    """Listens until it is stopped.

    Parameters
    ----------
    port
        Of loopback, to listen on.
    to
        ``host:port`` of the server.

    Raises
    ------
    AddressError
        The port is taken, or may not be used.
    """

    def __init__(self, port: int, to: str) -> None:
        host, _, number = to.rpartition(":")
        self._to = (host, int(number))
        try:
            self._listening = socket.create_server(("127.0.0.1", port))
        except OSError as error:
            raise AddressError(
                "127.0.0.1", port, error, do="choose another --broker-port"
            ) from error
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        """Where it listens."""
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread(self._accept)

    def stop(self) -> None:
        """Stop listening, and end what is connected."""
        with self._lock:
            self._stopped.set()
            ending = [self._listening, *self._open]
        for each in ending:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # wakes who waits for it
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                # the peer was gone, or no descriptor is free
                if self._stopped.wait(PAUSE_SECONDS):
                    return
                continue
            try:
                self._thread(self._connect, client)
            except RuntimeError:  # no thread is left
                client.close()
                self._stopped.wait(PAUSE_SECONDS)

    def _connect(self, client: socket.socket) -> None:
        """Serve one client, until either side ends."""
        try:
            server = socket.create_connection(self._to, timeout=CONNECT_SECONDS)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        with self._lock:
            stopped = self._stopped.is_set()
            if not stopped:
                self._open |= {client, server}
        try:
            if stopped:
                raise RuntimeError("it was stopped")
            self._thread(self._pump, server, client)
        except RuntimeError:
            self._end(client, server)
        else:
            self._pump(client, server)

    def _thread(self, work: Callable[..., None], *sockets: socket.socket) -> None:
        threading.Thread(target=work, args=sockets, name="forward", daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                sink.sendall(data)
        self._end(source, sink)

    def _end(self, *sockets: socket.socket) -> None:
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        with self._lock:
            self._open -= {*sockets}

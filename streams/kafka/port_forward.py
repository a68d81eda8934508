"""Port forward: a fixed port of this machine in front of a server at another one.

The dev broker takes whatever port is free, another at each start. Clients that know a forward's
port find it again: they ask there for the broker's address, as they ask any bootstrap server.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from redistill.streams.errors import StreamsError

__all__ = ["PortForward"]

CHUNK = 65_536


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
    StreamsError
        The port is taken, or may not be used.
    """

    def __init__(self, port: int, to: str) -> None:
        host, _, number = to.rpartition(":")
        self._to = (host, int(number))
        try:
            self._listening = socket.create_server(("127.0.0.1", port))
        except OSError as error:
            raise StreamsError(f"cannot listen on 127.0.0.1:{port}: {error.strerror}") from error
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        """Where it listens."""
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._stopped = False
        threading.Thread(target=self._accept, name="forward", daemon=True).start()

    def stop(self) -> None:
        """Stop listening, and end what is connected."""
        with self._lock:
            self._stopped = True
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
                return
            try:
                server = socket.create_connection(self._to, timeout=5.0)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                if self._stopped:
                    client.close()
                    server.close()
                    return
                self._open |= {client, server}
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        with self._lock:
            self._open -= {source, sink}

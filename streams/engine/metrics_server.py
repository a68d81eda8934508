"""Metrics server: answers Prometheus on a port of its own, and nothing that is done to the port
reaches the worker.

``prometheus_client`` has a server that starts a thread for every connection and lets it wait for
ever: a thousand connections that say nothing take the descriptors that a worker's consumer and
database need. Here a few are served at once, each in a few seconds; one more takes the place of
the oldest.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import socket
import threading
import time
from collections import deque

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from redistill.streams.engine.metrics_address import MetricsAddress
from redistill.streams.errors import AddressError

__all__ = ["MetricsServer"]

log = structlog.get_logger(__name__)

AT_ONCE = 8
"""Connections that are served: two Prometheus servers and a person use three."""
HEADER_SECONDS = 5.0
HEADER_BYTES = 16_384
ANSWER_SECONDS = 10.0
"""For the numbers, which may come from SQL, and then again for a reader to take them; Prometheus
gives up after ten by default."""
PAUSE_SECONDS = 0.5
"""Until descriptors or threads that this process lacks may be free."""
SAID_SECONDS = 60.0
"""How often it is said that scrapes fail."""


class MetricsServer:
    """``GET /metrics``, in plain text, until it is closed.

    Parameters
    ----------
    registry
        What is shown; asked by one thread at a time.
    address
        Where to listen, and which token is asked for.

    Attributes
    ----------
    url
        Where it answers.

    Raises
    ------
    AddressError
        The port is taken, or not ours to take.
    """

    def __init__(self, registry: CollectorRegistry, address: MetricsAddress) -> None:
        self._registry = registry
        token, host = address.token, address.host
        self._token = None if token is None else hashlib.sha256(token.encode()).digest()
        self._collecting = threading.Lock()
        self._quiet_until = float("-inf")
        self._waiting = threading.Semaphore(AT_ONCE)
        self._guard = threading.Lock()
        self._closed = threading.Event()
        self._open: deque[socket.socket] = deque()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._listening = socket.create_server((host, address.port), family=family, backlog=128)
        except OSError as error:
            do = "choose another --metrics-port (0: a free one) or --metrics-host"
            raise AddressError(host, address.port, error, do=do) from error
        self.port = int(self._listening.getsockname()[1])
        self.url = address.url(self.port)
        threading.Thread(target=self._take_in, name="metrics", daemon=True).start()

    def close(self) -> None:
        """Serve no more."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # wakes whoever accepts
        self._listening.close()

    def _take_in(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except ConnectionError:
                continue  # the peer was gone before it was taken in
            except OSError:
                if self._closed.wait(PAUSE_SECONDS):
                    return
                continue
            with self._guard:
                self._open.append(sock)
                oldest = self._open.popleft() if len(self._open) > AT_ONCE else None
                if oldest is not None:
                    with contextlib.suppress(OSError):
                        oldest.shutdown(socket.SHUT_RDWR)  # its thread closes it
            try:
                threading.Thread(
                    target=self._serve, args=(sock,), name="metrics-scrape", daemon=True
                ).start()
            except RuntimeError:  # no thread is left
                self._leave(sock)
                self._closed.wait(PAUSE_SECONDS)

    def _leave(self, sock: socket.socket) -> None:
        with self._guard:
            with contextlib.suppress(ValueError):  # it had to leave
                self._open.remove(sock)
            sock.close()

    def _serve(self, sock: socket.socket) -> None:
        try:
            words, fields = _request(sock)
            sock.settimeout(ANSWER_SECONDS)
            sock.sendall(self._answer(words, fields))
        except OSError:
            return  # gone, or too slow
        finally:
            self._leave(sock)

    def _authorized(self, fields: dict[bytes, bytes]) -> bool:
        if self._token is None:
            return True
        scheme, _, given = fields.get(b"authorization", b"").partition(b" ")
        # compared as hashes: neither the token's length nor a common start can be measured
        digest = hashlib.sha256(given.strip()).digest()
        return hmac.compare_digest(digest, self._token) and scheme.lower() == b"bearer"

    def _answer(self, words: list[bytes], fields: dict[bytes, bytes]) -> bytes:
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _message("400 Bad Request", b"no HTTP/1 request\n")
        if not self._authorized(fields):
            return _message(
                "401 Unauthorized",
                b"the bearer token of REDISTILL_METRICS_TOKEN is needed\n",
                more="WWW-Authenticate: Bearer\r\n",
            )
        method, path = words[0], words[1].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return _message("405 Method Not Allowed", b"GET was expected\n")
        if path not in (b"/metrics", b"/"):
            return _message("404 Not Found", b"/metrics is all there is\n")
        late = _message("503 Service Unavailable", b"the numbers did not come in time\n")
        if not self._waiting.acquire(blocking=False):
            return late
        try:
            if not self._collecting.acquire(timeout=ANSWER_SECONDS):
                return late
        finally:
            self._waiting.release()
        try:
            text = generate_latest(self._registry)
        except Exception as error:  # a collector's; the next scrape may do
            self._say_failed()
            return _message("500 Internal Server Error", f"{type(error).__name__}\n".encode())
        finally:
            self._collecting.release()
        answer = _message("200 OK", text, CONTENT_TYPE_LATEST)
        return answer if method == b"GET" else answer[: len(answer) - len(text)]

    def _say_failed(self) -> None:
        """Log the exception at hand, with its traceback; whoever scrapes sees its name alone."""
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + SAID_SECONDS
            log.exception("scrape_failed", action="scrape_failed")


def _request(sock: socket.socket) -> tuple[list[bytes], dict[bytes, bytes]]:
    """The words of a request's first line and its header's fields, once the header is complete.

    Raises
    ------
    OSError
        It did not come in time, or is too long.
    """
    end = time.monotonic() + HEADER_SECONDS
    header = b""
    while b"\r\n\r\n" not in header and b"\n\n" not in header:
        sock.settimeout(max(0.001, end - time.monotonic()))
        data = sock.recv(4_096)
        header += data
        if not data or len(header) > HEADER_BYTES or time.monotonic() > end:
            raise ConnectionAbortedError("no request")
    first, *lines = header.replace(b"\r\n", b"\n").partition(b"\n\n")[0].split(b"\n")
    fields: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        fields.setdefault(name.lower(), value.strip())
    return first.split(), fields


def _message(
    status: str, body: bytes, kind: str = "text/plain; charset=utf-8", *, more: str = ""
) -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        f"{more}Connection: close\r\n\r\n"
    )
    return head.encode() + body

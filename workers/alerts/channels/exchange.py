"""Exchange: one HTTP request of a channel and what came back, within a time and a size.

The peer's address is judged before the connection is used (``egress``), TLS is verified against the
name of the URL, no redirect is followed, no proxy of the environment is asked, no connection is
kept. Whatever a receiver does, an exchange ends in time.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from ipaddress import ip_address
from pathlib import Path

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError
from urllib3.response import HTTPResponse

from redistill.times import microseconds, now_us, to_seconds
from redistill.workers.alerts.channels.address import Address
from redistill.workers.alerts.channels.channel import DeliveryFailed
from redistill.workers.alerts.channels.egress import (
    EVERYWHERE,
    EgressRefused,
    Network,
    connect,
    is_allowed,
    judge,
)

__all__ = ["Answer", "exchange"]

MOST_BYTES = 65_536
"""Of an answer: what a receiver says beyond is not read."""
LONGEST_WAIT_SECONDS = 3_600.0
"""A receiver may ask us to stay away for so long, and no longer: an alert is no mail."""
FINAL = frozenset({400, 401, 403, 405, 410, 413, 415, 422})
"""Statuses that say the same tomorrow. 404 is none: it is what stands in front of a receiver that
is being replaced."""

TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")
"""What ``http.client`` says of a proxy that refuses."""


@dataclass(frozen=True)
class Answer:
    """What a receiver answered."""

    status: int
    body: bytes
    """Its beginning, at most 64 KiB; empty where it took what it was sent."""
    clock: int | None
    """The receiver's clock by its ``Date``, microseconds since 1970."""
    retry_after: float | None
    """Seconds that it asks us to wait, bounded."""

    def check(self, what: str, said: str = "") -> None:
        """Nothing, if it took what it was sent.

        Parameters
        ----------
        what
            Whom we asked, for the message.
        said
            Why it refused, where it says so in a known place.

        Raises
        ------
        DeliveryFailed
            It answered anything but 2xx.
        """
        if 200 <= self.status < 300:
            return
        if 300 <= self.status < 400:
            reason = f"{what} answered {self.status}: it sends us elsewhere, and we do not go"
            raise DeliveryFailed(reason, retriable=False)
        raise DeliveryFailed(
            f"{what} answered {self.status}" + (f": {said}" if said else ""),
            retriable=self.status not in FINAL,
            after_seconds=self.retry_after,
        )


class _Http(HTTPConnection):
    """A connection on a socket that is there already."""

    peer: socket.socket

    def _new_conn(self) -> socket.socket:
        return self.peer


class _Https(HTTPSConnection):
    """The same below TLS: certificate and SNI are those of the URL's host."""

    peer: socket.socket

    def _new_conn(self) -> socket.socket:
        return self.peer


def exchange(
    method: str,
    to: Address,
    *,
    seconds: float,
    headers: Mapping[str, str],
    body: bytes | None = None,
    allow_private: Sequence[Network] = (),
    ca: Path | None = None,
    proxy: Address | None = None,
) -> Answer:
    """Send a request and read the beginning of the answer.

    Parameters
    ----------
    allow_private
        Networks that are not public and may be called.
    ca
        CA certificates in PEM; ``None``: the system's.
    proxy
        That opens a tunnel (CONNECT) to ``to``, which must be https: TLS ends at the receiver. It
        looks the name up, so what a name leads to is its judgement.

    Raises
    ------
    DeliveryFailed
        There is no answer within ``seconds``, or the peer may not be asked. The message names
        scheme, host and port, and nothing of the path.
    """
    end = time.monotonic() + seconds
    sock = _connected(to, proxy, allow_private, seconds)
    with sock, _closed_at(end, sock) as expired:
        try:
            if to.scheme == "http":
                _refuse_plain(to, sock, allow_private)
            made = _connection(to, sock, proxy, ca, max(end - time.monotonic(), 0.001))
            return _ask(made, method, to.target, headers, body, expired)
        except (OSError, HTTPError, HTTPException) as error:
            if expired.is_set() or time.monotonic() >= end:
                text = f"{to} did not answer within {seconds:g} s"
                raise DeliveryFailed(text) from None
            raise DeliveryFailed(f"{to}: {_cause(error)}") from None


def _connected(
    to: Address, proxy: Address | None, allowed: Sequence[Network], seconds: float
) -> socket.socket:
    """A connection to the receiver, or to the proxy, which its owner named and may be anywhere."""
    try:
        if proxy is None:
            return connect(to.host, to.port, allowed=allowed, seconds=seconds)
        if to.scheme != "https":
            raise EgressRefused(f"{to} cannot be called through a proxy: write https")
        judge(to.host, allowed)
        return connect(proxy.host, proxy.port, allowed=EVERYWHERE, seconds=seconds)
    except EgressRefused as error:
        raise DeliveryFailed(
            f"{error}; what is yours is called if `allow_private` names its network"
        ) from None
    except OSError as error:
        there = to if proxy is None else f"the proxy {proxy}"
        raise DeliveryFailed(f"{there} cannot be reached: {error.strerror or error}") from None


def _connection(
    to: Address, sock: socket.socket, proxy: Address | None, ca: Path | None, seconds: float
) -> _Http | _Https:
    sock.settimeout(seconds)
    made: _Http | _Https
    if to.scheme == "https":
        authorities = None if ca is None else str(ca)
        made = _Https(
            to.host, to.port, timeout=seconds, cert_reqs="CERT_REQUIRED", ca_certs=authorities
        )
        if proxy is not None:
            made.set_tunnel(to.host, to.port)
    else:
        made = _Http(to.host, to.port, timeout=seconds)
    made.peer = sock
    return made


def _ask(
    connection: _Http | _Https,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: bytes | None,
    expired: threading.Event,
) -> Answer:
    try:
        connection.request(
            method,
            target,
            body=body,
            headers={"User-Agent": "redistill", "Connection": "close", **headers},
            preload_content=False,
            decode_content=False,  # a few bytes may unpack to more than there is memory
        )
        with contextlib.closing(connection.getresponse()) as answer:
            if expired.is_set():  # a connection that ends among headers counts as their end
                raise TimeoutError
            return Answer(
                answer.status,
                b"" if 200 <= answer.status < 300 else _beginning(answer),
                _date(answer.headers.get("Date")),
                _wait(answer.headers.get("Retry-After")),
            )
    finally:
        connection.close()


def _beginning(answer: HTTPResponse) -> bytes:
    """As much of what it says as comes: the status has said already how it went."""
    begun = bytearray()
    with contextlib.suppress(OSError, HTTPError, HTTPException):
        while len(begun) < MOST_BYTES and (more := answer.read1(MOST_BYTES - len(begun))):
            begun += more
    return bytes(begun)


def _refuse_plain(to: Address, sock: socket.socket, allowed: Sequence[Network]) -> None:
    """Without TLS an alert goes to networks only that the channel names: anybody on the way reads
    it, and can answer in place of the receiver."""
    if not is_allowed(ip_address(sock.getpeername()[0].partition("%")[0]), allowed):
        raise DeliveryFailed(
            f"{to}: http is spoken to networks of `allow_private` only; write https",
            retriable=False,
        )


@contextlib.contextmanager
def _closed_at(end: float, sock: socket.socket) -> Iterator[threading.Event]:
    """Shut a connection down at a time, whatever is being waited for on it: limits of single reads
    are no limit for a receiver that drips. Gives an event that is set from then on."""
    expired = threading.Event()
    handle = sock.dup()  # TLS takes the socket itself over

    def close() -> None:
        expired.set()
        with contextlib.suppress(OSError):
            handle.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(end - time.monotonic(), 0), close)
    timer.daemon = True
    timer.start()
    try:
        yield expired
    finally:
        timer.cancel()
        timer.join()
        handle.close()


def _cause(error: Exception) -> str:
    """What went wrong, without what a receiver said."""
    inner: BaseException = error
    while (deeper := getattr(inner, "reason", None) or inner.__cause__) and isinstance(
        deeper, BaseException
    ):
        inner = deeper
    if isinstance(inner, ssl.SSLCertVerificationError):
        return f"its certificate is not to be trusted: {inner.verify_message}"
    if isinstance(inner, ssl.SSLError):
        return f"no TLS: {inner.reason or 'the connection broke'}"
    if (refused := TUNNEL.match(str(inner))) is not None:
        return f"the proxy answered {refused[1]}, and opens no tunnel there"
    if isinstance(inner, OSError):
        return inner.strerror or type(inner).__name__
    return f"what it answered is no HTTP ({type(inner).__name__})"


def _date(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return microseconds(parsedate_to_datetime(text))
    except (ValueError, TypeError, OverflowError):
        return None


def _wait(text: str | None) -> float | None:
    """Seconds of a ``Retry-After``: a number of them, or a date (RFC 9110, 10.2.3)."""
    if text is None:
        return None
    if text.strip().isdecimal() and len(text) < 12:
        return min(float(text), LONGEST_WAIT_SECONDS)
    at = _date(text)
    if at is None:
        return None
    return min(max(to_seconds(at - now_us()), 0.0), LONGEST_WAIT_SECONDS)

"""Handshake: why a broker does not let us in. The first steps of Kafka's protocol by hand, one at a
time.

kafka-python reports a bad password, a wrong certificate and a stopped broker alike, after 30
seconds, as "unable to bootstrap". Here the steps are taken one by one (connect, TLS, ApiVersions,
SASL), so that the one that fails can be named. Nothing is sent that clients do not send anyway.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import socket
import ssl
import struct
from dataclasses import dataclass, field

from redistill.streams.errors import BrokerRefused, BrokerUnavailable, StreamsError

__all__ = ["Login", "probe"]

_API_VERSIONS, _METADATA, _HANDSHAKE, _AUTHENTICATE = 18, 3, 17, 36
_UNSUPPORTED_MECHANISM, _AUTHENTICATION_FAILED = 33, 58
_MAX_ANSWER_BYTES = 4 << 20  # more than any of these four answers ever is
_TLS_ALERT = 0x15  # first byte of a TLS listener's answer to something that is not TLS


@dataclass(frozen=True, slots=True)
class Login:
    """What a listener is told: the protocol and, for SASL, the credentials."""

    protocol: str
    mechanism: str
    username: str
    password: str = field(repr=False)
    context: ssl.SSLContext | None


class _Closed(Exception):
    """The broker closed the connection in place of an answer."""


def probe(host: str, port: int, login: Login, *, timeout: float) -> StreamsError | None:
    """Try to get in at one server.

    Parameters
    ----------
    host, port
        The server.
    login
        Protocol and credentials.
    timeout
        Seconds for each step.

    Returns
    -------
    StreamsError or None
        Why not, or ``None`` if the server lets us in.
    """
    where = f"{host}:{port}"
    try:
        raw = socket.create_connection((host, port), timeout=timeout)
    except socket.gaierror as exc:
        return BrokerUnavailable(
            f"the name {host!r} cannot be resolved ({exc.strerror}); check the servers"
        )
    except OSError as exc:
        why = "no answer" if isinstance(exc, TimeoutError) else exc.strerror or str(exc)
        return BrokerUnavailable(
            f"cannot connect to {where}: {why}; is the broker running, and is this its address?"
        )
    with raw:
        try:
            return _steps(raw, host, where, login)
        except TimeoutError:
            return BrokerUnavailable(f"{where} accepts connections but does not answer")
        except (OSError, _Closed) as exc:
            return BrokerUnavailable(f"{where} broke the connection off: {exc}")


def _steps(raw: socket.socket, host: str, where: str, login: Login) -> StreamsError | None:
    sock: socket.socket = raw
    if login.context is not None:
        try:
            sock = login.context.wrap_socket(raw, server_hostname=host)
        except ssl.SSLCertVerificationError as exc:
            return BrokerRefused(
                f"the certificate of {where} is not trusted: {exc.verify_message}; "
                "check `ca` and the host name"
            )
        except (ssl.SSLError, ConnectionError) as exc:
            return BrokerRefused(
                f"no TLS with {where}: {getattr(exc, 'reason', None) or exc}; "
                "is that listener plain text (protocol PLAINTEXT or SASL_PLAINTEXT)?"
            )
    with sock:
        try:
            _call(sock, _API_VERSIONS, 0, b"")
        except _Closed as exc:
            tls = "it speaks TLS: use protocol SSL or SASL_SSL" if "TLS" in str(exc) else str(exc)
            return BrokerRefused(f"{where} does not answer as a {login.protocol} listener: {tls}")
        if login.protocol.startswith("SASL"):
            return _sasl(sock, where, login)
        try:
            _call(sock, _METADATA, 1, struct.pack(">i", 0))
        except _Closed:
            better = "SASL_SSL" if login.context else "SASL_PLAINTEXT"
            return BrokerRefused(f"{where} wants credentials: use protocol {better}")
    return None


def _sasl(sock: socket.socket, where: str, login: Login) -> StreamsError | None:
    try:
        answer = _call(sock, _HANDSHAKE, 1, _string(login.mechanism))
    except _Closed:
        return BrokerRefused(f"{where} asks for no credentials: use protocol PLAINTEXT or SSL")
    if (code := struct.unpack_from(">h", answer)[0]) != 0:
        known = ", ".join(_strings(answer[2:])) or "none"
        why = f"offers {known}" if code == _UNSUPPORTED_MECHANISM else f"answers error {code}"
        hint = (
            "" if code == _UNSUPPORTED_MECHANISM else "; does that listener ask for no credentials?"
        )
        return BrokerRefused(f"{where} does not accept mechanism {login.mechanism}: it {why}{hint}")
    try:
        if login.mechanism == "PLAIN":
            _token(sock, f"\0{login.username}\0{login.password}".encode())
        else:
            _scram(sock, login)
    except (BrokerRefused, _Closed) as exc:
        return BrokerRefused(
            f"{where} refuses the credentials of user {login.username!r} ({login.mechanism}): {exc}"
        )
    return None


def _scram(sock: socket.socket, login: Login) -> None:
    """RFC 5802, without channel binding."""
    algorithm = login.mechanism.removeprefix("SCRAM-").replace("-", "").lower()
    nonce = base64.b64encode(os.urandom(18)).decode()
    name = login.username.replace("=", "=3D").replace(",", "=2C")
    first = f"n={name},r={nonce}"
    server = _token(sock, f"n,,{first}".encode()).decode()
    parts = dict(p.split("=", 1) for p in server.split(",") if "=" in p)
    if not {"r", "s", "i"} <= parts.keys():
        raise BrokerRefused(f"unexpected answer {server[:80]!r}")
    final = f"c=biws,r={parts['r']}"
    salted = hashlib.pbkdf2_hmac(
        algorithm, login.password.encode(), base64.b64decode(parts["s"]), int(parts["i"])
    )
    client_key = hmac.digest(salted, b"Client Key", algorithm)
    stored = hashlib.new(algorithm, client_key).digest()
    signature = hmac.digest(stored, f"{first},{server},{final}".encode(), algorithm)
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature, strict=True)))
    _token(sock, f"{final},p={proof.decode()}".encode())


def _token(sock: socket.socket, token: bytes) -> bytes:
    answer = _call(sock, _AUTHENTICATE, 0, struct.pack(">i", len(token)) + token)
    code, size = struct.unpack_from(">hh", answer)
    text = answer[4 : 4 + size].decode(errors="replace") if size > 0 else ""
    if code != 0:
        named = "authentication failed" if code == _AUTHENTICATION_FAILED else f"error {code}"
        raise BrokerRefused(text or named)
    start = 4 + max(size, 0)
    length = struct.unpack_from(">i", answer, start)[0]
    return answer[start + 4 : start + 4 + max(length, 0)]


def _call(sock: socket.socket, api: int, version: int, body: bytes) -> bytes:
    """One request (header version 1) and its answer without the correlation id."""
    request = struct.pack(">hhi", api, version, 1) + _string("redistill-probe") + body
    sock.sendall(struct.pack(">i", len(request)) + request)
    head = _read(sock, 4)
    if head[0] == _TLS_ALERT and head[1] == 3:
        raise _Closed("answered with a TLS alert")
    size = struct.unpack(">i", head)[0]
    if not 4 <= size <= _MAX_ANSWER_BYTES:
        raise _Closed("what answers there is not Kafka")
    return _read(sock, size)[4:]


def _read(sock: socket.socket, size: int) -> bytes:
    out = b""
    while len(out) < size:
        try:
            chunk = sock.recv(size - len(out))
        except ConnectionError as exc:
            raise _Closed(str(exc)) from None
        if not chunk:
            raise _Closed("it closed the connection")
        out += chunk
    return out


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack(">h", len(raw)) + raw


def _strings(data: bytes) -> list[str]:
    count, at, out = struct.unpack_from(">i", data)[0], 4, []
    for _ in range(count):
        size = struct.unpack_from(">h", data, at)[0]
        out.append(data[at + 2 : at + 2 + size].decode(errors="replace"))
        at += 2 + size
    return out

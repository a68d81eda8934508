"""Doors of the web process: who asks as a client does is answered, whoever else is at the door.

Real sockets against a real process. No test asserts how long an answer took; each asserts that it
came while hundreds of connections that say nothing, or read nothing, are held.
"""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pytest
from certificates import certificate
from doors import Web, rest, web_process
from release_kit import Installation, install
from waiting import eventually

from redistill.workers.settings.settings import Settings
from redistill.workers.store import opening

TOKEN = "0123456789abcdef0123456789abcdef"
BEARER = f"Authorization: Bearer {TOKEN}"
HALF = b"GET /metadata/timestamp.json HTTP/1.1\r\nHost: x\r\nX-Half: "
STAMP = b"GET /metadata/timestamp.json HTTP/1.1\r\nHost: x\r\n" + BEARER.encode() + b"\r\n\r\n"
FILE = "0" * 64 + ".onnx"
LARGE = 16_000_000
"""More than the buffers of a connection over loopback hold."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A published model, and a large file beside it."""
    settings = Settings.load({"home": tmp_path_factory.mktemp("shop") / "home"})
    opening.open(settings).dispose()
    inst = install(settings.root, settings.database_url, clock=time.time)
    inst.register("credit")
    inst.add("credit", "v1", 1, "baseline")
    inst.publish("credit", "v1")
    with (inst.layout.targets / "credit" / FILE).open("wb") as file:
        file.truncate(LARGE)
    yield inst
    inst.database.dispose()


Start = Callable[..., AbstractContextManager[Web]]
QUICK = {"header_seconds": 0.5, "body_seconds": 0.5, "write_seconds": 3.0, "body_bytes": 2_000}


@pytest.fixture(scope="module")
def start(shop: Installation, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Starts a web process."""

    def started(
        *, descriptors: int | None = None, limits: dict[str, Any] | None = None, **more: Any
    ) -> AbstractContextManager[Web]:
        settings = {"home": str(shop.layout.home), "web_token": TOKEN, **more}
        folder = tmp_path_factory.mktemp("web")
        return web_process(settings, folder, descriptors=descriptors, limits=limits)

    return started


@pytest.fixture(scope="module")
def web(start: Start) -> Iterator[Web]:
    """A process as it runs by default."""
    with start() as web:
        yield web


@pytest.fixture(scope="module")
def hasty(start: Start) -> Iterator[Web]:
    """A process that waits for nothing."""
    with start(limits={**QUICK, "denials_per_minute": 5}) as web:
        yield web


def stamp(sock: socket.socket) -> bool:
    """Whether a connection that is kept alive still answers."""
    sock.sendall(STAMP)
    said = b""
    while b"\r\n\r\n" not in said:
        data = sock.recv(65_536)
        if not data:
            return False
        said += data
    head, _, body = said.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split()[0])
    while len(body) < length:
        body += sock.recv(65_536)
    return head.startswith(b"HTTP/1.1 200")


def first(web: Web, request: bytes) -> bytes:
    """How the first answer to a request begins."""
    with web.connect() as sock:
        sock.sendall(request)
        try:
            return sock.recv(12)
        except ConnectionResetError:
            return b""


def close(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def test_connections_that_say_nothing_close_no_door(web: Web) -> None:
    client = web.connect()
    assert stamp(client)
    held = web.flood(300, HALF)  # from the address that health is asked from, too
    held += [s for n in range(2, 6) for s in web.flood(220, HALF, f"127.0.0.{n}")]
    held += web.flood(100, b"", "127.0.0.7")
    assert web.status("/health/live") == 200
    assert web.status("/health/ready") == 200
    assert web.status("/metadata/timestamp.json", "127.0.0.3", BEARER) == 200
    assert stamp(client)  # who had shown the token kept its connection
    close([*held, client])


def test_readers_that_do_not_read_close_no_door(web: Web) -> None:
    client = web.connect()
    assert stamp(client)
    asked = f"GET /targets/credit/{FILE} HTTP/1.1\r\nHost: x\r\n{BEARER}\r\n\r\n".encode()
    held = web.flood(300, asked)
    eventually(lambda: web.status(f"/targets/credit/{FILE}", "127.0.0.1", BEARER) == 503)
    assert web.status("/health/live") == 200
    assert web.status("/health/ready") == 200
    assert stamp(client)
    whole = web.ask(asked.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), "127.0.0.2")
    assert len(whole) > LARGE  # another peer downloads as if nothing was
    close([*held, client])


def test_wrong_tokens_are_told_less_and_less_and_the_right_one_is_taken(hasty: Web) -> None:
    web = hasty
    wrong = "Authorization: Bearer " + "x" * 32
    found = [web.status("/metadata/timestamp.json", "127.0.0.1", wrong) for _ in range(8)]
    assert found == [401] * 5 + [429] * 3
    assert web.status("/metadata/timestamp.json", "127.0.0.1", BEARER) == 200
    assert web.status("/health/live") == 200
    assert web.status("/metadata/timestamp.json", "127.0.0.2", wrong) == 401
    guess = b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer no\r\n\r\n"
    with web.connect() as sock:  # a peer that guesses loses its connection
        sock.sendall(guess + guess)
        assert rest(sock).count(b"HTTP/1.1 429") == 1
    assert "web_denied" in web.log.read_text()
    assert TOKEN not in web.log.read_text()


LATE: dict[str, bytes] = {
    "silent": b"",
    "header": HALF,
    "second header": STAMP + HALF,
    "body": b"GET /health/live HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
    "continue": b"GET /health/live HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
    b"Content-Length: 9\r\n\r\n",
    "chunks": b"POST /health/live HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n",
    "long": b"POST /health/live HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n"
    + b"x" * 5_000,
    "unread": f"GET /targets/credit/{FILE} HTTP/1.1\r\nHost: x\r\n{BEARER}\r\n\r\n".encode(),
    "pipelined": STAMP * 20_000,
}


def test_what_takes_too_long_is_ended(hasty: Web) -> None:
    held: dict[str, socket.socket] = {}
    for name, said in LATE.items():
        held[name] = sock = hasty.connect()
        sock.setblocking(False)
        with suppress(BlockingIOError):
            sock.sendall(said)
    for name, sock in held.items():
        eventually(lambda s=sock: not hasty.holds(s), f"the process ends it: {name}")  # type: ignore[misc]
        sock.close()
    assert hasty.status("/health/live") == 200


def test_who_reads_slowly_gets_the_whole_file(hasty: Web) -> None:
    asked = LATE["unread"][:-2] + b"Connection: close\r\n\r\n"
    took = 0
    with hasty.connect() as sock:
        sock.sendall(asked)
        while data := sock.recv(400_000):
            took += len(data)
            time.sleep(0.05)  # longer in all than a body may take, and an answer that stands still
    assert took > LARGE


def test_dripping_a_header_does_not_prolong_it(hasty: Web) -> None:
    with hasty.connect() as sock:
        sock.sendall(HALF)

        def dripped() -> bool:
            try:
                sock.sendall(b"x")
            except OSError:
                return True
            return False

        eventually(dripped, "the process ends the connection", every=0.05)


def test_tls_that_is_never_agreed_on_closes_no_door(start: Start, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    few = {**QUICK, "header_seconds": 2.0, "per_peer": 40, "connections": 60}
    context = ssl.create_default_context(cafile=str(cert))
    with start(limits=few, web_tls_cert=str(cert), web_tls_key=str(key)) as web:
        held = web.flood(80, b"\x16\x03\x01") + web.flood(20, b"GET / HTTP/1.1\r\n\r\n")
        with web.connect() as raw, context.wrap_socket(raw, server_hostname="127.0.0.1") as sock:
            sock.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert rest(sock).startswith(b"HTTP/1.1 200")
        for sock in held:
            eventually(lambda s=sock: not web.holds(s), "half a handshake is ended")  # type: ignore[misc]
        close(held)


def test_few_descriptors_are_enough(start: Start) -> None:
    with start(descriptors=200) as web:
        held = web.flood(200, HALF) + web.flood(60, LATE["unread"])
        assert web.status("/health/ready") == 200
        assert web.status("/metadata/timestamp.json", "127.0.0.2", BEARER) == 200
        close(held)


def test_a_process_without_descriptors_makes_some(start: Start) -> None:
    with start(descriptors=64, limits={}) as web:  # more are let in than there can be
        held = web.flood(120, HALF)
        assert web.status("/health/live") == 200
        assert "web_out_of_descriptors" in web.log.read_text()
        close(held)


HOST = b"\r\nHost: x\r\n" + BEARER.encode() + b"\r\n\r\n"


def test_odd_requests_are_answered_or_ended(web: Web) -> None:
    target = LATE["unread"][:-2] + b"Connection: close\r\n"
    live = b"GET /health/live HTTP/1.1"
    cases: dict[bytes, bytes] = {
        b"GET /health/live HTTP/1.0\r\n\r\n": b"200",
        live + b"\r\n\r\n": b"400",  # no host
        live + HOST: b"200",
        live + b"\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n": b"200",
        live + b"\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n": b"200",
        live + b"\r\nHost: x\r\nHost: y\r\n\r\n": b"400",
        live + b"\r\nHost: x/health?\r\n\r\n": b"200",
        live + b"\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": b"413",
        live + b"\r\nHost: x\r\nContent-Length: 0\r\n\r\n": b"200",
        live + b"\r\nHost: x\r\nContent-Length: -1\r\n\r\n": b"400",
        live + b"\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n": b"400",
        live + b"\r\nHost: x\r\nX: " + b"y" * 400_000 + b"\r\n\r\n": b"400",
        b"GET http://x/health/live HTTP/1.1" + HOST: b"200",
        b"GET http://[x/health/live HTTP/1.1" + HOST: b"404",
        b"GET " + b"/" * 15_000 + b" HTTP/1.1" + HOST: b"404",
        b"GET /metadata/a%00b HTTP/1.1" + HOST: b"404",
        b"GET /metadata/%ff%fe HTTP/1.1" + HOST: b"404",
        b"GET /metadata/%2e%2e%2f1.root.json HTTP/1.1" + HOST: b"404",
        "GET /metadata/é HTTP/1.1".encode() + HOST: b"400",
        b"GET /metadata/\x00 HTTP/1.1" + HOST: b"400",
        b"BREW /health/live HTTP/1.1" + HOST: b"405",
        b"OPTIONS * HTTP/1.1" + HOST: b"404",
        b"CONNECT x:443 HTTP/1.1" + HOST: b"404",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": b"401",
        b"\x16\x03\x01\x02\x00\x01": b"400",
        target + b"Range: bytes=0-9\r\n\r\n": b"206",
        target + b"Range: bytes=0-0,2-2,4-4\r\n\r\n": b"200",
        target + b"Range: bytes=" + b"0-0," * 3_000 + b"1-1\r\n\r\n": b"200",
        target + b"Range: bytes=99999999999-\r\n\r\n": b"416",
        target + b"Range: bytes=" + b"9" * 5_000 + b"-\r\n\r\n": b"400",
    }  # fmt: skip
    found = {request: first(web, request) for request in cases}
    wrong = {r[:80]: (a, cases[r]) for r, a in found.items() if a[9:12] != cases[r]}
    assert not wrong
    assert web.status("/health/live") == 200


def test_errors_are_json_and_no_form_of_a_request_goes_without_the_token(web: Web) -> None:
    for path in ("/metadata/timestamp.json", "/metrics", "/"):
        said = web.ask(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert said.startswith(b"HTTP/1.1 401")
        assert set(json.loads(said.partition(b"\r\n\r\n")[2])["error"]) == {"code", "message"}
    host = b"GET /metadata/timestamp.json HTTP/1.1\r\nHost: x/health?\r\nConnection: close\r\n\r\n"
    assert web.ask(host).startswith(b"HTTP/1.1 401")  # what a host is called opens nothing
    deep = b"GET http://x/health/../metadata/timestamp.json HTTP/1.1\r\nHost: x\r\n\r\n"
    assert not web.ask(deep.replace(b"Host", b"Connection: close\r\nHost")).startswith(
        b"HTTP/1.1 200"
    )

"""Metrics are answered while others hold the port, and the process keeps its descriptors."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from urllib.error import HTTPError

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from structlog.testing import capture_logs
from waiting import PATIENCE_SECONDS, eventually

from redistill.streams.engine import metrics_server
from redistill.streams.engine.metrics_address import MetricsAddress
from redistill.streams.engine.metrics_server import AT_ONCE, MetricsServer
from redistill.streams.errors import AddressError


@pytest.fixture
def registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    Gauge("rows", "Rows.", registry=registry).set(7)
    return registry


@pytest.fixture
def server(registry: CollectorRegistry) -> Iterator[MetricsServer]:
    made = MetricsServer(registry, MetricsAddress(port=0))
    yield made
    made.close()


@pytest.fixture
def connect(server: MetricsServer) -> Iterator[Callable[[bytes], socket.socket]]:
    held = []

    def connect(said: bytes) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS)
        held.append(sock)
        sock.sendall(said)
        return sock

    yield connect
    for sock in held:
        sock.close()


def scrape(server: MetricsServer) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/plain")
        return str(answer.read().decode())


def said(sock: socket.socket) -> bytes:
    out = b""
    try:
        while data := sock.recv(4_096):
            out += data
    except ConnectionError:
        pass
    return out


def test_numbers_are_told(server: MetricsServer) -> None:
    assert "rows 7.0" in scrape(server)


class Broken(Collector):
    """A collector with a defect."""

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> list[Metric]:
        raise KeyError("column")


def test_why_a_scrape_failed_is_logged_once_in_a_while(
    registry: CollectorRegistry, server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.register(Broken())
    with capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(HTTPError, match="500"):
                scrape(server)
    (line,) = logs
    assert (line["action"], line["log_level"], line["exc_info"]) == ("scrape_failed", "error", True)
    monkeypatch.setattr(metrics_server, "SAID_SECONDS", 0.0)
    server._quiet_until = 0.0
    with capture_logs() as logs, pytest.raises(HTTPError, match="500"):
        scrape(server)
    assert len(logs) == 1


def test_scrapes_go_on_after_no_thread_was_left(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = threading.Event()
    start = threading.Thread.start

    def none_left(thread: threading.Thread) -> None:
        if thread.name == "metrics-scrape" and not refused.is_set():
            refused.set()
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(metrics_server, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(threading.Thread, "start", none_left)
    with pytest.raises(OSError):
        scrape(server)
    assert refused.is_set()
    assert "rows 7.0" in scrape(server)
    eventually(lambda: not server._open, "both connections are closed")


def _scraping() -> int:
    return sum(t.name == "metrics-scrape" for t in threading.enumerate())


def test_connections_that_say_nothing_are_in_nobodys_way(
    server: MetricsServer, connect: Callable[[bytes], socket.socket]
) -> None:
    held = [connect(b"GET /metrics HTTP/1.1\r\nX: ") for _ in range(300)]
    assert "rows 7.0" in scrape(server)
    eventually(lambda: len(server._open) <= AT_ONCE, "no more are open")
    eventually(lambda: _scraping() <= 2 * AT_ONCE, "threads end with their connections")
    assert said(held[0]) == b""


def test_a_header_has_its_time_however_it_drips(
    connect: Callable[[bytes], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_server, "HEADER_SECONDS", 0.2)
    sock = connect(b"GET /metrics HTTP/1.1\r\n")

    def ended() -> bool:
        try:
            sock.sendall(b"x")
        except OSError:
            return True
        return False

    eventually(ended, "it is ended", every=0.02)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /metrics?x=1 HTTP/1.1\r\n\r\n", b"200"),
        (b"HEAD / HTTP/1.0\n\n", b"200"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"GET /../keys HTTP/1.1\r\n\r\n", b"404"),
        (b"\x16\x03\x01\r\n\r\n", b"400"),
        (b"\r\n\r\n", b"400"),
    ],
)
def test_what_is_no_scrape_is_told(
    connect: Callable[[bytes], socket.socket], request_: bytes, status: bytes
) -> None:
    assert said(connect(request_))[9:12] == status


TOKEN = b"t" * 32


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"", b"401"),
        (b"Authorization: Bearer " + TOKEN, b"200"),
        (b"authorization:bearer  " + TOKEN, b"200"),
        (b"Authorization: Bearer " + TOKEN[:-1], b"401"),
        (b"Authorization: Bearer " + TOKEN + b"t", b"401"),
        (b"Authorization: Basic " + TOKEN, b"401"),
        (b"Authorization: Bearer", b"401"),
        (b"X-Authorization: Bearer " + TOKEN, b"401"),
    ],
)
@pytest.mark.parametrize("request_", [b"GET /metrics HTTP/1.1", b"POST /x HTTP/1.1"])
def test_whoever_does_not_show_the_token_is_told_nothing(
    registry: CollectorRegistry, header: bytes, status: bytes, request_: bytes
) -> None:
    server = MetricsServer(registry, MetricsAddress(port=0, token=TOKEN.decode()))
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as sock:
            sock.sendall(request_ + b"\r\nHost: x\r\n" + header + b"\r\n\r\n")
            answer = said(sock)
    finally:
        server.close()
    assert answer[9:12] == (b"405" if status == b"200" and b"POST" in request_ else status)
    assert (b"rows 7.0" in answer) == (answer[9:12] == b"200")
    assert (b"WWW-Authenticate: Bearer" in answer) == (answer[9:12] == b"401")


def test_numbers_that_do_not_come_hold_up_few(
    server: MetricsServer, registry: CollectorRegistry,
    connect: Callable[[bytes], socket.socket], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    may, asked = threading.Event(), []

    class Stuck:
        """A collector whose database hangs."""

        def describe(self) -> list[object]:
            return []

        def collect(self) -> list[object]:
            asked.append(1)
            may.wait()
            return []

    registry.register(Stuck())  # type: ignore[arg-type]
    monkeypatch.setattr(metrics_server, "ANSWER_SECONDS", 0.05)
    first = connect(b"GET /metrics HTTP/1.1\r\n\r\n")
    eventually(lambda: asked, "it is asked")
    assert said(connect(b"GET /metrics HTTP/1.1\r\n\r\n"))[9:12] == b"503"
    assert asked == [1]
    may.set()
    assert said(first)[9:12] == b"200"
    assert "rows 7.0" in scrape(server)


def test_a_process_without_descriptors_serves_again_when_it_has_some() -> None:
    program = """if True:
        import resource, socket
        from prometheus_client import CollectorRegistry
        from redistill.streams.engine.metrics_address import MetricsAddress
        from redistill.streams.engine.metrics_server import MetricsServer
        server = MetricsServer(CollectorRegistry(), MetricsAddress(port=0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        address = ("127.0.0.1", server.port)
        held = []
        try:
            while True:
                held.append(socket.create_connection(address))
        except OSError:
            pass  # none is left
        for sock in held:
            sock.close()
        with socket.create_connection(address, timeout=60) as sock:
            sock.sendall(b"GET /metrics HTTP/1.1\\r\\n\\r\\n")
            print(sock.recv(12))
    """
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    assert ran.stdout == "b'HTTP/1.1 200'\n"
    assert ran.stderr == ""


def test_host_that_is_not_ours_is_told_in_words(registry: CollectorRegistry) -> None:
    for host in ("nobody.invalid", "192.0.2.1"):
        with pytest.raises(AddressError, match=f"cannot listen on {host}:7: .*--metrics-host") as e:
            MetricsServer(registry, MetricsAddress(port=7, host=host, token="t" * 32))
        assert "while" not in str(e.value)
        assert e.value.exit_code == 2


def test_who_closed_it_has_the_port_back(
    server: MetricsServer, registry: CollectorRegistry
) -> None:
    with pytest.raises(AddressError):
        MetricsServer(registry, MetricsAddress(port=server.port))
    server.close()
    server.close()
    eventually(lambda: again(server.port, registry), "the port is free")


def again(port: int, registry: CollectorRegistry) -> bool:
    try:
        MetricsServer(registry, MetricsAddress(port=port)).close()
    except AddressError:
        return False
    return True

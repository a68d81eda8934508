"""How the repository's files are read: whole, with a token, and told why where they are not."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ports import free_port
from tuf.api.exceptions import DownloadError, DownloadHTTPError, SlowRetrievalError

from redistill.streams.client import transport
from redistill.streams.client.transport import (
    CHUNK_BYTES,
    CONNECT_SECONDS,
    READ_SECONDS,
    FolderFetcher,
    HttpFetcher,
)

BODY = bytes(range(256)) * (CHUNK_BYTES // 128)
"""More than one piece."""


class Handler(BaseHTTPRequestHandler):
    """Answers by path, and remembers what it was asked with."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(dict(self.headers))  # type: ignore[attr-defined]
        self.server.peers.add(self.client_address)  # type: ignore[attr-defined]
        if self.path == "/drip":
            self._drip()
            return
        status = int(self.path.strip("/"))
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/200")
        body = BODY if status == 200 else b"no"
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        with contextlib.suppress(OSError):
            while not self.server.done.wait(0.01):  # type: ignore[attr-defined]
                self.wfile.write(b"x")

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.asked, made.peers = [], set()  # type: ignore[attr-defined]
    made.done = threading.Event()  # type: ignore[attr-defined]
    made.daemon_threads = True
    made.handle_error = lambda *_: None  # type: ignore[method-assign]  # who hangs up is no news
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.done.set()  # type: ignore[attr-defined]
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def fetcher() -> Iterator[HttpFetcher]:
    made = HttpFetcher("secret", None)
    yield made
    made.close()


def url(server: ThreadingHTTPServer, status: int) -> str:
    return f"http://127.0.0.1:{server.server_port}/{status}"


def test_folder_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "a file.bin"
    path.write_bytes(BODY)
    pieces = list(FolderFetcher()._fetch(path.as_uri()))
    assert b"".join(pieces) == BODY
    assert max(map(len, pieces)) == CHUNK_BYTES


def test_file_that_is_missing_is_a_404_as_on_the_web(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path, tmp_path / "none" / "x"):
        with pytest.raises(DownloadHTTPError) as caught:
            FolderFetcher()._fetch(path.as_uri())
        assert caught.value.status_code == 404


def test_page_is_read_in_pieces_with_the_token(
    server: ThreadingHTTPServer, fetcher: HttpFetcher
) -> None:
    assert b"".join(fetcher._fetch(url(server, 200))) == BODY
    (asked,) = server.asked  # type: ignore[attr-defined]
    assert (asked["Authorization"], asked["User-Agent"]) == ("Bearer secret", "redistill")


def test_connection_is_kept_while_answers_are_read_to_their_end(
    server: ThreadingHTTPServer, fetcher: HttpFetcher
) -> None:
    for _ in range(3):
        assert sum(map(len, fetcher._fetch(url(server, 200)))) == len(BODY)
    assert len(server.peers) == 1  # type: ignore[attr-defined]
    for _ in range(2):
        pieces = fetcher._fetch(url(server, 200))
        next(pieces)
        pieces.close()  # type: ignore[attr-defined]  # TUF takes no more than was signed
    assert sum(map(len, fetcher._fetch(url(server, 200)))) == len(BODY)


@pytest.mark.parametrize(
    ("status", "hint"),
    [(401, "give ModelClient the repository's token"), (403, "token is wrong"), (404, "404"), (500, "500")],
)  # fmt: skip
def test_refusal_is_told_with_what_to_do(
    server: ThreadingHTTPServer, fetcher: HttpFetcher, status: int, hint: str
) -> None:
    with pytest.raises(DownloadHTTPError, match=hint) as caught:
        fetcher._fetch(url(server, status))
    assert caught.value.status_code == status


def test_redirect_is_not_followed_with_the_token(
    server: ThreadingHTTPServer, fetcher: HttpFetcher
) -> None:
    with pytest.raises(DownloadHTTPError):
        fetcher._fetch(url(server, 302))
    assert len(server.asked) == 1  # type: ignore[attr-defined]


def test_server_that_is_away_is_a_download_error(fetcher: HttpFetcher) -> None:
    with pytest.raises(DownloadError, match=r"NewConnectionError|Connection refused"):
        fetcher._fetch(f"http://127.0.0.1:{free_port()}/200")


def test_waits_are_bounded(fetcher: HttpFetcher) -> None:
    timeout = fetcher._pool.connection_pool_kw["timeout"]
    assert (timeout.connect_timeout, timeout.read_timeout) == (CONNECT_SECONDS, READ_SECONDS)


def test_a_server_that_drips_holds_nobody_up(
    server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "PATIENCE_SECONDS", 0.2)
    fetcher = HttpFetcher(None, None)
    with pytest.raises(SlowRetrievalError, match=r"/drip is too slow: \d+ bytes so far"):
        fetcher.download_bytes(f"http://127.0.0.1:{server.server_address[1]}/drip", 1_000_000)
    fetcher.close()


def test_what_a_server_says_is_quoted_in_short() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_babble, args=(listener,))
        thread.start()
        fetcher = HttpFetcher(None, None)
        with pytest.raises(DownloadError) as caught:
            fetcher.fetch(f"http://127.0.0.1:{listener.getsockname()[1]}/x")
        thread.join()
    assert "BadStatusLine" in str(caught.value)
    assert len(str(caught.value)) < 300


def _babble(listener: socket.socket) -> None:
    """No HTTP, to each of two attempts."""
    for _ in range(2):
        connection, _ = listener.accept()
        with connection:
            connection.recv(4_096)
            connection.sendall(b"x" * 2_000 + b"\r\n")

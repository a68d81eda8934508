"""How the repository's files are read: whole, with a token, and told why where they are not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ports import free_port
from tuf.api.exceptions import DownloadError, DownloadHTTPError

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
        status = int(self.path.strip("/"))
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/200")
        body = BODY if status == 200 else b"no"
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.asked, made.peers = [], set()  # type: ignore[attr-defined]
    made.daemon_threads = True
    made.handle_error = lambda *_: None  # type: ignore[method-assign]  # who hangs up is no news
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
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

"""Transport of the repository's files: from a folder, or over HTTP with a token."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import urllib3
from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    SlowRetrievalError,
)
from tuf.ngclient import FetcherInterface

__all__ = ["FolderFetcher", "HttpFetcher"]

CHUNK_BYTES = 256 * 1024
CONNECT_SECONDS = 3.0
"""A server in the same network answers within milliseconds; a poll comes again anyway."""

READ_SECONDS = 10.0
"""Longest silence in the middle of an answer."""

PATIENCE_SECONDS, SLOWEST = 30.0, 10_000
"""A file has so many seconds, and one more for each so many bytes that came: a server that drips
would hold up a start for hours, with a cache and a fallback at hand."""
MOST_SAID = 200
"""Characters of what a connection says is wrong: a server that speaks no HTTP is quoted in it."""


class MemoryFetcher(FetcherInterface):
    """Keeps what it reads in memory: python-tuf would put each file into the machine's temporary
    folder first, which may be full, or missing in a container.
    """

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """The content of an address; ``DownloadError`` as ``FetcherInterface`` says."""
        data = bytearray()
        try:
            for chunk in self.fetch(url):
                data += chunk
                if len(data) > max_length:
                    raise DownloadLengthMismatchError(
                        f"{url} has more than the {max_length:,} bytes that are allowed"
                    )
        except OSError as error:
            raise DownloadError(f"{url} cannot be read: {error.strerror or error}") from error
        return bytes(data)


class FolderFetcher(MemoryFetcher):
    """Reads ``file://`` addresses."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = Path(unquote(urlsplit(url).path))
        try:
            file = path.open("rb")
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise DownloadHTTPError(f"{path} does not exist", 404) from error
        except OSError as error:
            raise DownloadError(f"{path} cannot be read: {error}") from error

        def chunks() -> Iterator[bytes]:
            with file:
                while chunk := file.read(CHUNK_BYTES):
                    yield chunk

        return chunks()


class HttpFetcher(MemoryFetcher):
    """Reads ``http://`` and ``https://`` addresses, with a bearer token, following no redirects.

    Parameters
    ----------
    token
        Sent as ``Authorization: Bearer``. A redirect would hand it to a stranger.
    ca
        Path of the CA certificates in PEM; ``None``: the system's.
    """

    def __init__(self, token: str | None, ca: str | None) -> None:
        self._headers = {"User-Agent": "redistill"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._pool = urllib3.PoolManager(
            maxsize=2,
            cert_reqs="CERT_REQUIRED",
            ca_certs=ca,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
            retries=urllib3.Retry(total=1, redirect=0, backoff_factor=0.1),
        )

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            response = self._pool.request(
                "GET", url, headers=self._headers, preload_content=False, redirect=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise DownloadError(f"{url}: {_cause(error)}") from error
        if response.status != 200:
            response.close()  # what it says is not read: the connection is of no more use
            hint = {401: "; give ModelClient the repository's token", 403: "; the token is wrong"}
            raise DownloadHTTPError(
                f"{url} answered {response.status}{hint.get(response.status, '')}", response.status
            )

        def chunks() -> Iterator[bytes]:
            since, got = time.monotonic(), 0
            try:
                # piece by piece as they come: whoever waits for a whole chunk hears of no drip
                while piece := response.read1(CHUNK_BYTES):
                    got += len(piece)
                    if time.monotonic() - since > PATIENCE_SECONDS + got / SLOWEST:
                        raise SlowRetrievalError(f"{url} is too slow: {got:,} bytes so far")
                    yield piece
            except urllib3.exceptions.TimeoutError as error:
                raise SlowRetrievalError(f"{url} stopped answering") from error
            except urllib3.exceptions.HTTPError as error:
                raise DownloadError(f"{url}: {_cause(error)}") from error
            finally:
                response.close()  # one that was read to its end is in the pool again already

        return chunks()

    def close(self) -> None:
        """Close idle connections."""
        self._pool.clear()


def _cause(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    return f"{type(reason).__name__}: {str(reason)[:MOST_SAID]}"

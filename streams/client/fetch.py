"""Repository, as a client reads it: signed, a folder or an HTTP server, read through python-tuf.

python-tuf refuses what is not signed, was changed, is older than what was seen before, or has
expired; this module adds the transport, a cache that several processes may share, and our formats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tuf.api.exceptions import DownloadError, ExpiredMetadataError, RepositoryError
from tuf.api.metadata import TargetFile
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from redistill.files import put, sha256_of_bytes
from redistill.streams.client.cache import Cache
from redistill.streams.client.release import (
    CLIENT_FILES,
    MANIFEST_FILE,
    POINTER_FILE,
    Manifest,
    PointerFile,
    target_name,
    verify,
)
from redistill.streams.client.transport import FolderFetcher, HttpFetcher
from redistill.streams.errors import ReleaseError

__all__ = ["Repository"]

MAX_MANIFEST_BYTES = 4 * 1024 * 1024


class _Updater(Updater):
    """python-tuf's client, which goes on where the cache cannot be written: a roll-back must reach
    a service whose disk is full. What it read is checked and in memory; only whether something is
    older than what was seen is judged by the cache, as it was when it could be written.

    Parameters
    ----------
    failed
        Called with what could not be written, and why.
    """

    def __init__(self, failed: Callable[[OSError], None], *args: Any, **more: Any) -> None:
        self._failed = failed
        super().__init__(*args, **more)

    def _persist_metadata(self, rolename: str, data: bytes) -> None:
        self._attempt(super()._persist_metadata, rolename, data)

    def _persist_root(self, version: int, data: bytes) -> None:
        self._attempt(super()._persist_root, version, data)

    def _update_root_symlink(self) -> None:
        self._attempt(super()._update_root_symlink)

    def _attempt(self, write: Callable[..., None], *args: Any) -> None:
        try:
            write(*args)
        except OSError as error:
            self._failed(error)


class Repository:
    """A signed repository as a service sees it. Not to be shared by threads without a lock.

    Parameters
    ----------
    address
        The repository's folder, or its ``http(s)://`` address (what ``redistill run web`` serves).
    trust
        The root metadata that ``redistill keys export`` wrote: path or bytes. Everything else is
        checked against it.
    cache
        Where to keep metadata and releases; processes may share it. ``None``: a folder of this
        user's, or a private temporary one where there is none. Relative to where the process stands
        when this is made.
    token, ca
        See :class:`redistill.streams.client.transport.HttpFetcher`.

    Raises
    ------
    ReleaseError
        ``trust`` is no root metadata, ``address`` makes no sense, or the cache cannot be written.
    """

    def __init__(
        self,
        address: str | Path,
        trust: str | Path | bytes,
        *,
        cache: str | Path | None = None,
        token: str | None = None,
        ca: str | None = None,
    ) -> None:
        self.address = str(address)
        token = _checked(token)
        self._base, web = _base(self.address, token)
        self._trust = _read_trust(trust)
        if ca is not None and not Path(ca).is_file():
            raise ReleaseError(f"the CA certificates {ca} do not exist or are no file")
        self._token, self._ca = token, None if ca is None else str(Path(ca).absolute())
        self._fetcher: FetcherInterface
        self._fetcher = HttpFetcher(token, self._ca) if web else FolderFetcher()
        key = sha256_of_bytes(self.address.encode() + b"\0" + self._trust)[:16]
        self._cache = Cache(cache, key)
        self._config = UpdaterConfig(
            prefix_targets_with_hash=False,  # files are named by their hash already
            snapshot_max_length=20_000_000,  # about 26 bytes a model and role
            targets_max_length=20_000_000,
        )
        self._updater: Updater | None = None

    @property
    def cache(self) -> Path:
        """Folder of the cache."""
        return self._cache.folder

    @property
    def trouble(self) -> str | None:
        """Why the last look could not be kept in the cache; ``None`` when all is well."""
        return self._cache.trouble

    def reopen(self) -> None:
        """Drop what is another process's: connections, and the lock (call it after a fork)."""
        self._cache.forked()
        if isinstance(self._fetcher, HttpFetcher):
            self._fetcher = HttpFetcher(self._token, self._ca)
        self._updater = None

    def close(self) -> None:
        """Close idle connections."""
        if isinstance(self._fetcher, HttpFetcher):
            self._fetcher.close()

    def pointer(self, model: str) -> PointerFile:
        """Read the signed metadata anew and return the model's pointer.

        Raises
        ------
        ReleaseError
            The repository cannot be reached, or what it holds was refused; the message says why.
        """
        with self._cache.locked(), self._explained():
            updater = self._opened()
            updater.refresh()
            self._updater = updater
            info = self._info(f"{model}/{POINTER_FILE}")
            if info is None:
                raise ReleaseError(f"{self.address} holds no release of a model named {model!r}")
            # The only file whose name does not say its hash: TUF's prefix keeps old and new apart.
            name = f"{model}/{info.hashes['sha256']}.{POINTER_FILE}"
            data = self._bytes(info, name)
        pointer = PointerFile.from_json(data)
        if pointer.model != model:
            raise ReleaseError(f"the pointer of {model!r} is about {pointer.model!r}")
        return pointer

    def release(self, model: str, manifest_sha256: str) -> Path:
        """A release's folder in the cache, downloaded and verified, with the files of a service.

        Call :meth:`pointer` first: what it read decides what may be downloaded.

        Parameters
        ----------
        model
            Name of the model.
        manifest_sha256
            As the pointer names it.

        Returns
        -------
        pathlib.Path
            Holds ``manifest.json``, ``model.onnx`` and ``golden.npz``.

        Raises
        ------
        ReleaseError
            It is not in the repository, or what was downloaded was refused.
        """
        folder = self.cached(model, manifest_sha256)
        if folder is not None:
            return folder
        final = self._cache.release(model, manifest_sha256)
        with self._cache.locked(), self._explained(), self._cache.part(model) as part:
            info = self._target(target_name(model, MANIFEST_FILE, manifest_sha256))
            data = self._bytes(info, info.path)
            (part / MANIFEST_FILE).write_bytes(data)
            manifest = Manifest.from_json(data)
            if manifest.model != model:
                raise ReleaseError(f"the release is of {manifest.model!r}, not of {model!r}")
            for name in CLIENT_FILES:
                entry = manifest.files.get(name)
                if entry is None:
                    raise ReleaseError(f"release {manifest.version} has no {name}")
                info = self._target(target_name(model, name, entry.sha256))
                (part / name).write_bytes(self._read(info, info.path))
            verify(part, manifest, names=CLIENT_FILES)
            put(part, final)  # one that is there is damaged: `cached` did not find it
        return final

    def cached(self, model: str, manifest_sha256: str) -> Path | None:
        """The release's folder if it was downloaded before and is intact; ``None`` otherwise."""
        return self._cache.whole(model, manifest_sha256)

    def trying(self) -> AbstractContextManager[None]:
        """No other process that uses the cache tries a release meanwhile."""
        return self._cache.trying()

    def forget(self, model: str, keep: set[str]) -> None:
        """Delete cached releases of a model but those whose manifest hash is in ``keep``."""
        self._cache.forget(model, keep)

    def _opened(self) -> Updater:
        try:
            return _Updater(
                self._cache.failed,
                str(self.cache / "metadata"),
                f"{self._base}/metadata/",
                None,
                f"{self._base}/targets/",
                fetcher=self._fetcher,
                config=self._config,
                bootstrap=self._trust,
            )
        except RepositoryError as error:
            raise ReleaseError(
                f"the trust given for {self.address} is no root metadata ({error}): give what"
                " `redistill keys export` writes"
            ) from error

    def _info(self, path: str) -> TargetFile | None:
        if self._updater is None:
            raise ReleaseError("the repository was not read yet")
        return self._updater.get_targetinfo(path)

    def _target(self, path: str) -> TargetFile:
        info = self._info(path)
        if info is None:
            raise ReleaseError(f"{self.address}: {path} is not among the signed files")
        return info

    def _bytes(self, info: TargetFile, name: str) -> bytes:
        if info.length > MAX_MANIFEST_BYTES:
            raise ReleaseError(f"{name} has {info.length} bytes; {MAX_MANIFEST_BYTES} are allowed")
        return self._read(info, name)

    def _read(self, info: TargetFile, name: str) -> bytes:
        data = self._fetcher.download_bytes(f"{self._base}/targets/{name}", info.length)
        info.verify_length_and_hashes(data)
        return data

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except ExpiredMetadataError as error:
            raise ReleaseError(
                f"{self.address}: the signed metadata have expired ({error}): it is"
                f" {datetime.now(UTC):%Y-%m-%d} by this machine's clock; is that right, and is a"
                " repair worker running that signs them again?"
            ) from error
        except RepositoryError as error:
            raise ReleaseError(
                f"{self.address} was refused: {type(error).__name__}: {error}"
            ) from error
        except DownloadError as error:
            raise ReleaseError(f"{self.address} cannot be read: {error}") from error
        except OSError as error:
            raise ReleaseError(self._cache.why(error)) from error


def _base(address: str, token: str | None) -> tuple[str, bool]:
    """The address that everything is relative to, and whether it is a web address."""
    try:
        url = urlsplit(address)
    except ValueError as error:
        raise ReleaseError(f"{address}: {error}; https://host:8443 was expected") from error
    if url.scheme in ("http", "https"):
        if "@" in url.netloc:  # not repeated: a password is in it
            raise ReleaseError("the repository's address takes no user name and no password")
        if not url.hostname or url.query or url.fragment:
            raise ReleaseError(f"{address}: an address like https://host:8443 was expected")
        if url.scheme == "http" and token and url.hostname not in ("127.0.0.1", "::1", "localhost"):
            raise ReleaseError(f"{address}: a token is not sent without TLS; use https")
        return address.rstrip("/"), True
    if url.scheme == "file":
        return Path(unquote(url.path)).absolute().as_uri(), False
    if "://" in address:
        raise ReleaseError(
            f"{address}: a folder, or an address with http:// or https://, was expected"
        )
    return Path(address).absolute().as_uri(), False


def _checked(token: str | None) -> str | None:
    """A token as it stands in a header, without the white space of the file that it came from."""
    text = (token or "").strip()
    if not text.isascii() or not text.isprintable():
        raise ReleaseError("the token holds signs that no header takes; is it the right file?")
    return text or None


def _read_trust(trust: str | Path | bytes) -> bytes:
    if isinstance(trust, bytes):
        return trust
    try:
        return Path(trust).read_bytes()
    except OSError as error:
        raise ReleaseError(
            f"the trust file {trust} cannot be read: {error.strerror}; "
            "`redistill keys export` writes it"
        ) from error

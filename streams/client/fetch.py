"""Repository, as a client reads it: signed, a folder or an HTTP server, read through python-tuf.

python-tuf refuses what is not signed, was changed, is older than what was seen before, or has
expired; this module adds the transport, a cache that several processes may share, and our formats.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tuf.api.exceptions import DownloadError, ExpiredMetadataError, RepositoryError
from tuf.api.metadata import TargetFile
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from redistill.files import put, sha256_of_bytes
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

LOCK_SECONDS = 15.0
"""How long a refresh waits for another process that uses the same cache."""

MAX_MANIFEST_BYTES = 4 * 1024 * 1024


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
        self._base, web = _base(self.address, token)
        self._trust = _read_trust(trust)
        if ca is not None and not Path(ca).is_file():
            raise ReleaseError(f"the CA certificates {ca} do not exist or are no file")
        self._token, self._ca = token, None if ca is None else str(Path(ca).absolute())
        self._fetcher: FetcherInterface
        self._fetcher = HttpFetcher(token, self._ca) if web else FolderFetcher()
        self.cache = _cache_folder(cache, self.address, self._trust)
        self._config = UpdaterConfig(
            prefix_targets_with_hash=False,  # files are named by their hash already
            snapshot_max_length=20_000_000,  # about 26 bytes a model and role
            targets_max_length=20_000_000,
        )
        self._updater: Updater | None = None

    def reopen(self) -> None:
        """Drop connections made by another process (call it after a fork)."""
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
        with self._locked(), self._explained():
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
        final = self._release_folder(model, manifest_sha256)
        with self._locked(), self._explained():
            final.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary = Path(tempfile.mkdtemp(dir=final.parent, prefix=".new-"))
            try:
                info = self._target(target_name(model, MANIFEST_FILE, manifest_sha256))
                data = self._bytes(info, info.path)
                (temporary / MANIFEST_FILE).write_bytes(data)
                manifest = Manifest.from_json(data)
                if manifest.model != model:
                    raise ReleaseError(f"the release is of {manifest.model!r}, not of {model!r}")
                for name in CLIENT_FILES:
                    entry = manifest.files.get(name)
                    if entry is None:
                        raise ReleaseError(f"release {manifest.version} has no {name}")
                    self._download(target_name(model, name, entry.sha256), temporary / name)
                verify(temporary, manifest, names=CLIENT_FILES)
                put(temporary, final)  # one that is there is damaged: `cached` did not find it
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        return final

    def cached(self, model: str, manifest_sha256: str) -> Path | None:
        """The release's folder if it was downloaded before and is intact; ``None`` otherwise."""
        folder = self._release_folder(model, manifest_sha256)
        try:
            data = (folder / MANIFEST_FILE).read_bytes()
            if sha256_of_bytes(data) != manifest_sha256:
                return None
            verify(folder, Manifest.from_json(data), names=CLIENT_FILES)
        except (OSError, ReleaseError):
            return None
        return folder

    def forget(self, model: str, keep: set[str]) -> None:
        """Delete cached releases of a model but those whose manifest hash is in ``keep``."""
        parent = self.cache / "releases" / model
        if parent.is_dir():
            for folder in parent.iterdir():
                if folder.is_dir() and folder.name not in keep and not folder.name.startswith("."):
                    shutil.rmtree(folder, ignore_errors=True)

    def _release_folder(self, model: str, manifest_sha256: str) -> Path:
        return self.cache / "releases" / model / manifest_sha256

    def _opened(self) -> Updater:
        try:
            return Updater(
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
        data = self._fetcher.download_bytes(f"{self._base}/targets/{name}", info.length)
        info.verify_length_and_hashes(data)
        return data

    def _download(self, path: str, destination: Path) -> None:
        info = self._target(path)
        if self._updater is not None:
            self._updater.download_target(info, str(destination))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time in a cache: python-tuf's files there are not made for two."""
        with (self.cache / "lock").open("ab") as file:
            end = time.monotonic() + LOCK_SECONDS
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        raise ReleaseError(
                            f"the cache {self.cache} stayed locked by another process for "
                            f"{LOCK_SECONDS:g} s; give each service its own"
                        ) from None
                    time.sleep(0.01)
            try:
                yield
            finally:
                # Closing is not enough: a child forked meanwhile holds the same open file.
                fcntl.flock(file, fcntl.LOCK_UN)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except ExpiredMetadataError as error:
            raise ReleaseError(
                f"{self.address}: the signed metadata have expired ({error}); is a repair worker "
                "running that signs them again?"
            ) from error
        except RepositoryError as error:
            raise ReleaseError(
                f"{self.address} was refused: {type(error).__name__}: {error}"
            ) from error
        except DownloadError as error:
            raise ReleaseError(f"{self.address} cannot be read: {error}") from error
        except OSError as error:
            raise ReleaseError(f"the cache {self.cache} cannot be used: {error}") from error


def _base(address: str, token: str | None) -> tuple[str, bool]:
    """The address that everything is relative to, and whether it is a web address."""
    try:
        url = urlsplit(address)
    except ValueError as error:
        raise ReleaseError(f"{address}: {error}; https://host:8443 was expected") from error
    if url.scheme in ("http", "https"):
        if not url.hostname or url.username or url.query or url.fragment:
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


def _cache_folder(cache: str | Path | None, address: str, trust: bytes) -> Path:
    """A folder for this repository and trust that nobody else can write to."""
    key = sha256_of_bytes(address.encode() + b"\0" + trust)[:16]
    place = Path(cache if cache is not None else "~/.cache/redistill")
    try:
        # The child that tries a release stands elsewhere, and so may the service later.
        parent = place.expanduser().absolute()
        folder = parent / key
        parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(exist_ok=True, mode=0o700)  # the mode is not for the parents
        (folder / "metadata").mkdir(exist_ok=True, mode=0o700)
        info = folder.stat()
        if info.st_uid != os.geteuid() or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise PermissionError("others may write to it")
        with (folder / "lock").open("ab"):
            return folder
    except (OSError, RuntimeError) as error:
        if cache is not None:
            raise ReleaseError(f"the cache {cache} cannot be used: {error}") from error
    folder = Path(tempfile.mkdtemp(prefix="redistill-"))
    (folder / "metadata").mkdir()
    return folder

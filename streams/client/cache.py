"""Cache of signed metadata and releases: a folder that several processes may share, and that may be
full, read-only or gone.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redistill.files import sha256_of_bytes
from redistill.streams.client.release import CLIENT_FILES, MANIFEST_FILE, Manifest, verify
from redistill.streams.errors import ReleaseError

__all__ = ["Cache", "reason"]

LOCK_SECONDS = 15.0
"""How long a refresh waits for another process that uses the same cache."""
TRY_SECONDS = 60.0
"""How long a process waits for another one that tries a new release, which takes seconds."""
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
"""What no argument of a service changes: it starts all the same."""
_UNWRITABLE = _NO_ROOM | {errno.EACCES, errno.EPERM}
_PART = ".new-"
"""First characters of the folder of a download that is under way."""

log = logging.getLogger("redistill.client")


class Cache:
    """Where one repository under one trust is kept.

    Parameters
    ----------
    place
        Folder for the caches of all repositories. ``None``: this user's, or a private temporary one
        where that cannot be used. Relative to where the process stands when this is made.
    key
        What tells this repository and trust from others.

    Raises
    ------
    ReleaseError
        ``place`` was given and cannot be used.
    """

    def __init__(self, place: str | Path | None, key: str) -> None:
        self.trouble: str | None = None
        """Why it could not be written when that was tried last; ``None`` when all is well."""
        self._descriptors: set[int] = set()  # of locks while they are held or waited for
        self.folder = _folder(place, key)

    def releases(self, model: str) -> Path:
        """Folder for the releases of a model."""
        return self.folder / "releases" / model

    def release(self, model: str, manifest_sha256: str) -> Path:
        """Folder of one release, whether or not it is there."""
        return self.releases(model) / manifest_sha256

    def whole(self, model: str, manifest_sha256: str) -> Path | None:
        """A release's folder if it is there and intact; ``None`` otherwise."""
        folder = self.release(model, manifest_sha256)
        try:
            data = (folder / MANIFEST_FILE).read_bytes()
            if sha256_of_bytes(data) != manifest_sha256:
                return None
            verify(folder, Manifest.from_json(data), names=CLIENT_FILES)
        except (OSError, ReleaseError):
            return None
        return folder

    def forget(self, model: str, keep: set[str]) -> None:
        """Delete the releases of a model but those whose manifest hash is in ``keep``."""
        parent = self.releases(model)
        if parent.is_dir():
            for folder in parent.iterdir():
                if folder.is_dir() and folder.name not in keep and not folder.name.startswith("."):
                    shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def part(self, model: str) -> Iterator[Path]:
        """A folder for a download, which is gone afterwards unless it got another name.

        What killed processes left of theirs is removed: call it with the lock.
        """
        parent = self.releases(model)
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._descriptors:
            for left in parent.glob(f"{_PART}*"):
                shutil.rmtree(left, ignore_errors=True)
        made = Path(tempfile.mkdtemp(dir=parent, prefix=_PART))
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time: python-tuf's files are not made for two.

        Raises
        ------
        ReleaseError
            Another process does not let go, or the folder belongs to somebody else now.
        """
        self.trouble = None
        with self._held("lock", LOCK_SECONDS) as held:
            if not held:
                raise ReleaseError(
                    f"the cache {self.folder} stayed locked by another process for "
                    f"{LOCK_SECONDS:g} s; give each service its own"
                )
            yield

    @contextmanager
    def trying(self) -> Iterator[None]:
        """One process at a time, if it does not take too long: forty workers of a service that hear
        of a new release need not try it forty times at once.
        """
        with self._held("trying", TRY_SECONDS):
            yield

    @contextmanager
    def _held(self, name: str, seconds: float) -> Iterator[bool]:
        try:
            descriptor = self._opened(name)
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                raise ReleaseError(self.why(error)) from error
            self.failed(error)  # where nobody can make the lock's file, nobody writes
            yield True
            return
        self._descriptors.add(descriptor)
        try:
            yield self._wait(descriptor, seconds)
        finally:
            self._descriptors.discard(descriptor)
            # Closing is not enough: a child forked meanwhile holds the same open file.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def failed(self, error: OSError) -> None:
        """Something could not be written: go on without it, and say so."""
        self.trouble = f"{self.why(error)}; a restart may serve an older release"

    def why(self, error: OSError) -> str:
        """A message that is the same at each look, whatever the name of a temporary file was."""
        return f"the cache {self.folder} cannot be used: {reason(error)}"

    def forked(self) -> None:
        """In the child of a fork: the locks are the parent's."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _opened(self, name: str) -> int:
        """A lock's file, in a folder that may have been removed since the last look."""
        path = self.folder / name
        try:
            _prepare(self.folder)
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                raise
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def _wait(self, descriptor: int, seconds: float) -> bool:
        """Whether the lock was got in time."""
        end = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() > end:
                    return False
                time.sleep(0.01)
            except OSError as error:
                raise ReleaseError(self.why(error)) from error


def reason(error: OSError) -> str:
    """What is wrong, without the names of files, which may differ each time."""
    return error.strerror or str(error)


def _prepare(folder: Path) -> None:
    """Make the folder, or see that nobody else can write to the one that is there."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # the mode is not for the parents
    info = folder.stat()
    if info.st_uid != os.geteuid() or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ReleaseError(f"the cache {folder} cannot be used: others may write to it")
    (folder / "metadata").mkdir(exist_ok=True, mode=0o700)


def _folder(cache: str | Path | None, key: str) -> Path:
    """A folder that nobody else can write to."""
    place = Path(cache if cache is not None else "~/.cache/redistill")
    try:
        # The child that tries a release stands elsewhere, and so may the service later.
        folder = place.expanduser().absolute() / key
        _prepare(folder)
        with (folder / "lock").open("ab"):
            return folder
    except OSError as error:
        if error.errno in _UNWRITABLE and (folder / "metadata").is_dir():
            return folder  # what is in it can be read
        if cache is not None and error.errno not in _NO_ROOM:
            raise ReleaseError(f"the cache {cache} cannot be used: {error}") from error
        return _private(place, reason(error))
    except (ReleaseError, RuntimeError) as error:  # somebody else's; nobody's home
        if cache is not None:
            raise ReleaseError(f"the cache {cache} cannot be used: {error}") from error
        return _private(place, str(error))


def _private(place: Path, why: str) -> Path:
    """A temporary folder for this process, in place of one that cannot be used."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="redistill-"))
        (folder / "metadata").mkdir()
    except OSError as second:
        raise ReleaseError(
            f"the cache {place} cannot be used: {why}; and no temporary one can be made:"
            f" {reason(second)}"
        ) from second
    log.warning("redistill: the cache %s cannot be used: %s; %s is used", place, why, folder)
    return folder

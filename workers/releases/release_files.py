"""Files of the release repository: written whole or not at all, named by what they hold.

Public files lie below ``repository/``, which is what clients read. ``reference_rows.parquet`` holds
rows of the service's customers and no client needs it: it is kept beside, in ``private/``.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from redistill.files import copy, sha256_of, write
from redistill.streams.client.release import FileEntry, target_name
from redistill.workers.errors import ReleaseFilesError

__all__ = [
    "PRIVATE_NAMES",
    "RepositoryLayout",
    "cannot_write",
    "damaged",
    "restore",
    "store",
    "write_whole",
]

PRIVATE_NAMES = frozenset({"reference_rows.parquet"})


@dataclass(frozen=True, slots=True)
class RepositoryLayout:
    """Where one installation keeps its releases.

    Parameters
    ----------
    home
        ``Settings.root``: holds ``repository/``, ``private/`` and ``keys/``.
    """

    home: Path

    @property
    def repository(self) -> Path:
        """What clients read: ``metadata/`` and ``targets/``."""
        return self.home / "repository"

    @property
    def metadata(self) -> Path:
        """TUF metadata."""
        return self.repository / "metadata"

    @property
    def targets(self) -> Path:
        """Released files, a folder per model."""
        return self.repository / "targets"

    @property
    def private(self) -> Path:
        """Files of releases that only workers read."""
        return self.home / "private"

    @property
    def keys(self) -> Path:
        """Signing keys."""
        return self.home / "keys"

    def path(self, model: str, name: str, sha256: str) -> Path:
        """Where a release's file lies."""
        parent = self.private if name in PRIVATE_NAMES else self.targets
        return parent / target_name(model, name, sha256)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file and the folders above it; a crash or a full disk leaves the old file or none.

    Raises
    ------
    ReleaseFilesError
        The disk is full, or the place cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, data)
    except OSError as error:
        raise cannot_write(path, error) from error


def store(layout: RepositoryLayout, model: str, name: str, source: Path) -> FileEntry:
    """Copy a file to where its hash says it belongs; nothing is done if it lies there already.

    Raises
    ------
    ReleaseFilesError
        The disk is full, or the place cannot be written: nothing was left half-written.
    """
    entry = FileEntry(sha256=sha256_of(source), bytes=source.stat().st_size)
    path = layout.path(model, name, entry.sha256)
    if intact(path, entry):
        os.utime(path)  # young again: retention must not take it before a row names it
    else:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not copy(source, path, sha256=entry.sha256):
                raise ReleaseFilesError(f"{source} changed while it was read")
        except OSError as error:
            raise cannot_write(path, error) from error
    return entry


def intact(path: Path, entry: FileEntry) -> bool:
    """Whether a file is there with the bytes that it should have."""
    try:
        return path.stat().st_size == entry.bytes and sha256_of(path) == entry.sha256
    except OSError:
        return False


def damaged(layout: RepositoryLayout, model: str, files: Mapping[str, FileEntry]) -> list[str]:
    """Names of a release's files that are missing or have other bytes."""
    return [n for n, e in files.items() if not intact(layout.path(model, n, e.sha256), e)]


def restore(
    layout: RepositoryLayout,
    model: str,
    files: Mapping[str, FileEntry],
    folder: Path,
    *,
    names: set[str],
) -> None:
    """Put a release's files into a folder under their own names (what a job reads).

    Parameters
    ----------
    names
        Which of them; a name that ends with ``/`` means all below it. Those that the release does
        not have are left out.

    Raises
    ------
    ReleaseFilesError
        A file is damaged or cannot be written.
    """
    for name, entry in files.items():
        if name not in names and f"{name.partition('/')[0]}/" not in names:
            continue
        source, destination = layout.path(model, name, entry.sha256), folder / name
        if not intact(source, entry):
            raise ReleaseFilesError(
                f"{model}: {name} of a release is missing or damaged ({source})"
            )
        try:
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, destination)
        except OSError as error:
            raise cannot_write(destination, error) from error


def cannot_write(path: Path, error: OSError) -> ReleaseFilesError:
    """Say what stopped a file from being written, and what that means."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return ReleaseFilesError(
            f"no room to write {path.parent}: {error.strerror}. Nothing was published; make room "
            "and do it again"
        )
    return ReleaseFilesError(f"{path} cannot be written: {error.strerror}")

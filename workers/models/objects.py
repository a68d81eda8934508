"""Object store: registered files by their SHA-256 under ``home/objects``, whole or not at all.

Jobs read them by the hashes in ``ModelSpec.objects``; whoever changes the original changes nothing
here.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from redistill.files import sha256_of_bytes, write
from redistill.workers.errors import WorkersError

__all__ = ["ObjectMissing", "path_of", "put_bytes", "read", "remove_unused"]

SHA256 = re.compile(r"[0-9a-f]{64}")


class ObjectMissing(WorkersError):
    """A registered file is not in the object store: restore the home, or register again."""


def put_bytes(folder: Path, data: bytes) -> str:
    """Store bytes.

    Returns
    -------
    str
        Their SHA-256. Storing the same bytes again does nothing.

    Raises
    ------
    WorkersError
        The disk is full, or the folder cannot be written.
    """
    sha256 = sha256_of_bytes(data)
    target = _place(folder, sha256)
    with contextlib.suppress(OSError):
        if target.stat().st_size == len(data):
            os.utime(target)  # whoever cleans up sees that it is wanted again
            return sha256
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write(target, data)
    except OSError as error:
        raise WorkersError(f"{target} cannot be written: {error.strerror}") from error
    return sha256


def path_of(folder: Path, sha256: str) -> Path:
    """Where an object lies.

    Raises
    ------
    ObjectMissing
        It is not there, or this is no SHA-256 (no other text may become a path).
    """
    if not SHA256.fullmatch(sha256):
        raise ObjectMissing(f"{sha256!r} is no SHA-256")
    path = _place(folder, sha256)
    if not path.is_file():
        raise ObjectMissing(
            f"the registered file {sha256[:12]}... is not under {folder}: restore it from a backup,"
            " or register the model again"
        )
    return path


def read(folder: Path, sha256: str) -> bytes:
    """The bytes of an object, checked against their name.

    Raises
    ------
    ObjectMissing
        It is not there, or has other bytes.
    """
    data = path_of(folder, sha256).read_bytes()
    if sha256_of_bytes(data) != sha256:
        raise ObjectMissing(
            f"the registered file {sha256[:12]}... has other bytes than its name says"
        )
    return data


def remove_unused(folder: Path, used: Iterable[str], *, before: float) -> int:
    """Remove objects that no specification names any more.

    Parameters
    ----------
    used
        SHA-256 of those that are named.
    before
        Seconds since 1970: objects that were put later stay, since a registration stores its files
        before its rows.

    Returns
    -------
    int
        How many were removed.
    """
    keep = set(used)
    removed = 0
    for path in folder.glob("??/*"):
        if not SHA256.fullmatch(path.name) or path.name in keep:
            continue
        with contextlib.suppress(FileNotFoundError):  # somebody else cleans up as well
            if path.stat().st_mtime < before:
                path.unlink()
                removed += 1
    return removed


def _place(folder: Path, sha256: str) -> Path:
    return folder / sha256[:2] / sha256

"""Object store: registered files by their SHA-256 under ``home/objects``, whole or not at all.

Jobs read them by the hashes in ``ModelSpec.objects``; whoever changes the original changes nothing
here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from redistill.workers.errors import WorkersError

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
    sha256 = hashlib.sha256(data).hexdigest()
    target = _place(folder, sha256)
    with contextlib.suppress(OSError):
        if target.stat().st_size == len(data):
            os.utime(target)  # whoever cleans up sees that it is wanted again
            return sha256
    temporary = target.with_name(f".{sha256[:12]}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        descriptor = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
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
    if hashlib.sha256(data).hexdigest() != sha256:
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

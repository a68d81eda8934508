"""Files written whole or not at all, and the SHA-256 of what lies on the disk.

Whoever reads a path that is written here finds the old file or the new one, after a crash and after
a power cut too: the bytes go to a temporary file beside it, which is forced to the disk, takes the
name in one step, and then the name is forced to the disk. All functions raise :class:`OSError`
where the disk is full or the place cannot be written, and leave nothing half-written then; only a
process that is killed can leave a temporary file (:func:`unfinished`).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = [
    "PRIVATE",
    "UMASKED",
    "copy",
    "create",
    "disk_refuses",
    "is_full",
    "put",
    "sha256_of",
    "sha256_of_bytes",
    "sha256_of_tree",
    "unfinished",
    "write",
    "write_unsynced",
]

UMASKED = 0o666
"""Mode of a new file, less what the process masks."""
PRIVATE = 0o600
"""Mode of a file that only its owner may read."""


FULL_BYTES = 1 << 20
"""Less room than anything needs that is worth writing."""

_REFUSALS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ESTALE}
)
"""Full, or not to be written: somebody mends the disk, and what was tried goes well again."""
_WORDS = tuple(os.strerror(n) for n in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO))
"""Libraries that write by themselves hand on the words without the number."""


def disk_refuses(error: BaseException) -> bool:
    """Whether something failed because a disk is full, or may not or cannot be written: no fault of
    whoever wrote, and gone once the disk is mended. What the error was raised from counts too.

    Examples
    --------
    >>> disk_refuses(OSError(errno.ENOSPC, "No space left on device"))
    True
    >>> disk_refuses(RuntimeError("I/O error: No space left on device (os error 28)"))
    True
    >>> disk_refuses(FileNotFoundError(errno.ENOENT, "No such file or directory"))
    False
    """
    seen: BaseException | None = error
    for _ in range(10):  # as deep as anybody wraps; a cycle ends, too
        if seen is None:
            return False
        if isinstance(seen, OSError) and seen.errno in _REFUSALS:
            return True
        if any(words in str(seen) for words in _WORDS):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def is_full(folder: Path) -> bool:
    """Whether the disk of a folder has less room than anything that is worth writing needs."""
    try:
        return shutil.disk_usage(folder).free < FULL_BYTES
    except OSError:
        return False  # there is no such folder


def write(path: Path, data: bytes, *, mode: int = UMASKED) -> None:
    """Make or replace a file; its mode holds from the first moment."""
    with _beside(path, mode) as file:
        file.write(data)
        _force(file)
        os.replace(file.name, path)
    sync(path.parent)


def write_unsynced(path: Path, data: bytes) -> None:
    """Make or replace a file that readers poll: whole for each of them, but lost with the power."""
    with _beside(path, UMASKED) as file:
        file.write(data)
        file.flush()
        os.replace(file.name, path)


def create(path: Path, data: bytes, *, mode: int = UMASKED) -> bool:
    """Make a file, whole and never overwritten, whoever else makes it at the same time.

    Returns
    -------
    bool
        ``False``: it is there, and was left as it is.
    """
    with _beside(path, mode) as file:
        file.write(data)
        _force(file)
        try:
            os.link(file.name, path)
        except FileExistsError:
            return False
    sync(path.parent)
    return True


def copy(source: Path, path: Path, *, sha256: str) -> bool:
    """Make or replace a file with the bytes of another, whose hash is known.

    Returns
    -------
    bool
        ``False``: the source has other bytes, and nothing was written.
    """
    with source.open("rb") as reader, _beside(path, UMASKED) as file:
        shutil.copyfileobj(reader, file)
        _force(file)
        if sha256_of(Path(file.name)) != sha256:
            return False
        os.replace(file.name, path)
    sync(path.parent)
    return True


def put(part: Path, path: Path) -> None:
    """Put a finished file or folder, from the same disk, in the place of another.

    One folder cannot replace another in one step: the old one steps aside first, beside ``part``. A
    reader may find none for a moment, never a part of one.
    """
    sync_tree(part)
    if path.is_dir():
        old = part.with_name(f"{part.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
        part.rename(path)
        shutil.rmtree(old)
    else:
        os.replace(part, path)
    sync(path.parent)


def unfinished(folder: Path) -> Iterator[Path]:
    """Temporary files that killed processes left in a folder, and those that are being written."""
    return folder.glob(".*.new")


def sync(path: Path) -> None:
    """Force a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """Force a file, or a folder with all that is in it, to the disk."""
    if path.is_dir():
        for child in sorted(path.iterdir()):
            sync_tree(child)
    sync(path)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_tree(path: Path) -> str:
    """SHA-256 of a file, or of the names and hashes of what is in a folder."""
    if not path.is_dir():
        return sha256_of(path)
    listing = "".join(f"{sha256_of_tree(p)} {p.name}\n" for p in sorted(path.iterdir()))
    return sha256_of_bytes(listing.encode())


def sha256_of_bytes(data: bytes) -> str:
    """SHA-256 of a file's content that is in memory.

    Examples
    --------
    >>> sha256_of_bytes(b"")[:12]
    'e3b0c44298fc'
    """
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def _beside(path: Path, mode: int) -> Iterator[BinaryIO]:
    """A new file in the same folder, which is gone at the end unless it was given another name."""
    temporary = path.with_name(f".{path.name[:60]}.{secrets.token_hex(4)}.new")
    try:
        with open(temporary, "xb", opener=lambda p, flags: os.open(p, flags, mode)) as file:
            yield file
    finally:
        temporary.unlink(missing_ok=True)


def _force(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())

"""Folder of a job: what the child is given, written whole, fetched by hash.

Reference rows, trusted rows and the teacher were stored by ``register`` under their SHA-256; the
incumbent's files lie in the release repository. Nothing is believed: each is hashed again on the
way in, so that a damaged disk ends a job with the name of the file.
"""

from __future__ import annotations

from pathlib import Path

from redistill.files import copy, sha256_of
from redistill.workers.errors import WorkersError

__all__ = ["JobFolderError", "fetch"]


class JobFolderError(WorkersError):
    """A file that a job needs is missing or damaged."""


def fetch(source: Path, target: Path, sha256: str, *, what: str) -> None:
    """Copy a file whose hash is known, unless it is there.

    Parameters
    ----------
    source
        Where it was stored.
    target
        Where the child expects it.
    sha256
        What it must hash to.
    what
        What it is, for the error.

    Raises
    ------
    JobFolderError
        It is missing, or its bytes are others.
    """
    if target.is_file() and sha256_of(target) == sha256:
        return
    if not source.is_file():
        raise JobFolderError(
            f"{what} is missing: {source} does not exist; restore it from a backup"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    if not copy(source, target, sha256=sha256):
        raise JobFolderError(f"{what} is damaged: {source} does not hash to {sha256[:12]}...")

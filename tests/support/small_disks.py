"""Small disks: a tmpfs of a megabyte or two that fills up, or turns read-only, where root may mount one."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

__all__ = ["empty", "fill", "read_only", "small_disk"]

FILLER = "filler"


@contextmanager
def small_disk(folder: Path, *, kib: int = 2048) -> Iterator[Path]:
    """A disk of so many KiB at a new folder; the test is skipped where none can be mounted."""
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", f"size={kib}k,nr_inodes=200", "small", str(folder)]
    try:
        made = subprocess.run(options, capture_output=True, text=True, check=False)
    except OSError as why:
        pytest.skip(f"no disk can be mounted: {why}")
    if made.returncode:
        pytest.skip(f"no disk can be mounted: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> None:
    """Leave no room: not for a byte, and not for the name of a file."""
    (disk / FILLER).mkdir(exist_ok=True)
    with suppress(OSError), (disk / FILLER / "bytes").open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with suppress(OSError):
        for number in count():
            (disk / FILLER / f"name-{number}").touch()


def empty(disk: Path) -> None:
    """Make room again."""
    shutil.rmtree(disk / FILLER)


def read_only(disk: Path) -> None:
    """Let nothing be written from now on."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)

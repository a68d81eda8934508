"""Output log: what a job and the libraries in it print, in the job's folder, never longer than it
may be.

The fork server reads the job's output and writes it here, so that a job that prints without end
fills no disk. It imports the standard library only.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["OutputLog", "tail"]

FILE = "child.log"

LONGEST = 1 << 20
"""Bytes of the file; a job prints a few kilobytes, and a traceback is one."""
KEPT = LONGEST // 2
"""The end that stays when it would be longer."""
TAIL_BYTES = 4_000
"""How much of it an error quotes."""
CUT = b"[earlier output was dropped]\n"


class OutputLog:
    """The log of one run; earlier runs of the same job stand before it.

    A disk that is full costs output, never the job.

    Raises
    ------
    OSError
        The folder is not there, or the file cannot be opened.
    """

    def __init__(self, folder: Path) -> None:
        self._file = os.open(
            folder / FILE, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )

    def write(self, data: bytes) -> None:
        """Append; where it becomes too long, its end stays."""
        try:
            size = os.fstat(self._file).st_size
            if size + len(data) > LONGEST:
                before = max(0, KEPT - len(data))
                kept = os.pread(self._file, before, max(0, size - before)) if before else b""
                os.ftruncate(self._file, 0)
                data = CUT + kept + data[-KEPT:]
            while data:
                data = data[os.write(self._file, data) :]
        except OSError:
            return

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def tail(folder: Path) -> str:
    """The end of what the job printed; empty if there is nothing."""
    try:
        with (folder / FILE).open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""

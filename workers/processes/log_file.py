"""Log file of a process that the supervisor started: for its owner only, and never larger than it
may be.

The process itself changes files, between two writes: the new file takes the place of standard
output and standard error in one step (``dup2``). Nothing is lost then, whoever writes (Python, a C
library, a crash), nobody waits for anybody, and it goes on while the supervisor is stopped. A pipe
to the supervisor would block a worker whose supervisor does not read; copying and truncating loses
what is written between the two.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

from redistill.files import PRIVATE

__all__ = ["LogFile", "numbered", "open_log"]

LOG_BYTES = 20_000_000
"""A log that has more is put aside."""
LOGS_KEPT = 4
"""Logs put aside, ``NAME.log.1`` the newest: with the one in use 100 MB a process."""
LOOK_SECONDS = 1.0
"""Between two looks at the size."""


def open_log(path: Path) -> int:
    """Open a log to append to, made for its owner only; the descriptor.

    Raises
    ------
    OSError
        It cannot be made.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, PRIVATE)
    with contextlib.suppress(OSError):  # somebody else's
        os.fchmod(descriptor, PRIVATE)  # an earlier version let others read it
    return descriptor


def numbered(path: Path, number: int) -> Path:
    """Where a log is put aside.

    Examples
    --------
    >>> numbered(Path("logs/web.log"), 1).as_posix()
    'logs/web.log.1'
    """
    return path.with_name(f"{path.name}.{number}")


class LogFile:
    """The file behind some descriptors.

    Parameters
    ----------
    path
        Of the file in use.
    descriptors
        That write to it.
    limit, kept
        Bytes of one file, and files put aside.
    """

    def __init__(
        self,
        path: Path,
        *,
        descriptors: tuple[int, ...] = (1, 2),
        limit: int = LOG_BYTES,
        kept: int = LOGS_KEPT,
    ) -> None:
        self._path = path
        self._descriptors = descriptors
        self._limit = limit
        self._kept = kept

    def follow(self) -> None:
        """Look after it in the background, until the process ends."""
        threading.Thread(target=self._follow, name="log-file", daemon=True).start()

    def look(self) -> None:
        """Put the log aside if it has grown too large; go where the path leads if somebody moved
        it. A disk that is full or away changes nothing: the next look tries again."""
        try:
            ours = os.fstat(self._descriptors[-1])
            try:
                theirs = os.stat(self._path)
            except FileNotFoundError:
                self._point(open_log(self._path))
                return
            if not os.path.samestat(ours, theirs):
                self._point(open_log(self._path))
            elif ours.st_size > self._limit:
                self._put_aside()
        except OSError:
            return

    def _put_aside(self) -> None:
        fresh = self._path.with_name(f".{self._path.name}.new")
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()  # of a process that was killed in here
        descriptor = open_log(fresh)
        try:
            for number in range(self._kept, 1, -1):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(numbered(self._path, number - 1), numbered(self._path, number))
            os.replace(self._path, numbered(self._path, 1))
            os.replace(fresh, self._path)
        except OSError:
            os.close(descriptor)
            raise
        self._point(descriptor)

    def _point(self, descriptor: int) -> None:
        for each in self._descriptors:
            os.dup2(descriptor, each)
        os.close(descriptor)

    def _follow(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            self.look()

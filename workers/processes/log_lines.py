"""Log lines of a process that runs in the background: followed as they are written, and told in a
line for people."""

from __future__ import annotations

import json
import os
from io import FileIO
from pathlib import Path
from typing import Any

__all__ = ["LogFollower", "fields_of", "in_words", "line_for_people", "shortened"]

SHAPE = frozenset({"timestamp", "level", "event", "action", "logger", "process", "pid"})
"""What is in every line (``redistill.streams.engine.logs``); the rest are its fields."""
MOST_WORDS = 400
"""Characters of a line that people are told."""
MOST_BYTES = 1_000_000
"""Of one look: who writes faster is not read word for word."""


class LogFollower:
    """Reads what was added to a log file since the last look, across a change of files.

    Parameters
    ----------
    path
        The file; it need not be there yet. What it holds now is passed over.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files: list[_Followed] = []
        """The newest last. One that was put aside is read once more: its process writes to it until
        it has the new one in its hands."""
        if (file := self._opened()) is not None:
            file.skip()
            self._files.append(file)

    def lines(self) -> list[str]:
        """Lines that were finished since the last look."""
        found = [line for file in self._files for line in file.lines()]
        while len(self._files) > 1:
            found += self._files.pop(0).close()
        there = any(file.is_at(self._path) for file in self._files)
        if not there and (file := self._opened()) is not None:
            self._files.append(file)
            found += file.lines()
        return [line.decode("utf-8", "replace") for line in found if line.strip()]

    def close(self) -> None:
        """Follow it no more."""
        while self._files:
            self._files.pop().close()

    def _opened(self) -> _Followed | None:
        try:
            return _Followed(self._path.open("rb", buffering=0))
        except OSError:
            return None


class _Followed:
    """One file, wherever it is moved."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._rest = b""

    def is_at(self, path: Path) -> bool:
        """Whether the path leads here."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), os.stat(path))
        except OSError:
            return True  # it is being moved, or is gone: there is no other yet

    def skip(self) -> None:
        """Pass over what it holds."""
        self._file.seek(0, os.SEEK_END)

    def lines(self) -> list[bytes]:
        """Lines that were finished since the last time."""
        try:
            size, at = os.fstat(self._file.fileno()).st_size, self._file.tell()
            if size < at:  # somebody cut it
                at, self._rest = 0, b""
            self._file.seek(max(at, size - MOST_BYTES))
            data = self._file.read()
        except OSError:
            return []
        *whole, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-MOST_BYTES:]
        return whole

    def close(self) -> list[bytes]:
        """Read it no more; a line that was begun stays as it is."""
        self._file.close()
        return [self._rest]


def fields_of(line: str) -> dict[str, Any] | None:
    """A log line with its fields; ``None``: it is none of ours."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def line_for_people(line: str) -> str | None:
    """A log line as a person reads it; ``None``: it is none that a person need see.

    Errors are told with their fields; what is no log line at all (a traceback, a library's last
    words) as it stands.

    Examples
    --------
    >>> line_for_people('{"level": "error", "action": "gap", "event": "gap", "lost": 3}')
    'gap: lost=3'
    >>> line_for_people('{"level": "info", "event": "started"}') is None
    True
    >>> line_for_people("Segmentation fault")
    'Segmentation fault'
    """
    found = fields_of(line)
    if found is not None and found.get("level") not in ("error", "critical"):
        return None
    return in_words(line)


def in_words(line: str) -> str:
    """A log line with its fields behind its event; one that is none of ours as it stands.

    Examples
    --------
    >>> in_words('{"event": "cannot_start", "level": "error", "pid": 7, "error": "no broker"}')
    'cannot_start: error=no broker'
    """
    found = fields_of(line)
    if found is None:
        return line
    event = str(found.get("event") or found.get("action") or "error")
    fields = {k: v for k, v in found.items() if k not in SHAPE and k != "exception"}
    if exception := str(found.get("exception") or "").strip():
        fields["exception"] = exception.splitlines()[-1]
    told = ", ".join(f"{key}={value}" for key, value in fields.items())
    return f"{event}: {told}" if told else event


def shortened(said: str) -> str:
    """A line of ``MOST_WORDS`` characters at most.

    Examples
    --------
    >>> len(shortened("word " * 1_000)), shortened("short")
    (400, 'short')
    """
    return said if len(said) <= MOST_WORDS else said[: MOST_WORDS - 3] + "..."

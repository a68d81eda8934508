"""Log lines of a process that runs in the background: followed as they are written, and told in a
line for people."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

__all__ = ["LogFollower", "fields_of", "in_words", "line_for_people"]

SHAPE = frozenset({"timestamp", "level", "event", "action", "logger", "process", "pid"})
"""What is in every line (``redistill.streams.engine.logs``); the rest are its fields."""
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
        self._rest = b""
        try:
            info = path.stat()
        except OSError:
            self._file, self._at = -1, 0
        else:
            self._file, self._at = info.st_ino, info.st_size

    def lines(self) -> list[str]:
        """Lines that were finished since the last look."""
        try:
            with self._path.open("rb") as file:
                info = os.fstat(file.fileno())
                if info.st_ino != self._file or info.st_size < self._at:
                    self._file, self._at, self._rest = info.st_ino, 0, b""
                self._at = max(self._at, info.st_size - MOST_BYTES)
                file.seek(self._at)
                data = file.read()
        except OSError:
            return []
        self._at += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        return [line.decode("utf-8", "replace") for line in whole if line.strip()]


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

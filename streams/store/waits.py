"""Waits for a database: how long each may take, and since when this process' threads wait."""

from __future__ import annotations

import threading
import time

__all__ = ["CONNECT_SECONDS", "GRACE_SECONDS", "SILENT_SECONDS", "STATEMENT_SECONDS", "Waits"]

CONNECT_SECONDS = 5
"""For a connection, and for the answer to the question whether the server is there."""
SILENT_SECONDS = 5.0
"""Without a byte of an answer, after which it is asked: longer than almost every statement."""
STATEMENT_SECONDS = 60.0
"""What the server allows a statement of ours, unless it is one that may take long."""
GRACE_SECONDS = 10.0
"""How much later this side gives up: an answer on its way comes first."""


class Waits:
    """Since when threads wait for an answer."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}

    def begin(self) -> None:
        """This thread waits."""
        self._since[threading.get_ident()] = time.monotonic()

    def end(self) -> None:
        """It waits no more."""
        self._since.pop(threading.get_ident(), None)

    def longest(self) -> float:
        """Seconds of whoever waits longest; 0: nobody does."""
        since = list(self._since.values())
        return max(0.0, time.monotonic() - min(since)) if since else 0.0

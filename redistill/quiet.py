"""Quiet: what happens often is said once a minute for each cause, and how often it was not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["Quiet"]

QUIET_SECONDS = 60.0
MAX_CAUSES = 200
"""Causes that are remembered; they may come from the wire."""


class Quiet:
    """Remembers what was said. Thread-safe.

    Parameters
    ----------
    clock
        Monotonic seconds.

    Examples
    --------
    >>> now = 0.0
    >>> quiet = Quiet(clock=lambda: now)
    >>> [quiet.ask("no disk") for _ in range(3)]
    [0, None, None]
    >>> now = 60.0
    >>> quiet.ask("no disk")
    2
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._said: dict[str, tuple[float, int]] = {}  # when, and how often it was kept back since

    def ask(self, cause: str) -> int | None:
        """Whether to speak of a cause: how often it was kept back before; ``None``: keep quiet."""
        now = self._clock()
        with self._lock:
            at, kept_back = self._said.get(cause, (now - QUIET_SECONDS, 0))
            if now - at < QUIET_SECONDS:
                self._said[cause] = (at, kept_back + 1)
                return None
            if len(self._said) >= MAX_CAUSES:
                self._said.clear()
            self._said[cause] = (now, 0)
            return kept_back

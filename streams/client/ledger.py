"""Ledger of a logger: what became of everything that was handed to it, and one log line a minute
per cause.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from redistill.quiet import Quiet

__all__ = ["Ledger", "Stats"]

_logger = logging.getLogger("redistill.client")


@dataclass(frozen=True, slots=True)
class Stats:
    """What became of everything that was handed to a logger, in this process."""

    logged: int
    """Predictions, labels and other events handed over."""
    sent: int
    """Of these, acknowledged by all replicas of the broker."""
    dropped: int
    """Of these, given up because there was no room, or after ``close``."""
    invalid: int
    """Of these, refused because nobody could read them."""
    pending: int
    """Of these, on their way."""
    pending_bytes: int
    """Bytes of encoded records on their way."""
    trouble: str | None
    """What is wrong with the broker right now, and what to do about it."""


class Ledger:
    """Counters and complaints. Thread-safe.

    Parameters
    ----------
    clock
        Monotonic seconds.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._quiet = Quiet(clock=clock)
        self.lock = threading.Lock()
        self.sent = 0
        self.dropped = 0
        self.invalid = 0
        self._trouble: dict[str, str | None] = {}

    def count_sent(self, rows: int) -> None:
        """Rows were acknowledged."""
        with self.lock:
            self.sent += rows

    def count_dropped(self, rows: int, why: str) -> None:
        """Rows were given up."""
        with self.lock:
            self.dropped += rows
        trouble = self.trouble()
        self.say(f"dropped: {why}" + (f" ({trouble})" if trouble else ""), cause=f"dropped:{why}")

    def count_invalid(self, rows: int, why: str) -> None:
        """Rows were refused."""
        with self.lock:
            self.invalid += rows
        self.say(f"invalid: {why}", cause=f"invalid:{why[:40]}")

    def trouble(self) -> str | None:
        """What is wrong right now, with sending first."""
        return self._trouble.get("sender") or self._trouble.get("pointers")

    def set_trouble(self, who: str, why: str | None) -> None:
        """Something is wrong with a connection, or (``None``) well again."""
        before = self._trouble.get(who)
        self._trouble[who] = why
        if why is not None:
            self.say(why, cause=f"{who}:{why[:60]}")
        elif before is not None and self._quiet.ask(f"{who} well") is not None:
            _logger.info("redistill: %s: well again", who)

    def say(self, text: str, *, cause: str) -> None:
        """Write a warning, unless the same cause had one within the last minute."""
        if self._quiet.ask(cause) is not None:
            _logger.warning("redistill: %s", text)

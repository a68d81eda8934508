"""Periodic tasks of a worker: each in a thread of its own, none of which ever ends by an error."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import structlog

__all__ = ["PeriodicTask"]

log = structlog.get_logger(__name__)

LONGEST_PAUSE_SECONDS = 5.0
"""Between two tries of a task that fails: what is back is noticed within this."""

REPEAT_SECONDS = 60.0
"""How often a failure that goes on is said again."""


class PeriodicTask:
    """Calls a function again and again until it is told to stop.

    Parameters
    ----------
    name
        For the log, the thread and the metrics.
    work
        One round. What it returns counts as *there may be more*: true, and it is called again at
        once.
    every_seconds
        Pause after a round that found nothing.
    stop
        Ends the task after the round at work.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], Any],
        *,
        every_seconds: float,
        stop: threading.Event,
    ) -> None:
        self.name = name
        self._work = work
        self._every_seconds = every_seconds
        self._stop = stop
        self._wake = threading.Event()
        self.failures = 0
        """Failed rounds in a row."""
        self.done_at = time.monotonic()
        """When a round last ended well (monotonic seconds)."""
        self._said: tuple[str, float] = ("", 0.0)
        self._thread = threading.Thread(target=self._run, name=f"task-{name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Do the next round now."""
        self._wake.set()

    def join(self, seconds: float) -> bool:
        """Wait for the end (after ``stop`` was set); false: it is still at work."""
        self._wake.set()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.clear()
            try:
                more = bool(self._work())
            except Exception as error:  # whatever it is: the next round may do better
                self.failures += 1
                self._complain(error)
                pause = min(LONGEST_PAUSE_SECONDS, 0.1 * 2 ** min(self.failures, 10))
                self._stop.wait(pause)
                continue
            if self.failures:
                log.info("duty_recovered", action="duty_recovered", duty=self.name)
            self.failures = 0
            self.done_at = time.monotonic()
            if not more:
                self._wake.wait(self._every_seconds)

    def _complain(self, error: Exception) -> None:
        """Say what is wrong once, and again if it changes or goes on."""
        text, now = f"{type(error).__name__}: {error}", time.monotonic()
        if text == self._said[0] and now - self._said[1] < REPEAT_SECONDS:
            return
        self._said = (text, now)
        expected = getattr(error, "retriable", None) is not None
        log.warning(
            "duty_failed",
            action="duty_failed",
            duty=self.name,
            failures=self.failures,
            error=text,
            exc_info=not expected,
        )

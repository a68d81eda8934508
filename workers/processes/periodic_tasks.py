"""Periodic tasks of a worker: each in a thread of its own, none of which ever ends by an error."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import structlog

from redistill.files import disk_refuses
from redistill.streams.errors import StoreUnavailable

__all__ = ["PeriodicTask", "late"]

log = structlog.get_logger(__name__)

LONGEST_PAUSE_SECONDS = 5.0
"""Between two tries of a task that fails: what is back is noticed within this."""

REPEAT_SECONDS, LONGEST_REPEAT_SECONDS = 60.0, 4 * 3_600.0
"""How long until a failure that goes on, or comes and goes, is said again: twice as long each time,
so that an outage of a night has ten lines and not a thousand."""


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
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], Any],
        *,
        every_seconds: float,
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._work = work
        self._every_seconds = every_seconds
        self._stop = stop
        self._wake = threading.Event()
        self.failures = 0
        """Failed rounds in a row."""
        self._clock = clock
        self.done_at = clock()
        """When a round last ended well (monotonic seconds)."""
        self._text, self._quiet_until, self._repeat = "", float("-inf"), REPEAT_SECONDS
        """What was said last, until when it is not said again, and for how long after that."""
        self._told = False
        """Whether of the failure that goes on anything was said."""
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
                if not isinstance(error, StoreUnavailable):  # which is said once for all tasks
                    self._complain(error)
                pause = min(LONGEST_PAUSE_SECONDS, 0.1 * 2 ** min(self.failures, 10))
                self._stop.wait(pause)
                continue
            self._recovered()
            self.failures = 0
            self.done_at = self._clock()
            if not more:
                self._wake.wait(self._every_seconds)

    def _recovered(self) -> None:
        if self._told:
            log.info("duty_recovered", action="duty_recovered", duty=self.name)
        self._told = False

    def _complain(self, error: Exception) -> None:
        """Say what is wrong once, and again if it changes or goes on."""
        text, now = f"{type(error).__name__}: {error}", self._clock()
        if text == self._text and now < self._quiet_until:
            return
        if text != self._text or not self._told:
            self._repeat = REPEAT_SECONDS
        self._text, self._told = text, True
        self._quiet_until = now + self._repeat
        self._repeat = min(LONGEST_REPEAT_SECONDS, 2 * self._repeat)
        expected = getattr(error, "retriable", None) is not None or disk_refuses(error)
        log.warning(
            "duty_failed",
            action="duty_failed",
            duty=self.name,
            failures=self.failures,
            error=text,
            exc_info=not expected,
        )


def late(
    tasks: Iterable[PeriodicTask],
    seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> list[str]:
    """Names of the tasks of which no round ended well for longer than ``seconds``."""
    now = clock()
    return [task.name for task in tasks if now - task.done_at > seconds]

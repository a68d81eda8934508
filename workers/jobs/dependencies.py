"""Dependencies of whoever works on jobs, shared within a process: database, child, publisher,
clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from redistill.streams.store.database import Database
from redistill.workers.incidents.model_context import FleetLimits
from redistill.workers.jobs.child import Child
from redistill.workers.jobs.publish import Publisher

__all__ = ["Dependencies", "WarmChild"]

log = structlog.get_logger(__name__)


STEADY_SECONDS = 60.0
"""A child that lived so long is replaced at once; one that dies sooner, later and later."""

LONGEST_DELAY_SECONDS = 60.0
"""Loading takes seconds of a processor: a child that cannot live must not take all of it."""


class WarmChild:
    """The warm child; a new one is started where it is gone. Safe between threads.

    Parameters
    ----------
    child
        The first.
    restart
        Starts another.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        child: Child,
        restart: Callable[[], Child] = Child.start,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._child = child
        self._restart = restart
        self._clock = clock
        self._lock = threading.Lock()
        self._started = clock()
        self._deaths = 0
        """In a row, each soon after its start."""
        self._due: float | None = None
        """When the next is started; ``None`` while there is one."""
        self._closed = False

    def __call__(self) -> Child:
        """The child: alive, or about to be replaced. Ask it whether it is ready."""
        with self._lock:
            now = self._clock()
            if self._child.alive or self._closed:
                return self._child
            if self._due is None:  # it died since we looked
                steady = now - self._started >= STEADY_SECONDS
                self._deaths = 1 if steady else self._deaths + 1
                wait = 0.0 if self._deaths == 1 else 2.0 ** min(self._deaths - 1, 10)
                self._due = now + min(LONGEST_DELAY_SECONDS, wait)
                self._child.close()
                log.warning(
                    "child_died",
                    action="child_died",
                    why=self._child.why,
                    again_in=self._due - now,
                )
            if now >= self._due:
                self._started, self._due = now, None
                self._child = self._restart()
            return self._child

    def close(self) -> None:
        """End it; no other is started."""
        with self._lock:
            self._closed = True
            self._child.close()


@dataclass(frozen=True, kw_only=True, slots=True)
class Dependencies:
    """What working on a job needs, besides the job; one for each worker."""

    database: Database
    home: Path
    """Holds ``objects/``, ``jobs/`` and the repository."""
    holder: str
    """Unique per process start: the name under which jobs are claimed."""
    child: WarmChild
    fleet_limits: FleetLimits
    publisher: Publisher
    deadline_s: float
    """Wall-clock limit of one run of the child."""
    memory_bytes: int | None
    """What it may use beyond its libraries."""
    clock: Callable[[], int]
    """Microseconds since 1970."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Set when the worker ends: the job at work is left resumable."""

    @property
    def actor(self) -> str:
        """Who writes, for the audit chain."""
        return f"worker:{self.holder}"

    def folder(self, job_id: str) -> Path:
        """Where a job's files are."""
        return self.home / "jobs" / job_id

"""Dependencies of whoever works on jobs, shared within a process: database, child, publisher,
clock."""

from __future__ import annotations

import threading
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


class WarmChild:
    """The warm child; a new one is started where it is gone. Safe between threads."""

    def __init__(self, child: Child, restart: Callable[[], Child] = Child.start) -> None:
        self._child = child
        self._restart = restart
        self._lock = threading.Lock()

    def __call__(self) -> Child:
        """The child, alive."""
        with self._lock:
            if not self._child.alive:
                log.warning("child_restarted", action="child_restarted")
                self._child.close()
                self._child = self._restart()
            return self._child

    def close(self) -> None:
        """End it."""
        with self._lock:
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

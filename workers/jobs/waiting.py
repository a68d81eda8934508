"""Waiting jobs: which of those that lack rows or labels has got enough of them to go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from redistill.times import to_us
from redistill.workers.errors import WorkersError
from redistill.workers.jobs import job_spec, training_window
from redistill.workers.store import job_queue
from redistill.workers.store.job_queue import Job

__all__ = ["WaitingJobs"]

BY_TIME = frozenset({"train", "train_labelled", "asked"})
"""What makes no labelled outcome: rows, and labels of a source that feeds no detector."""
LOOK_SECONDS = 10.0
"""How often that is looked for: a window is read, which may be long."""


class WaitingJobs:
    """Looks at waiting jobs; it reads a window of rows only where there may be enough.

    Parameters
    ----------
    clock
        Microseconds since 1970.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._next_look: dict[str, int] = {}  # labelled outcomes at which a job is looked at again
        self._look_at: dict[str, int] = {}  # when it is, where outcomes do not tell

    def ready(self, conn: sa.Connection) -> Job | None:
        """The oldest waiting job that can go on; ``None``: all of them have to wait."""
        job = next((j for j in job_queue.waiting(conn) if self._has_enough(conn, j)), None)
        if job is not None:
            self._next_look.pop(job.job_id, None)
            self._look_at.pop(job.job_id, None)
        return job

    def _has_enough(self, conn: sa.Connection, job: Job) -> bool:
        wait = job.outcome.get("wait", {})
        if self._clock() < max(int(wait.get("look_at", 0)), self._look_at.get(job.job_id, 0)):
            return False
        try:
            return self._has_rows(conn, job, wait)
        except WorkersError:
            return True  # it will end with the reason, and keeps no other job waiting

    def _has_rows(self, conn: sa.Connection, job: Job, wait: Mapping[str, Any]) -> bool:
        context = job_spec.read_inputs(conn, job)
        since = context.since if context.incident is not None else wait.get("since")
        outcomes = training_window.labelled_outcomes(conn, job.model, context.version, since)
        if outcomes < self._next_look.get(job.job_id, int(wait.get("outcomes", 0))):
            return False
        window = training_window.read(
            conn, job_spec.window_query(context, frozen_at=job.frozen_at, since=since)
        )
        missing = int(wait.get("rows", 0)) - window.counts[wait.get("count", "gate_labelled")]
        if missing > 0 and wait.get("count") in BY_TIME:
            self._look_at[job.job_id] = self._clock() + to_us(LOOK_SECONDS)
        elif missing > 0:
            self._next_look[job.job_id] = outcomes + missing
        return missing <= 0

"""Waiting jobs: which of those that lack rows or labels has got enough of them to go on."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from redistill.workers.jobs import job_spec, training_window
from redistill.workers.store import job_queue
from redistill.workers.store.job_queue import Job

__all__ = ["WaitingJobs"]


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

    def ready(self, conn: sa.Connection) -> Job | None:
        """The oldest waiting job that can go on; ``None``: all of them have to wait."""
        job = next((j for j in job_queue.waiting(conn) if self._has_enough(conn, j)), None)
        if job is not None:
            self._next_look.pop(job.job_id, None)
        return job

    def _has_enough(self, conn: sa.Connection, job: Job) -> bool:
        wait = job.outcome.get("wait", {})
        if self._clock() < int(wait.get("look_at", 0)):
            return False
        try:
            context = job_spec.read_inputs(conn, job)
        except job_spec.JobObsolete:
            return True  # it will end with the reason
        since = context.since if context.incident is not None else wait.get("since")
        outcomes = training_window.labelled_outcomes(conn, job.model, context.version, since)
        if outcomes < self._next_look.get(job.job_id, int(wait.get("outcomes", 0))):
            return False
        window = training_window.read(
            conn, job_spec.window_query(context, frozen_at=job.frozen_at, since=since)
        )
        missing = int(wait.get("rows", 0)) - window.counts[wait.get("count", "gate_labelled")]
        if missing > 0 and wait.get("count") != "train":
            self._next_look[job.job_id] = outcomes + missing
        return missing <= 0

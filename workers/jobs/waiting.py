"""Waiting jobs: which of those that lack rows or labels has got enough of them to go on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
LOOK_SHARE = 0.02
"""Share of the time that may go into such looks: one that takes two seconds is made every 100."""

Wait = tuple[str, str]
"""A job, and what it waits for: a job may wait again, for something else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _NextLook:
    """When a wait is looked at again: from both on."""

    at: int
    """Microseconds since 1970."""
    outcomes: int
    """Labelled outcomes of the version."""


class WaitingJobs:
    """Looks at waiting jobs; it reads a window of rows only where there may be enough.

    Parameters
    ----------
    clock
        Microseconds since 1970.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._next: dict[Wait, _NextLook] = {}

    def ready(self, conn: sa.Connection) -> Job | None:
        """The oldest waiting job that can go on; ``None``: all of them have to wait."""
        jobs = {_wait_of(job): job for job in job_queue.waiting(conn)}
        self._next = {wait: look for wait, look in self._next.items() if wait in jobs}
        for wait, job in jobs.items():
            if self._has_enough(conn, wait, job):
                self._next.pop(wait, None)
                return job
        return None

    def _has_enough(self, conn: sa.Connection, wait: Wait, job: Job) -> bool:
        told = job.outcome.get("wait", {})
        first = _NextLook(at=int(told.get("look_at", 0)), outcomes=int(told.get("outcomes", 0)))
        look = self._next.get(wait, first)
        if self._clock() < look.at:
            return False
        try:
            following = self._looked(conn, job, told, look)
        except WorkersError:
            return True  # it will end with the reason, and keeps no other job waiting
        if following is None:
            return True
        self._next[wait] = following
        return False

    def _looked(
        self, conn: sa.Connection, job: Job, told: Mapping[str, Any], look: _NextLook
    ) -> _NextLook | None:
        """When to look again; ``None``: there is enough."""
        context = job_spec.read_inputs(conn, job)
        since = context.since if context.incident is not None else told.get("since")
        outcomes = training_window.labelled_outcomes(conn, job.model, context.version, since)
        if outcomes < look.outcomes:
            return look
        began = self._clock()
        window = training_window.read(
            conn, job_spec.window_query(context, frozen_at=job.frozen_at, since=since)
        )
        missing = int(told.get("rows", 0)) - window.counts[told.get("count", "gate_labelled")]
        if missing <= 0:
            return None
        if told.get("count") in BY_TIME:
            now = self._clock()
            pause = max(to_us(LOOK_SECONDS), round((now - began) / LOOK_SHARE))
            return replace(look, at=now + pause)
        return replace(look, outcomes=outcomes + missing)


def _wait_of(job: Job) -> Wait:
    return job.job_id, json.dumps(job.outcome.get("wait"), sort_keys=True)

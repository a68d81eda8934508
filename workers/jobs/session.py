"""Job session: one claimed job for the time of its claim, and the only way to write about it.

The session owns the claim, the clock and the heartbeat. Who works on a job neither carries a
fencing token about nor can write without one: what is written is written through a
:class:`JobTransaction`, and that exists only inside :meth:`JobSession.fenced`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Self

import sqlalchemy as sa

from redistill.streams.store.database import Database
from redistill.workers.jobs.heartbeat import BEAT_SECONDS, End, Heartbeat
from redistill.workers.store import checkpoints, job_queue
from redistill.workers.store.job_queue import Claim, Job

__all__ = ["JobSession", "JobTransaction"]


@dataclass(frozen=True, kw_only=True, slots=True)
class JobTransaction:
    """One transaction in which the job is ours and running."""

    conn: sa.Connection
    """For what others have to write in the same transaction: incidents, the registry."""
    claim: Claim
    now: int
    """Microseconds since 1970, read once the job was locked: all that is written has one time, and
    the times of two transactions are in their order."""
    actor: str
    """Who writes, for the audit chain."""

    def job(self) -> Job:
        """The job as it stands now."""
        return _stored(self.conn, self.claim)

    def remember(self, **values: Any) -> None:
        """Keep values in the job's ``outcome``: ``phase`` (``repair``, ``gate``, ``publish``),
        ``incumbent`` (the version that has to be beaten), ``cause`` (what a diagnosis found)."""
        checkpoints.remember(self.conn, self.job(), values)

    def record(
        self,
        step: str,
        state: str = "done",
        *,
        seconds: float | None = None,
        cpu_seconds: float | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """Write down where the job stands."""
        checkpoints.record(
            self.conn,
            self.claim,
            step,
            state,
            now=self.now,
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            detail=detail,
        )

    def set_seconds(self, step: str, seconds: float, *, cpu_seconds: float | None) -> None:
        """How long a recorded step really took, as its process measured it."""
        checkpoints.set_seconds(self.conn, self.claim, step, seconds, cpu_seconds=cpu_seconds)

    def freeze(self, at: int | None) -> None:
        """Rows served after ``at`` are never trained on by this job; ``None``: they are to be
        chosen anew."""
        checkpoints.freeze(self.conn, self.claim, at)

    def park(self, wait: Mapping[str, Any], *, have: int, why: str) -> Job:
        """Let the job wait for rows, and give its lease back.

        Parameters
        ----------
        wait
            What for: ``count`` (name of a count of the training window), ``rows`` of it,
            ``outcomes`` without which there cannot be so many, ``look_at`` (not before that time),
            ``since``.
        have
            What there is.

        Returns
        -------
        Job
            As it stood.
        """
        job = self.job()
        job_queue.park(
            self.conn,
            Claim(job, self.claim.token),
            outcome={"wait": dict(wait), "why": why},
            gate_rows=have,
            now=self.now,
        )
        return job

    def requeue(self, *, not_before: int, why: str, forgive: bool) -> None:
        """Put the job back and give its lease back; ``forgive``: it is no failure of the job."""
        job_queue.requeue(self.conn, self.claim, not_before=not_before, why=why, forgive=forgive)

    def finish(self, state: str, outcome: Mapping[str, Any]) -> Job:
        """End the job and give its lease back.

        Returns
        -------
        Job
            As it stood.
        """
        job = self.job()
        job_queue.finish(self.conn, job, state, outcome=outcome, now=self.now)
        job_queue.release(self.conn, self.claim)
        return job


class JobSession:
    """A claimed job, kept by a heartbeat as long as this context manager is open.

    Parameters
    ----------
    database
        Where the job is.
    claim
        The job, and the right to write about it.
    actor
        Who works on it, for the audit chain.
    clock
        Microseconds since 1970.
    stop
        Set when the worker ends.

    Attributes
    ----------
    job
        As it was claimed, or last refreshed.
    """

    def __init__(
        self,
        database: Database,
        claim: Claim,
        *,
        actor: str,
        clock: Callable[[], int],
        stop: threading.Event,
        beat_seconds: float = BEAT_SECONDS,
    ) -> None:
        self._database = database
        self._claim = claim
        self._actor = actor
        self._clock = clock
        self._heartbeat = Heartbeat(
            database, claim, clock=clock, stop=stop, beat_seconds=beat_seconds
        )

    def __enter__(self) -> Self:
        self._heartbeat.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._heartbeat.__exit__(*exc)

    @property
    def job(self) -> Job:
        """The job as it was claimed, or last refreshed."""
        return self._claim.job

    @property
    def cancelled(self) -> threading.Event:
        """Set when the work has to end; hand it to ``Child.run``."""
        return self._heartbeat.cancelled

    @property
    def end(self) -> End | None:
        """Why it has to: the lease was ``lost``, somebody ``ended`` the job, the worker is
        ``stopped``."""
        return self._heartbeat.end

    def now(self) -> int:
        """Microseconds since 1970."""
        return self._clock()

    def read(self) -> AbstractContextManager[sa.Connection]:
        """A transaction that only reads; it needs no claim."""
        return self._database.read()

    def view(self) -> AbstractContextManager[sa.Connection]:
        """The same, of one moment: for what is compared with one another."""
        return self._database.view()

    def refresh(self, conn: sa.Connection) -> Job:
        """Read the job again: what this session wrote about it is in it."""
        self._claim = Claim(_stored(conn, self._claim), self._claim.token)
        return self._claim.job

    @contextmanager
    def fenced(self) -> Iterator[JobTransaction]:
        """A transaction in which the job is ours and running until it ends.

        Raises
        ------
        LeaseLost
            Another worker has taken the job over.
        JobEnded
            It was cancelled or expired.
        """
        with job_queue.fenced(self._database, self._claim, self._clock) as conn:
            yield JobTransaction(conn=conn, claim=self._claim, now=self._clock(), actor=self._actor)


def _stored(conn: sa.Connection, claim: Claim) -> Job:
    job = job_queue.get(conn, claim.job.job_id)
    if job is None:
        raise LookupError(claim.job.job_id)
    return job

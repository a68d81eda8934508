"""Heartbeat of a job while it is worked on: the lease is renewed, and whatever ends the work is
noticed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal, Self

import sqlalchemy as sa

from redistill.streams.errors import StreamsError
from redistill.streams.store import lease
from redistill.streams.store.database import Database
from redistill.times import to_us
from redistill.workers.store.job_queue import LEASE_SECONDS, Claim
from redistill.workers.store.tables import jobs

__all__ = ["BEAT_SECONDS", "End", "Heartbeat"]

BEAT_SECONDS = 1.0
"""A cancelled job ends within a second or so; ten beats may be missed before the lease ends."""

End = Literal["lost", "ended", "stopped"]


class Heartbeat:
    """Renews a job's lease from a thread of its own, as a context manager.

    Attributes
    ----------
    cancelled
        Set when the work has to end; hand it to ``Child.run``.
    end
        Why: the lease was ``lost``, the job was ``ended`` by somebody, the worker is ``stopped``.
    """

    def __init__(
        self,
        database: Database,
        claim: Claim,
        *,
        clock: Callable[[], int],
        stop: threading.Event,
        beat_seconds: float = BEAT_SECONDS,
    ) -> None:
        self._database = database
        self._claim = claim
        self._clock = clock
        self._stop = stop
        self._beat_seconds = beat_seconds
        self._over = threading.Event()
        self._until = clock() + to_us(LEASE_SECONDS)
        self.cancelled = threading.Event()
        self.end: End | None = None
        self._thread = threading.Thread(target=self._run, name="job-heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        tick = min(0.1, self._beat_seconds)  # a stop is noticed sooner than a beat comes
        waited = 0.0
        while not self._over.wait(tick):
            waited += tick
            if self._stop.is_set():
                self._finish("stopped")
                return
            if waited < self._beat_seconds:
                continue
            waited = 0.0
            if (end := self._beat()) is not None:
                self._finish(end)
                return

    def _finish(self, end: End) -> None:
        self.end = end
        self.cancelled.set()

    def _beat(self) -> End | None:
        now = self._clock()
        job_id = self._claim.job.job_id
        try:
            with self._database.begin() as conn:
                if not lease.renew(
                    conn, self._claim.lease, self._claim.token, now=now, seconds=LEASE_SECONDS
                ):
                    return "lost"
                state = conn.execute(
                    sa.select(jobs.c.state).where(jobs.c.job_id == job_id)
                ).scalar_one_or_none()
        except StreamsError:  # away or locked, as is said once: the lease may still be saved
            return "lost" if self._clock() > self._until else None
        self._until = now + to_us(LEASE_SECONDS)
        return None if state == "running" else "ended"

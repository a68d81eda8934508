"""Runner of jobs, one after the other: window → diagnose → repair → gate → publish; where a
candidate is refused, or only a person could decide about it, the next recipe → repair → gate.

Where a job stands is in SQL (``outcome.phase`` and ``job_steps``) and in its folder (finished steps
of the pipeline, by hash), so a worker that is killed at any moment leaves a job that the next one
goes on with. Everything is written under the job's lease; what the world sees of a job, its
release, is written in one transaction together with the job's end.
"""

from __future__ import annotations

from collections import Counter

import structlog

from redistill.files import disk_refuses, is_full
from redistill.quiet import Quiet
from redistill.streams.errors import StreamsError
from redistill.times import to_us
from redistill.workers.errors import Disagreement, LeaseLost, WorkersError
from redistill.workers.jobs import completion, job_spec, retry
from redistill.workers.jobs.child_outcome import ChildCancelled, ChildFailed
from redistill.workers.jobs.dependencies import Dependencies
from redistill.workers.jobs.next_step import Ask, JudgeAgain, Publish, Reject, next_step
from redistill.workers.jobs.phases import Phases
from redistill.workers.jobs.session import JobSession
from redistill.workers.jobs.waiting import WaitingJobs
from redistill.workers.store import job_queue, signing_refusal
from redistill.workers.store.job_queue import Claim
from redistill.workers.store.signing_refusal import SigningRefusal

__all__ = ["Runner"]

log = structlog.get_logger(__name__)

DISK_SECONDS = 30.0
"""How long a job waits before it looks again whether a disk that refused it is mended."""


class Runner:
    """Claims jobs and works on them; one thread calls :meth:`run_once`.

    Parameters
    ----------
    deps
        Of the worker.
    """

    def __init__(self, deps: Dependencies) -> None:
        self._deps = deps
        self._waiting = WaitingJobs(deps.clock)
        self._quiet = Quiet()
        self._left = Counter[str]()
        """How often a job was left where it stood for the database's sake: nobody died."""

    def run_once(self) -> bool:
        """Work on one job, if there is one.

        Returns
        -------
        bool
            Whether there was one.

        Raises
        ------
        StreamsError
            The database cannot be used; the job stays as it is.
        """
        deps = self._deps
        if not deps.child().ready:
            return False  # it loads; a job that is claimed now would only wait
        claim = self._claim()
        if claim is None:
            return False
        log.info(
            "job_claimed",
            action="job_claimed",
            job_id=claim.job.job_id,
            model=claim.job.model,
            phase=claim.job.outcome.get("phase", "new"),
            tries=claim.job.tries,
        )
        with JobSession(
            deps.database, claim, actor=deps.actor, clock=deps.clock, stop=deps.stop
        ) as session:
            self._settle(session)
        return True

    def _claim(self) -> Claim | None:
        """A job that can be worked on: queued, left by a worker that died, or with enough labels
        now."""
        deps = self._deps
        claim = job_queue.claim(deps.database, deps.holder, now=deps.clock())
        if claim is not None:
            return claim
        with deps.database.read() as conn:
            job = self._waiting.ready(conn)
        if job is None:
            return None
        return job_queue.claim_waiting(deps.database, job.job_id, deps.holder, now=deps.clock())

    def _settle(self, session: JobSession) -> None:
        """Work on the job; whatever stops the work decides what becomes of it."""
        try:
            self._attempt(session)
        except (LeaseLost, job_queue.JobEnded) as error:
            log.warning("job_left", action="job_left", job_id=session.job.job_id, why=str(error))

    def _attempt(self, session: JobSession) -> None:
        fleet_limits = self._deps.fleet_limits
        try:
            if job_queue.exhausted(session.job, alive=self._left[session.job.job_id]):
                raise WorkersError(f"{job_queue.MAX_DEATHS} workers died at it in the same step")
            self._work(session)
        except ChildCancelled:
            if session.end == "lost":
                self._left[session.job.job_id] += 1
            self._put_back(session)
        except ChildFailed as error:
            if self._disk_refused(session, error):
                self._wait_for_disk(session, error)
            else:
                self._try_again(session, error)
        except (LeaseLost, job_queue.JobEnded):
            raise
        except job_spec.JobObsolete as error:
            completion.end(session, fleet_limits, "cancelled", why=str(error))
        except Disagreement as error:
            log.error("rows_refused", action="rows_refused", error=str(error))
            with session.fenced() as transaction:
                refusal = SigningRefusal.once(
                    str(error),
                    now=transaction.now,
                    holder=self._deps.holder,
                    before=signing_refusal.get(transaction.conn),
                )
                signing_refusal.put(transaction.conn, refusal)
            completion.end(session, fleet_limits, "failed", why=str(error))
        except (WorkersError, OSError) as error:
            if disk_refuses(error):
                self._wait_for_disk(session, error)
            elif isinstance(error, OSError):  # in this process: a folder that is gone
                told = f"{type(error).__name__}: {error}"
                kind = type(error).__name__
                self._try_again(session, ChildFailed(told, kind=kind, retriable=True))
            else:
                completion.end(session, fleet_limits, "failed", why=str(error))
        except StreamsError as error:
            if error.retriable:
                self._left[session.job.job_id] += 1
                raise
            completion.end(session, fleet_limits, "failed", why=str(error))

    def _work(self, session: JobSession) -> None:
        """Go through the phases that are left, until the job waits or has ended."""
        deps = self._deps
        with session.view() as conn:  # a registration in between would look like a changed row
            context = job_spec.read_inputs(conn, session.job)
            job_spec.want_vouched(conn, context)
        phases = Phases(session, deps, context)
        phase = session.job.outcome.get("phase")
        if phase is None and context.incident is not None and not phases.diagnose():
            return
        while phase != "publish":  # else it was accepted before: the report lies in the folder
            report = phases.judge_again() if phase == "gate" else phases.repair()
            if report is None:
                return
            if report.decision is None:
                raise ChildFailed("the report decides nothing", kind="BadJob", retriable=False)
            match next_step(report.decision):
                case Publish():
                    phase = "publish"
                    with session.fenced() as transaction:
                        transaction.remember(phase=phase)
                case Reject() | Ask() as ended:
                    phase = phases.after(report, ended)
                    if phase is None:
                        return
                case JudgeAgain(why=waits):
                    phases.wait_for_labels(waits)
                    return
        completion.publish(session, deps)

    def _try_again(self, session: JobSession, error: ChildFailed) -> None:
        """The child could not do it: another try, or none."""
        log.warning(
            "job_child_failed",
            action="job_child_failed",
            job_id=session.job.job_id,
            kind=error.kind,
            error=str(error),
            tail=error.tail[-1_000:],
        )
        with session.read() as conn:
            failures = int(session.refresh(conn).outcome.get("failures", 0))
        match retry.decide(
            tries=failures + 1, retriable=error.retriable, error=str(error), now=session.now()
        ):
            case retry.TryAgain(not_before=not_before, why=why):
                with session.fenced() as transaction:
                    transaction.requeue(not_before=not_before, why=why, forgive=False)
            case retry.GiveUp(why=why):
                if not completion.fall_back(session, why=why):
                    completion.end(session, self._deps.fleet_limits, "failed", why=why)

    def _disk_refused(self, session: JobSession, error: ChildFailed) -> bool:
        """Whether it was the disk: a library need not say so, and a page of a mapped file that
        finds no room kills (SIGBUS)."""
        told = error if error.errno is None else OSError(error.errno, str(error))
        folder = self._deps.folder(session.job.job_id)
        return disk_refuses(told) or (error.retriable and is_full(folder))

    def _wait_for_disk(self, session: JobSession, error: Exception) -> None:
        """A disk is full or may not be written: no fault of the job, which waits and loses no
        try."""
        with session.fenced() as transaction:
            not_before = transaction.now + to_us(DISK_SECONDS)
            transaction.requeue(not_before=not_before, why=str(error), forgive=True)
        if (more := self._quiet.ask("disk")) is not None:
            log.warning(
                "disk_refuses",
                action="disk_refuses",
                job_id=session.job.job_id,
                error=str(error),
                more_like_this=more,
            )

    def _put_back(self, session: JobSession) -> None:
        """The child was ended on request: the worker stops, or the job is not ours any more."""
        job_id = session.job.job_id
        if session.end != "stopped":
            log.warning("job_left", action="job_left", job_id=job_id, why=session.end)
            return
        with session.fenced() as transaction:
            why = "the worker was stopped"
            transaction.requeue(not_before=transaction.now, why=why, forgive=True)
        log.info("job_put_back", action="job_put_back", job_id=job_id)

"""Working on jobs, one after the other: window → diagnose → repair → gate → publish.

Where a job stands is in SQL (``outcome.phase`` and ``job_steps``) and in its folder (finished steps
of the pipeline, by hash), so a worker that is killed at any moment leaves a job that the next one
goes on with. Everything is written under the job's lease; what the world sees of a job, its
release, is written in one transaction together with the job's end.
"""

from __future__ import annotations

import sqlalchemy as sa
import structlog

from redistill.compress.plan import Accepted, Rejected, Undecidable
from redistill.streams.errors import StreamsError
from redistill.workers.errors import LeaseLost, WorkersError
from redistill.workers.jobs import completion, job_spec, retry, training_window
from redistill.workers.jobs.child import ChildCancelled, ChildFailed
from redistill.workers.jobs.dependencies import Tools
from redistill.workers.jobs.heartbeat import Heartbeat
from redistill.workers.jobs.phases import Phases
from redistill.workers.store import job_queue
from redistill.workers.store.job_queue import Claim, Job

log = structlog.get_logger(__name__)


FIXED_GATES = frozenset({"trusted_points", "worst_slice_points"})
"""Gates that look at trusted rows only: no label that comes in can decide them."""

MORE_TRUSTED = "trusted rows do not grow by themselves, register more of them to decide it"


class Runner:
    """Claims jobs and works on them; one thread calls :meth:`run_once`.

    Parameters
    ----------
    tools
        Of the worker.
    """

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._next_look: dict[str, int] = {}  # outcomes at which a waiting job is looked at again

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
        tools = self._tools
        if not tools.child().ready:
            return False  # it loads; a job that is claimed now would only wait
        claim = job_queue.claim(tools.database, tools.holder, now=tools.clock()) or self._wake()
        if claim is None:
            return False
        job = claim.job
        log.info(
            "job_claimed",
            action="job_claimed",
            job_id=job.job_id,
            model=job.model,
            phase=job.outcome.get("phase", "new"),
            tries=job.tries,
        )
        with Heartbeat(tools.database, claim, clock=tools.clock, stop=tools.stop) as beat:
            try:
                if job_queue.exhausted(job):
                    raise WorkersError(
                        f"{job_queue.MAX_DEATHS} workers died at it in the same step"
                    )
                self._work(claim, beat)
            except ChildCancelled:
                self._left(claim, beat)
            except ChildFailed as error:
                self._failed(claim, error)
            except (LeaseLost, job_queue.JobEnded) as error:
                log.warning("job_left", action="job_left", job_id=job.job_id, why=str(error))
            except job_spec.NotPossible as error:
                completion.end(tools, claim, "cancelled", why=str(error))
            except WorkersError as error:
                completion.end(tools, claim, "failed", why=str(error))
            except StreamsError as error:
                if error.retriable:
                    raise
                completion.end(tools, claim, "failed", why=str(error))
        return True

    def _wake(self) -> Claim | None:
        """A job that waits for labels and has got enough of them."""
        with self._tools.database.read() as conn:
            ready = next((j for j in job_queue.waiting(conn) if self._enough(conn, j)), None)
        if ready is None:
            return None
        self._next_look.pop(ready.job_id, None)
        return job_queue.claim_waiting(
            self._tools.database, ready.job_id, self._tools.holder, now=self._tools.clock()
        )

    def _enough(self, conn: sa.Connection, job: Job) -> bool:
        """Whether a waiting job has got what it waits for; reads its window only if it may have."""
        wait = job.outcome.get("wait", {})
        if self._tools.clock() < int(wait.get("look_at", 0)):
            return False
        try:
            context = job_spec.read_context(conn, job)
        except job_spec.NotPossible:
            return True  # it will end with the reason
        since = context.since if context.incident is not None else wait.get("since")
        outcomes = training_window.labelled_outcomes(conn, job.model, context.version, since)
        if outcomes < self._next_look.get(job.job_id, int(wait.get("outcomes", 0))):
            return False
        found = training_window.read(
            conn, job_spec.wanted(context, frozen_at=job.frozen_at, since=since)
        )
        missing = int(wait.get("rows", 0)) - found.counts[wait.get("count", "gate_labelled")]
        if missing > 0 and wait.get("count") != "train":
            self._next_look[job.job_id] = outcomes + missing
        return missing <= 0

    def _work(self, claim: Claim, beat: Heartbeat) -> None:
        tools = self._tools
        with tools.database.read() as conn:
            context = job_spec.read_context(conn, claim.job)
        phases = Phases(tools, claim, context, beat)
        phase = claim.job.outcome.get("phase")
        if phase is None and context.incident is not None and not phases.diagnose():
            return
        if phase != "publish":  # else it was accepted before: the report lies in the folder
            ran = phases.judge_again() if phase == "gate" else phases.repair()
            if ran is None:
                return
            match ran.report.decision:
                case Accepted():
                    with job_queue.fenced(tools.database, claim, tools.clock) as conn:
                        completion.remember(conn, claim, phase="publish")
                case Rejected(reasons=reasons):
                    completion.reject(tools, claim, context, ran.report, list(reasons))
                    return
                case Undecidable(gate="verified_rows") as undecided:
                    # more labels of the same source prove nothing: somebody has to look at the rows
                    completion.reject(tools, claim, context, ran.report, [undecided.why])
                    return
                case Undecidable(gate=gate) as undecided if gate in FIXED_GATES:
                    why = f"{gate}: not proven: {undecided.why}; {MORE_TRUSTED}"
                    completion.reject(tools, claim, context, ran.report, [why])
                    return
                case Undecidable() as undecided:
                    phases.wait_for_labels(undecided)
                    return
                case None:
                    raise ChildFailed("the report decides nothing", kind="BadJob", retriable=False)
        with tools.database.read() as conn:
            job = job_queue.get(conn, claim.job.job_id)
            if job is None:
                raise LookupError(claim.job.job_id)
            claim = Claim(job, claim.token)
            context = job_spec.read_context(conn, job)
        completion.publish(tools, claim, context)

    def _failed(self, claim: Claim, error: ChildFailed) -> None:
        """The child could not do it: try again, or give up."""
        tools = self._tools
        log.warning(
            "job_child_failed",
            action="job_child_failed",
            job_id=claim.job.job_id,
            kind=error.kind,
            error=str(error),
            tail=error.tail[-1_000:],
        )
        with tools.database.read() as conn:
            job = job_queue.get(conn, claim.job.job_id)
        failures = 0 if job is None else int(job.outcome.get("failures", 0))
        match retry.decide(
            tries=failures + 1, retriable=error.retriable, error=str(error), now=tools.clock()
        ):
            case retry.TryAgain(not_before=not_before, why=why):
                with job_queue.fenced(tools.database, claim, tools.clock) as conn:
                    job_queue.requeue(conn, claim, not_before=not_before, why=why, forgive=False)
            case retry.GiveUp(why=why):
                completion.end(tools, claim, "failed", why=why)

    def _left(self, claim: Claim, beat: Heartbeat) -> None:
        """The child was ended on request: the worker stops, or the job is not ours any more."""
        tools, job_id = self._tools, claim.job.job_id
        if beat.end != "stopped":
            log.warning("job_left", action="job_left", job_id=job_id, why=beat.end)
            return
        with job_queue.fenced(tools.database, claim, tools.clock) as conn:
            why = "the worker was stopped"
            job_queue.requeue(conn, claim, not_before=tools.clock(), why=why, forgive=True)
        log.info("job_put_back", action="job_put_back", job_id=job_id)

"""Working on jobs, one after the other: window → diagnose → repair → gate → publish.

Where a job stands is in SQL (``outcome.phase`` and ``job_steps``) and in its folder (finished steps
of the pipeline, by hash), so a worker that is killed at any moment leaves a job that the next one
goes on with. Everything is written under the job's lease; what the world sees of a job, its
release, is written in one transaction together with the job's end.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog

from compress.plan import Accepted, Diagnosis, Mode, Rejected, Report, Undecidable
from streams.errors import StreamsError
from streams.store.database import Database
from workers.errors import LeaseLost, WorkersError
from workers.incidents import lifecycle, policy
from workers.incidents.terms import Rules
from workers.jobs import orders, retry, store, window
from workers.jobs.child import Child, ChildCancelled, ChildFailed, Ran
from workers.jobs.heartbeat import Heartbeat
from workers.jobs.publish import Publisher
from workers.jobs.store import Claim, Job
from workers.store.tables import jobs

log = structlog.get_logger(__name__)

MIN_LABELS = 20
"""Labelled rows without which no diagnosis is asked for."""

MIN_TRAIN_ROWS = 64
"""Training rows without which no repair is started: the pipeline wants 32 distinct ones."""

NEW_GATE_ROWS = 25
"""A candidate that could not be decided is judged again at each so many new gate rows."""

LOOK_SECONDS = 2.0
"""How often a job that waits for rows, not labels, looks for them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Limits of the child."""

    deadline_s: float
    memory_bytes: int | None


class Runner:
    """Claims jobs and works on them; one thread at a time calls :meth:`run_once`.

    Parameters
    ----------
    database
        The rows.
    home
        Holds ``objects/``, ``jobs/`` and the repository.
    holder
        Unique per process start: the name under which jobs are claimed.
    child
        The warm process; a new one is started where it is gone.
    rules
        The fleet's limits.
    publisher
        Makes releases of accepted candidates.
    limits
        Of one run of the child.
    clock
        Microseconds since 1970.
    stop
        Set when the worker ends: the job at work is left resumable.
    """

    def __init__(
        self,
        database: Database,
        *,
        home: Path,
        holder: str,
        child: Child,
        rules: Rules,
        publisher: Publisher,
        limits: Limits,
        clock: Callable[[], int],
        stop: threading.Event,
        restart: Callable[[], Child] = Child.start,
    ) -> None:
        self._database = database
        self._home = home
        self._holder = holder
        self._child = child
        self._rules = rules
        self._publisher = publisher
        self._limits = limits
        self._clock = clock
        self._stop = stop
        self._restart = restart
        self._starting = threading.Lock()
        self._next_look: dict[str, int] = {}  # outcomes at which a waiting job is looked at again

    @property
    def _actor(self) -> str:
        return f"worker:{self._holder}"

    def close(self) -> None:
        """End the child."""
        self._child.close()

    def folder(self, job_id: str) -> Path:
        """Where a job's files are."""
        return self._home / "jobs" / job_id

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
        claim = store.claim(self._database, self._holder, now=self._clock())
        if claim is None:
            claim = self._wake()
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
        with Heartbeat(self._database, claim, clock=self._clock, stop=self._stop) as beat:
            try:
                if store.exhausted(job):
                    why = f"its worker died {retry.MAX_TRIES} times in the same step"
                    self._fail(claim, why)
                else:
                    self._work(claim, beat)
            except ChildCancelled:
                self._left(claim, beat)
            except ChildFailed as error:
                self._failed(claim, error)
            except (LeaseLost, store.JobEnded) as error:
                log.warning("job_left", action="job_left", job_id=job.job_id, why=str(error))
            except orders.NotPossible as error:
                self._end(claim, "cancelled", why=str(error))
            except WorkersError as error:
                self._fail(claim, str(error))
            except StreamsError as error:
                if error.retriable:
                    raise
                self._fail(claim, str(error))
        return True

    # --- waking jobs that wait ---

    def _wake(self) -> Claim | None:
        """A job that waits for labels and has got enough of them."""
        with self._database.read() as conn:
            ready = next((j for j in store.waiting(conn) if self._enough(conn, j)), None)
        if ready is None:
            return None
        return store.claim_waiting(self._database, ready.job_id, self._holder, now=self._clock())

    def _enough(self, conn: sa.Connection, job: Job) -> bool:
        wait = job.outcome.get("wait", {})
        try:
            context = orders.read_context(conn, job)
        except orders.NotPossible:
            return True  # it will end with the reason
        if self._clock() < int(wait.get("look_at", 0)):
            return False
        since = context.since if context.incident is not None else wait.get("since")
        outcomes = window.labelled_outcomes(conn, job.model, context.version, since)
        if outcomes < self._next_look.get(job.job_id, int(wait.get("outcomes", 0))):
            return False  # so few cannot hold enough new rows: the window need not be read
        found = window.read(conn, orders.wanted(context, frozen_at=job.frozen_at, since=since))
        missing = int(wait.get("rows", 0)) - found.counts[wait.get("count", "gate_labelled")]
        if missing <= 0:
            self._next_look.pop(job.job_id, None)
            return True
        self._next_look[job.job_id] = outcomes + missing
        return False

    # --- the work ---

    def _work(self, claim: Claim, beat: Heartbeat) -> None:
        with self._database.read() as conn:
            context = orders.read_context(conn, claim.job)
        phase = claim.job.outcome.get("phase")
        if phase is None and context.incident is not None:
            if not self._diagnose(claim, context, beat):
                return
            phase = "repair"
        if phase in (None, "repair"):
            ran = self._repair(claim, context, beat)
        elif phase == "gate":
            ran = self._judge_again(claim, context, beat)
        else:
            ran = None  # accepted before: the report lies in the folder
        if phase != "publish":
            if ran is None:
                return
            match ran.report.decision:
                case Accepted():
                    self._phase(claim, "publish")
                case Rejected(reasons=reasons):
                    self._reject(claim, context, ran.report, list(reasons))
                    return
                case Undecidable() as undecided:
                    self._undecided(claim, context, undecided)
                    return
                case None:
                    raise ChildFailed("the report decides nothing", kind="BadJob", retriable=False)
        self._publish(claim, context)

    def _diagnose(self, claim: Claim, context: orders.Context, beat: Heartbeat) -> bool:
        """Ask which cause it is; whether the job goes on."""
        began = time.monotonic()
        with self._database.read() as conn:
            found = window.read(conn, orders.wanted(context, frozen_at=None, since=None))
        labelled = found.counts["labelled"]
        if labelled < MIN_LABELS:
            diagnosis = Diagnosis(
                cause="undecided",
                why=f"{labelled} labelled rows since the change, {MIN_LABELS} are needed",
                student_loss_points=None,
                teacher_loss_points=None,
                disagreement=None,
                labelled=labelled,
            )
            cpu = 0.0
        else:
            ran = self._run(claim, context, "diagnose", found, beat)
            if ran.report.diagnosis is None:
                raise ChildFailed("the report has no diagnosis", kind="BadJob", retriable=False)
            diagnosis, cpu = ran.report.diagnosis, ran.cpu_seconds
        now = self._clock()
        incident_id = str(claim.job.incident_id)
        with store.fenced(self._database, claim, self._clock) as conn:
            store.record_step(
                conn,
                claim,
                "diagnose",
                "running" if diagnosis.cause == "undecided" else "done",
                now=now,
                seconds=time.monotonic() - began,
                cpu_seconds=cpu,
                detail=_plain(diagnosis),
            )
            remedy = lifecycle.diagnosed(
                conn,
                incident_id,
                diagnosis,
                self._rules,
                job_id=claim.job.job_id,
                actor=self._actor,
                now=now,
            )
            match remedy:
                case policy.Repair():
                    _set_phase(conn, claim, "repair")
                case policy.WaitForLabels():
                    need = MIN_LABELS if labelled < MIN_LABELS else labelled + MIN_LABELS
                    wait = {"count": "labelled", "rows": need, "outcomes": need}
                    self._park(conn, claim, wait, have=labelled, why=remedy.why, now=now)
                case _:
                    reasons = {"reasons": [remedy.why], "cause": diagnosis.cause}
                    store.finish(conn, claim.job, "cancelled", outcome=reasons, now=now)
                    store.release(conn, claim)
        return isinstance(remedy, policy.Repair)

    def _repair(self, claim: Claim, context: orders.Context, beat: Heartbeat) -> Ran | None:
        """Train, shrink and judge; ``None``: there are too few rows yet."""
        with self._database.read() as conn:
            done = {s["name"]: s for s in store.steps(conn, claim.job.job_id)}
        frozen = claim.job.frozen_at
        fresh: window.Window | None = None
        path = self.folder(claim.job.job_id) / "fresh.parquet"
        if frozen is None or "window" not in done or not path.exists():
            began, now = time.monotonic(), self._clock()
            with self._database.read() as conn:
                fresh = window.read(conn, orders.wanted(context, frozen_at=None, since=None))
            if fresh.counts["train"] < MIN_TRAIN_ROWS:
                self._wait_for_rows(claim, context, fresh)
                return None
            orders.fill(
                self.folder(claim.job.job_id),
                context,
                self._order(context, "repair"),
                home=self._home,
            )
            window.write(fresh, path)
            with store.fenced(self._database, claim, self._clock) as conn:
                conn.execute(
                    sa.update(jobs)
                    .where(jobs.c.job_id == claim.job.job_id)
                    .values(frozen_at=fresh.newest or now)
                )
                store.record_step(
                    conn,
                    claim,
                    "window",
                    "done",
                    now=now,
                    seconds=time.monotonic() - began,
                    detail={**fresh.counts, "since": fresh.since, "frozen_at": fresh.newest},
                )
        ran = self._run(claim, context, "repair", None, beat)
        self._record(claim, ran)
        return ran

    def _judge_again(self, claim: Claim, context: orders.Context, beat: Heartbeat) -> Ran:
        """Judge the finished candidate with the rows that came since."""
        with self._database.read() as conn:
            found = window.read(
                conn,
                orders.wanted(
                    context, frozen_at=claim.job.frozen_at, since=self._since(conn, claim.job)
                ),
            )
        ran = self._run(claim, context, "gate", found, beat)
        self._record(claim, ran)
        return ran

    def _run(
        self,
        claim: Claim,
        context: orders.Context,
        mode: Mode,
        fresh: window.Window | None,
        beat: Heartbeat,
    ) -> Ran:
        """One run of the child in the job's folder."""
        folder = self.folder(claim.job.job_id)
        orders.fill(folder, context, self._order(context, mode), home=self._home)
        if fresh is not None:
            window.write(fresh, folder / "fresh.parquet")
        current: list[str] = []

        def progress(step: str, share: float) -> None:
            if current[-1:] != [step]:
                current.append(step)
                log.info(
                    "job_step",
                    action="job_step",
                    job_id=claim.job.job_id,
                    mode=mode,
                    step=step,
                    share=share,
                )

        return self.warm_child().run(
            folder,
            deadline_s=self._limits.deadline_s,
            memory_bytes=self._limits.memory_bytes,
            progress=progress,
            cancelled=beat.cancelled,
        )

    def _order(self, context: orders.Context, mode: Mode) -> Any:
        return orders.order_of(context, mode, deadline_s=self._limits.deadline_s)

    def warm_child(self) -> Child:
        """The process for jobs; a new one if it is gone. Safe to call from several threads."""
        with self._starting:
            if not self._child.alive:
                log.warning("child_restarted", action="child_restarted")
                self._child.close()
                self._child = self._restart()
            return self._child

    def _since(self, conn: sa.Connection, job: Job) -> int | None:
        for step in store.steps(conn, job.job_id):
            if step["name"] == "window":
                since = json.loads(step["detail"] or "{}").get("since")
                return None if since is None else int(since)
        return None

    def _record(self, claim: Claim, ran: Ran) -> None:
        """Steps and their seconds, as the child measured them."""
        report, now = ran.report, self._clock()
        with store.fenced(self._database, claim, self._clock) as conn:
            for name, seconds in report.seconds.items():
                if name in ("cpu", "total"):
                    continue
                detail = None
                if name == "gate" or name == report.mode:
                    detail = {"gates": [_plain(g) for g in report.gates], "rows": report.rows}
                store.record_step(
                    conn,
                    claim,
                    name,
                    "done",
                    now=now,
                    seconds=seconds,
                    cpu_seconds=ran.cpu_seconds if name == "gate" else None,
                    detail=detail,
                )

    def _phase(self, claim: Claim, phase: str) -> None:
        with store.fenced(self._database, claim, self._clock) as conn:
            _set_phase(conn, claim, phase)

    # --- ends ---

    def _undecided(self, claim: Claim, context: orders.Context, undecided: Undecidable) -> None:
        now = self._clock()
        self._next_look.pop(claim.job.job_id, None)
        if undecided.gate == "verified_rows" and claim.job.options.get("source"):
            # more labels of the same source prove nothing: somebody else has to look at the rows
            self._end(claim, "rejected", why=undecided.why)
            return
        judged = self._judged(claim)
        with self._database.read() as conn:
            since = context.since if context.incident is not None else self._since(conn, claim.job)
            outcomes = window.labelled_outcomes(conn, claim.job.model, context.version, since)
        wait = {
            "count": "gate_labelled",
            "rows": judged + NEW_GATE_ROWS,
            # looked at once in any case: rows came in while the candidate was made
            "outcomes": min(outcomes, judged + NEW_GATE_ROWS),
            "since": since,
        }
        with store.fenced(self._database, claim, self._clock) as conn:
            _set_phase(conn, claim, "gate")
            self._park(conn, claim, wait, have=judged, why=undecided.why, now=now)

    def _judged(self, claim: Claim) -> int:
        """Labelled gate rows that the last judgement was given."""
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        path = self.folder(claim.job.job_id) / "fresh.parquet"
        table = pq.read_table(path, columns=["split", "label"])
        gate = pc.and_(pc.equal(table["split"], "gate"), pc.is_valid(table["label"]))
        return int(pc.sum(gate).as_py() or 0)

    def _wait_for_rows(self, claim: Claim, context: orders.Context, fresh: window.Window) -> None:
        now = self._clock()
        have = fresh.counts["train"]
        why = f"{have} served rows to train on since the change, {MIN_TRAIN_ROWS} are needed"
        with store.fenced(self._database, claim, self._clock) as conn:
            wait = {
                "count": "train",
                "rows": MIN_TRAIN_ROWS,
                "outcomes": 0,
                "look_at": now + round(LOOK_SECONDS * 1e6),
            }
            self._park(conn, claim, wait, have=have, why=why, now=now)

    def _park(
        self,
        conn: sa.Connection,
        claim: Claim,
        wait: Mapping[str, Any],
        *,
        have: int,
        why: str,
        now: int,
    ) -> None:
        job = store.get(conn, claim.job.job_id)
        if job is None:
            raise LookupError(claim.job.job_id)
        store.park(
            conn,
            Claim(job, claim.token),
            outcome={"wait": dict(wait), "why": why},
            gate_rows=have,
            now=now,
        )
        lifecycle.job_parked(conn, job, why=why, actor=self._actor, now=now)
        log.info(
            "job_waits",
            action="job_waits",
            job_id=job.job_id,
            have=have,
            need=wait["rows"],
            why=why,
        )

    def _publish(self, claim: Claim, context: orders.Context) -> None:
        folder = self.folder(claim.job.job_id)
        began = time.monotonic()
        candidate = self._publisher.prepare(folder, context)
        sealed_seconds = time.monotonic() - began
        now = self._clock()
        with store.fenced(self._database, claim, self._clock) as conn:
            # The same locks as everybody who decides about this model, and the truth of this
            # moment.
            context = orders.read_context(conn, claim.job)
            store.record_step(conn, claim, "seal", "done", now=now, seconds=sealed_seconds)
            moved = self._publisher.publish(conn, candidate, context, actor=self._actor, now=now)
            store.record_step(
                conn,
                claim,
                "publish",
                "done",
                now=now,
                seconds=time.monotonic() - began - sealed_seconds,
                detail={"version": moved.version, "epoch": moved.epoch},
            )
            why = f"published {moved.version} (epoch {moved.epoch}), its gates passed"
            self._finish(
                conn,
                claim,
                "succeeded",
                why=why,
                now=now,
                outcome={
                    "version": moved.version,
                    "sha256": candidate.sha256,
                    "epoch": moved.epoch,
                },
            )
        self._publisher.published()
        log.info(
            "job_published",
            action="job_published",
            job_id=claim.job.job_id,
            model=claim.job.model,
            version=moved.version,
            epoch=moved.epoch,
        )

    def _reject(
        self, claim: Claim, context: orders.Context, report: Report, reasons: list[str]
    ) -> None:
        now = self._clock()
        with store.fenced(self._database, claim, self._clock) as conn:
            sha256 = self._publisher.rejected(conn, report, context, now=now)
            self._finish(
                conn,
                claim,
                "rejected",
                why="; ".join(reasons),
                now=now,
                outcome={"reasons": reasons, "sha256": sha256},
            )

    def _end(self, claim: Claim, state: str, *, why: str) -> None:
        """End the job without a release."""
        try:
            with store.fenced(self._database, claim, self._clock) as conn:
                self._finish(
                    conn, claim, state, why=why, now=self._clock(), outcome={"reasons": [why]}
                )
        except (LeaseLost, store.JobEnded) as error:
            log.warning("job_left", action="job_left", job_id=claim.job.job_id, why=str(error))

    def _finish(
        self,
        conn: sa.Connection,
        claim: Claim,
        state: str,
        *,
        why: str,
        now: int,
        outcome: Mapping[str, Any],
    ) -> None:
        job = store.get(conn, claim.job.job_id)
        if job is None:
            raise LookupError(claim.job.job_id)
        seconds = (now - (job.started_at or now)) / 1e6
        store.finish(conn, job, state, outcome={**outcome, "why": why, "seconds": seconds}, now=now)
        store.release(conn, claim)
        lifecycle.job_ended(
            conn,
            replace(job, state=state),
            state,
            why=why,
            rules=self._rules,
            actor=self._actor,
            now=now,
        )
        log.info(
            "job_ended",
            action="job_ended",
            job_id=job.job_id,
            state=state,
            why=why,
            seconds=seconds,
        )

    def _fail(self, claim: Claim, why: str) -> None:
        self._end(claim, "failed", why=why)

    def _failed(self, claim: Claim, error: ChildFailed) -> None:
        """The child could not do it: try again, or give up."""
        now = self._clock()
        log.warning(
            "job_child_failed",
            action="job_child_failed",
            job_id=claim.job.job_id,
            kind=error.kind,
            error=str(error),
            tail=error.tail[-1_000:],
        )
        match retry.decide(
            tries=claim.job.tries, retriable=error.retriable, error=str(error), now=now
        ):
            case retry.TryAgain(not_before=not_before, why=why):
                with store.fenced(self._database, claim, self._clock) as conn:
                    store.requeue(conn, claim, not_before=not_before, why=why, forgive=False)
            case retry.GiveUp(why=why):
                self._fail(claim, why)

    def _left(self, claim: Claim, beat: Heartbeat) -> None:
        """The child was ended on request: the worker stops, or the job is not ours any more."""
        job_id = claim.job.job_id
        if beat.end != "stopped":
            log.warning("job_left", action="job_left", job_id=job_id, why=beat.end)
            return
        with store.fenced(self._database, claim, self._clock) as conn:
            store.requeue(
                conn, claim, not_before=self._clock(), why="the worker was stopped", forgive=True
            )
        log.info("job_put_back", action="job_put_back", job_id=job_id)


def _set_phase(conn: sa.Connection, claim: Claim, phase: str) -> None:
    job = store.get(conn, claim.job.job_id)
    if job is not None:
        outcome = json.dumps({**job.outcome, "phase": phase}, sort_keys=True)
        conn.execute(sa.update(jobs).where(jobs.c.job_id == job.job_id).values(outcome=outcome))


def _plain(value: Any) -> dict[str, Any]:
    import msgspec

    plain: dict[str, Any] = msgspec.to_builtins(value)
    return plain

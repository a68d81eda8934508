"""The phases of a job that run the child: diagnose, repair, and judging again.

Each writes what it found under the job's lease before the next one begins, so a phase that was
interrupted is done again, and a finished one is not.
"""

from __future__ import annotations

import json
import time
from typing import Any

import msgspec
import pyarrow.compute as pc
import pyarrow.parquet as pq
import sqlalchemy as sa
import structlog

from redistill.compress.plan import Diagnosis, Mode, Undecidable
from redistill.workers.incidents import lifecycle, policy
from redistill.workers.jobs import completion, job_spec, training_window
from redistill.workers.jobs.child import ChildFailed, Ran
from redistill.workers.jobs.dependencies import Tools
from redistill.workers.jobs.heartbeat import Heartbeat
from redistill.workers.jobs.job_spec import Context
from redistill.workers.store import checkpoints, job_queue
from redistill.workers.store.job_queue import Claim, Job
from redistill.workers.store.tables import jobs

log = structlog.get_logger(__name__)

MIN_LABELS = 20
"""Labelled rows without which no diagnosis is asked for."""

MIN_TRAIN_ROWS = 64
"""Training rows without which no repair is started: the pipeline wants 32 distinct ones."""

NEW_GATE_ROWS = 25
"""A candidate that could not be decided is judged again at each so many new gate rows."""

LOOK_SECONDS = 2.0
"""How often a job that waits for rows, not labels, looks for them."""


class Phases:
    """The phases of one claimed job.

    Parameters
    ----------
    tools
        Of the worker.
    claim
        The job, and the right to write about it.
    context
        What SQL says of it.
    beat
        Keeps the claim; ends the child when it is lost.
    """

    def __init__(self, tools: Tools, claim: Claim, context: Context, beat: Heartbeat) -> None:
        self._tools = tools
        self._claim = claim
        self._context = context
        self._beat = beat
        self._folder = tools.folder(claim.job.job_id)

    def diagnose(self) -> bool:
        """Ask which cause it is.

        Returns
        -------
        bool
            Whether the job goes on with a repair; if not, it waits or has ended.
        """
        tools, claim, context = self._tools, self._claim, self._context
        began = time.monotonic()
        found = self._window(frozen_at=None, since=None)
        labelled, cpu = found.counts["labelled"], 0.0
        if labelled < MIN_LABELS:
            diagnosis = _too_few(labelled)
        else:
            ran = self._run("diagnose", found)
            if ran.report.diagnosis is None:
                raise ChildFailed("the report has no diagnosis", kind="BadJob", retriable=False)
            diagnosis, cpu = ran.report.diagnosis, ran.cpu_seconds
        now = tools.clock()
        with job_queue.fenced(tools.database, claim, tools.clock) as conn:
            checkpoints.record(
                conn,
                claim,
                "diagnose",
                "running" if diagnosis.cause == "undecided" else "done",
                now=now,
                seconds=time.monotonic() - began,
                cpu_seconds=cpu,
                detail=msgspec.to_builtins(diagnosis),
            )
            remedy = lifecycle.diagnosed(
                conn,
                str(claim.job.incident_id),
                diagnosis,
                tools.rules,
                job_id=claim.job.job_id,
                actor=tools.actor,
                now=now,
            )
            match remedy:
                case policy.Repair():
                    completion.remember(conn, claim, phase="repair")
                    return True
                case policy.WaitForLabels():
                    need = MIN_LABELS if labelled < MIN_LABELS else labelled + MIN_LABELS
                    wait = {"count": "labelled", "rows": need, "outcomes": need}
                    completion.park(conn, tools, claim, wait, have=labelled, why=remedy.why)
                case _:
                    job = completion.current(conn, claim)
                    outcome = {
                        "reasons": [remedy.why],
                        "why": remedy.why,
                        "cause": diagnosis.cause,
                    }
                    job_queue.finish(conn, job, "cancelled", outcome=outcome, now=now)
                    job_queue.release(conn, claim)
        log.info(
            "job_diagnosed",
            action="job_diagnosed",
            job_id=claim.job.job_id,
            model=context.job.model,
            cause=diagnosis.cause,
            decision=remedy.decision,
        )
        return False

    def repair(self) -> Ran | None:
        """Train, shrink and judge.

        Returns
        -------
        Ran or None
            ``None``: there are too few rows yet, and the job waits.
        """
        path = self._folder / "fresh.parquet"
        if not (self._frozen() and path.exists()):
            began, now = time.monotonic(), self._tools.clock()
            fresh = self._window(frozen_at=None, since=None)
            if fresh.counts["train"] < MIN_TRAIN_ROWS:
                self._wait_for_rows(fresh)
                return None
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            training_window.write(fresh, path)
            with job_queue.fenced(self._tools.database, self._claim, self._tools.clock) as conn:
                conn.execute(
                    sa.update(jobs)
                    .where(jobs.c.job_id == self._claim.job.job_id)
                    .values(frozen_at=fresh.newest or now)
                )
                completion.remember(conn, self._claim, incumbent=self._context.version)
                checkpoints.record(
                    conn,
                    self._claim,
                    "window",
                    "done",
                    now=now,
                    seconds=time.monotonic() - began,
                    detail={**fresh.counts, "since": fresh.since, "frozen_at": fresh.newest},
                )
        ran = self._run("repair", None)
        self._record(ran)
        return ran

    def judge_again(self) -> Ran:
        """Judge the finished candidate with the gate rows that came since."""
        with self._tools.database.read() as conn:
            since = window_since(conn, self._claim.job)
        found = self._window(frozen_at=self._claim.job.frozen_at, since=since)
        ran = self._run("gate", found)
        self._record(ran)
        return ran

    def wait_for_labels(self, undecided: Undecidable) -> None:
        """Too few gate rows: judge again when there are so many new ones."""
        tools, job = self._tools, self._claim.job
        judged = self._judged()
        with tools.database.read() as conn:
            since = window_since(conn, job)
            begin = since if self._context.incident is None else self._context.since
            outcomes = training_window.labelled_outcomes(
                conn, job.model, self._context.version, begin
            )
        wait = {
            "count": "gate_labelled",
            "rows": judged + NEW_GATE_ROWS,
            # looked at once in any case: rows came in while the candidate was made
            "outcomes": min(outcomes, judged + NEW_GATE_ROWS),
            "since": since,
        }
        with job_queue.fenced(tools.database, self._claim, tools.clock) as conn:
            completion.remember(conn, self._claim, phase="gate")
            completion.park(conn, tools, self._claim, wait, have=judged, why=undecided.why)

    def _frozen(self) -> bool:
        """Whether the training rows were chosen by an earlier try: then they stay."""
        if self._claim.job.frozen_at is None:
            return False
        with self._tools.database.read() as conn:
            done = checkpoints.read(conn, self._claim.job.job_id)
        return any(s["name"] == "window" for s in done)

    def _window(self, *, frozen_at: int | None, since: int | None) -> training_window.Window:
        wanted = job_spec.wanted(self._context, frozen_at=frozen_at, since=since)
        with self._tools.database.read() as conn:
            return training_window.read(conn, wanted)

    def _run(self, mode: Mode, fresh: training_window.Window | None) -> Ran:
        """One run of the child in the job's folder."""
        tools, job_id = self._tools, self._claim.job.job_id
        order = job_spec.order_of(self._context, mode, deadline_s=tools.deadline_s)
        job_spec.fill(self._folder, self._context, order, home=tools.home)
        if fresh is not None:
            training_window.write(fresh, self._folder / "fresh.parquet")
        began: dict[str, float] = {}

        def progress(step: str, share: float) -> None:
            if step not in began:
                began[step] = time.monotonic()
                log.info("job_step", action="job_step", job_id=job_id, mode=mode, step=step)
            if share >= 1.0 and mode == "repair":
                # Written at once: a worker that dies later has got further than the last one.
                with job_queue.fenced(tools.database, self._claim, tools.clock) as conn:
                    checkpoints.record(
                        conn,
                        self._claim,
                        step,
                        "done",
                        now=tools.clock(),
                        seconds=time.monotonic() - began[step],
                    )

        return tools.child().run(
            self._folder,
            deadline_s=tools.deadline_s,
            memory_bytes=tools.memory_bytes,
            progress=progress,
            cancelled=self._beat.cancelled,
        )

    def _record(self, ran: Ran) -> None:
        """Steps and their seconds, as the child measured them; judging is what is left of them.

        The CPU time of the process that trained stays with the step ``train``: judging again with
        more rows overwrites only what judging cost.
        """
        report, now = ran.report, self._tools.clock()
        took = {k: v for k, v in report.seconds.items() if k not in ("cpu", "total")}
        judging = max(0.0, report.seconds.get("total", ran.seconds) - sum(took.values()))
        detail: dict[str, Any] = {
            "gates": msgspec.to_builtins(report.gates),
            "rows": report.rows,
            "decision": msgspec.to_builtins(report.decision),
            "warnings": list(report.warnings),
            "memory_bytes": ran.memory_bytes,
        }
        with job_queue.fenced(self._tools.database, self._claim, self._tools.clock) as conn:
            if report.mode == "repair":
                for name, seconds in took.items():
                    cpu = ran.cpu_seconds if name == "train" else None
                    checkpoints.set_seconds(conn, self._claim, name, seconds, cpu_seconds=cpu)
            checkpoints.record(
                conn,
                self._claim,
                "gate",
                "done",
                now=now,
                seconds=judging,
                cpu_seconds=None if "train" in took else ran.cpu_seconds,
                detail=detail,
            )

    def _judged(self) -> int:
        """Labelled gate rows that the last judgement was given."""
        table = pq.read_table(self._folder / "fresh.parquet", columns=["split", "label"])
        gate = pc.and_(pc.equal(table["split"], "gate"), pc.is_valid(table["label"]))
        return int(pc.sum(gate).as_py() or 0)

    def _wait_for_rows(self, fresh: training_window.Window) -> None:
        tools, have = self._tools, fresh.counts["train"]
        why = f"{have} served rows to train on since the change, {MIN_TRAIN_ROWS} are needed"
        wait = {
            "count": "train",
            "rows": MIN_TRAIN_ROWS,
            "outcomes": 0,
            "look_at": tools.clock() + round(LOOK_SECONDS * 1e6),
        }
        with job_queue.fenced(tools.database, self._claim, tools.clock) as conn:
            completion.park(conn, tools, self._claim, wait, have=have, why=why)


def window_since(conn: sa.Connection, job: Job) -> int | None:
    """Begin of the window as it was found when the training rows were chosen."""
    for step in checkpoints.read(conn, job.job_id):
        if step["name"] == "window":
            since = json.loads(step["detail"] or "{}").get("since")
            return None if since is None else int(since)
    return None


def _too_few(labelled: int) -> Diagnosis:
    return Diagnosis(
        cause="undecided",
        why=f"{labelled} labelled rows since the change, {MIN_LABELS} are needed",
        student_loss_points=None,
        teacher_loss_points=None,
        disagreement=None,
        labelled=labelled,
    )

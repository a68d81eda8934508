"""Phases of a job that run the child: diagnose, repair, and judging again.

Each writes what it found through the job's session before the next one begins, so a phase that was
interrupted is done again, and a finished one is not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.compute as pc
import pyarrow.parquet as pq
import structlog

from redistill.compress import remedies
from redistill.compress.plan import Diagnosis, JobSpec, Mode, Report
from redistill.streams.monitor.label_trust import ranking
from redistill.times import to_us
from redistill.workers.incidents import lifecycle
from redistill.workers.incidents.remedy import Repair, WaitForLabels
from redistill.workers.jobs import completion, job_spec, remedy_facts, training_window, turn
from redistill.workers.jobs.child_outcome import ChildFailed, ChildRun
from redistill.workers.jobs.dependencies import Dependencies
from redistill.workers.jobs.job_spec import JobInputs
from redistill.workers.jobs.next_step import Ask, Reject
from redistill.workers.jobs.second_labels import differed_before, with_second_labels
from redistill.workers.jobs.session import JobSession
from redistill.workers.jobs.turn import Turn
from redistill.workers.jobs.window_checks import check_window, profile_of
from redistill.workers.store import checkpoints, names

__all__ = ["MIN_LABELS", "NEW_GATE_ROWS", "Phases", "window_since"]

log = structlog.get_logger(__name__)

MIN_LABELS = 20
"""Labelled rows without which no diagnosis is asked for."""

MIN_TRAIN_ROWS = 64
"""Training rows without which no repair is started: the pipeline wants 32 distinct ones."""

MIN_LABELLED_TRAIN_ROWS = 32
"""The same where labels are learned: fewer of them fail in the pipeline."""

NEW_GATE_ROWS = 25
"""A candidate that could not be decided is judged again at each so many new gate rows."""

LOOK_SECONDS = 2.0
"""How often a job that waits for rows, not labels, looks for them."""


class Phases:
    """The phases of one claimed job.

    Parameters
    ----------
    session
        The job, and the right to write about it.
    deps
        Of the worker.
    context
        What SQL says of the job.
    """

    def __init__(self, session: JobSession, deps: Dependencies, context: JobInputs) -> None:
        self._session = session
        self._deps = deps
        self._context = context
        self._folder = deps.folder(session.job.job_id)
        self._fresh = self._folder / "fresh.parquet"

    def diagnose(self) -> bool:
        """Ask which cause it is.

        Returns
        -------
        bool
            Whether the job goes on with a repair; if not, it waits or has ended.
        """
        session, job = self._session, self._session.job
        began = time.monotonic()
        window = self._window(frozen_at=None, since=None)
        labelled, cpu = window.counts["labelled"], 0.0
        if labelled < MIN_LABELS:
            diagnosis = _too_few(labelled)
        else:
            ran = self._run("diagnose", self._checked(window))
            if ran.report.diagnosis is None:
                raise ChildFailed("the report has no diagnosis", kind="BadJob", retriable=False)
            diagnosis, cpu = ran.report.diagnosis, ran.cpu_seconds
        with session.fenced() as transaction:
            remedy = lifecycle.diagnosed(
                transaction.conn,
                str(job.incident_id),
                diagnosis,
                self._deps.fleet_limits,
                job_id=job.job_id,
                actor=transaction.actor,
                now=transaction.now,
            )
            transaction.record(
                "diagnose",
                "running" if isinstance(remedy, WaitForLabels) else "done",
                seconds=time.monotonic() - began,
                cpu_seconds=cpu,
                detail=msgspec.to_builtins(diagnosis),
            )
            match remedy:
                case Repair():
                    thought = remedy_facts.considered(transaction.conn, self._context, diagnosis)
                    transaction.remember(
                        phase="repair",
                        cause=diagnosis.cause,
                        recipes=list(remedies.sequence(thought)),
                        remedies=msgspec.to_builtins(thought),
                    )
                    return True
                case WaitForLabels(why=why):
                    need = MIN_LABELS if labelled < MIN_LABELS else next_look(labelled)
                    wait = {"count": "labelled", "rows": need, "outcomes": need}
                    completion.park(transaction, wait, have=labelled, why=why)
                case _:  # the incident has been told with the diagnosis
                    why, cause = remedy.why, diagnosis.cause
                    transaction.finish("cancelled", {"reasons": [why], "why": why, "cause": cause})
        log.info(
            "job_diagnosed",
            action="job_diagnosed",
            job_id=job.job_id,
            model=job.model,
            cause=diagnosis.cause,
            decision=remedy.decision,
        )
        return False

    def _checked(self, window: training_window.TrainingWindow) -> JobSpec:
        """Write the rows with what a second source says of them, and what is wrong with them."""
        context, source = self._context, self._context.model_context.spec
        query = job_spec.window_query(context, frozen_at=None, since=None)
        sources = tuple(ranking(source.labels.sources, source.labels.bound))
        with self._session.read() as conn:
            table = with_second_labels(conn, query, sources, window.table)
            before = differed_before(conn, query, sources, source.schema.classes)
            profile = profile_of(conn, context.job.model, context.version)
        self._write_fresh(replace(window, table=table))
        spec = job_spec.spec_of(context, "diagnose", deadline_s=self._deps.deadline_s)
        checks = check_window(table, profile, context.broken_columns)
        return replace(spec, checks=checks, second_labels_before=before)

    def repair(self) -> Report | None:
        """Train, shrink and judge.

        Returns
        -------
        Report or None
            ``None``: there are too few rows yet, and the job waits.
        """
        if not (self._frozen() and self._fresh.exists()) and not self._freeze():
            return None
        return self._judged(self._run("repair"))

    def judge_again(self) -> Report | None:
        """Judge the finished candidate with the gate rows that came since.

        Where its folder was deleted, since whoever was asked took weeks to answer, another one is
        made: see ``repair``. That is written down first: whoever takes over while it is made finds
        a folder without a candidate in it.
        """
        if not self._folder.is_dir():
            left = turn.without_files(self._turn())
            with self._session.fenced() as transaction:
                transaction.remember(phase="repair")
                if left:
                    transaction.remember(tried=msgspec.to_builtins(left))
            return self.repair()
        window = self._window(frozen_at=self._session.job.frozen_at, since=self._window_since())
        self._write_fresh(window)
        return self._judged(self._run("gate"))

    def wait_for_labels(self, why: str) -> None:
        """Too few gate rows: judge again when there are so many new ones."""
        have, since = labelled_gate_rows(self._fresh), self._window_since()
        begin = since if self._context.incident is None else self._context.since
        with self._session.read() as conn:
            outcomes = training_window.labelled_outcomes(
                conn, self._session.job.model, self._context.version, begin
            )
        wait = {
            "count": "gate_labelled",
            "rows": have + NEW_GATE_ROWS,
            # looked at once in any case: rows came in while the candidate was made
            "outcomes": min(outcomes, have + NEW_GATE_ROWS),
            "since": since,
        }
        with self._session.fenced() as transaction:
            transaction.remember(phase="gate")
            completion.park(transaction, wait, have=have, why=why)

    def after(self, report: Report, ended: Reject | Ask) -> str | None:
        """The candidate is refused, or only a person can decide about it: go on with the next
        recipe; where there is none, judge the best open candidate again, and ask about it.

        Returns
        -------
        str or None
            The phase that follows; ``None``: the job has ended.
        """
        session, deps, context, present = self._session, self._deps, self._context, self._turn()
        if isinstance(ended, Ask):
            judged = present.left_open(report, ended.missing)
        else:
            judged = present.refused(report, ended.reasons)
        if present.after(judged) is not None:
            completion.go_on(session, deps, context, report, present, judged)
            return "repair"
        asked = present.to_ask_about(judged)
        if asked is None:
            completion.reject(session, deps, context, report, present.reasons(judged))
            return None
        if isinstance(ended, Ask) and asked == judged.name:
            completion.ask_person(session, deps, context, report, ended.missing, present)
            return None
        # another's candidate lies in the folder: judged again, it is put there to be published
        completion.go_on(session, deps, context, report, present, judged, again=asked)
        return "gate"

    def _turn(self) -> Turn:
        """Which recipe it is, as SQL has it now."""
        with self._session.read() as conn:
            return turn.read(conn, self._context, self._session.refresh(conn))

    def _frozen(self) -> bool:
        """Whether the training rows were chosen by an earlier try: then they stay."""
        return self._session.job.frozen_at is not None and any(
            step["name"] == "window" for step in self._steps()
        )

    def _freeze(self) -> bool:
        """Choose the training rows, once for this job; false: there are too few, and it waits."""
        if self._session.job.frozen_at is not None:
            # The file of an earlier choice is lost. Where this one is cut short, or has to wait,
            # nothing may be taken for rows up to the old end.
            with self._session.fenced() as transaction:
                transaction.freeze(None)
        began, now = time.monotonic(), self._session.now()
        window = self._window(frozen_at=None, since=None)
        have, labelled = window.counts["train"], window.counts["train_labelled"]
        asked = window.counts.get("asked", MIN_LABELS)
        if have < MIN_TRAIN_ROWS:
            why = f"{have} served rows to train on since the change, {MIN_TRAIN_ROWS} are needed"
            self._wait_for_rows("train", have, MIN_TRAIN_ROWS, why)
            return False
        if asked < MIN_LABELS:
            # To learn without them would be to do something else than was asked for, in silence.
            source, version = self._context.job.options["source"], self._context.version
            with self._session.read() as conn:
                believed = self._context.model_context.spec.labels.sources
                unseen = names.unseen_source(conn, self._context.job.model, source, believed)
            why = (
                f"{asked} rows to train on that {version} served have a label of {source!r},"
                f" {MIN_LABELS} are needed: "
            ) + (
                unseen
                or "half of all rows only judge, and rows of other versions, rows that are not"
                " stored with their features, and labels that name no class do not count either"
            )
            self._wait_for_rows("asked", asked, MIN_LABELS, why)
            return False
        by_labels = self._context.job.options.get("train_on") == "labels"
        if by_labels and labelled < MIN_LABELLED_TRAIN_ROWS:
            why = (
                f"{labelled} rows to train on have a label, {MIN_LABELLED_TRAIN_ROWS} are needed;"
                " half of all rows only judge"
            )
            self._wait_for_rows("train_labelled", labelled, MIN_LABELLED_TRAIN_ROWS, why)
            return False
        self._write_fresh(window)
        with self._session.fenced() as transaction:
            transaction.freeze(window.newest or now)
            transaction.remember(incumbent=self._context.version)
            transaction.record(
                "window",
                seconds=time.monotonic() - began,
                detail={**window.counts, "since": window.since, "frozen_at": window.newest},
            )
        return True

    def _wait_for_rows(self, count: str, have: int, need: int, why: str) -> None:
        with self._session.fenced() as transaction:
            wait = {
                "count": count,
                "rows": need,
                "outcomes": 0,
                "look_at": transaction.now + to_us(LOOK_SECONDS),
            }
            completion.park(transaction, wait, have=have, why=why)

    def _steps(self) -> list[Mapping[str, Any]]:
        with self._session.read() as conn:
            return checkpoints.read(conn, self._session.job.job_id)

    def _window_since(self) -> int | None:
        return window_since(self._steps())

    def _window(
        self, *, frozen_at: int | None, since: int | None
    ) -> training_window.TrainingWindow:
        query = job_spec.window_query(self._context, frozen_at=frozen_at, since=since)
        with self._session.read() as conn:
            return training_window.read(conn, query)

    def _write_fresh(self, window: training_window.TrainingWindow) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        training_window.write(window, self._fresh)

    def _run(self, mode: Mode, asked: JobSpec | None = None) -> ChildRun:
        """One run of the child in the job's folder."""
        deps, session, present = self._deps, self._session, self._turn()
        usual = job_spec.spec_of(self._context, mode, deadline_s=deps.deadline_s)
        spec = asked or present.told(usual)
        job_spec.fill_folder(self._folder, self._context, spec, home=deps.home)
        began: dict[str, float] = {}

        def progress(step: str, share: float) -> None:
            if step not in began:
                began[step] = time.monotonic()
                job_id = session.job.job_id
                log.info("job_step", action="job_step", job_id=job_id, mode=mode, step=step)
            if share >= 1.0 and mode == "repair":
                # Written at once: a worker that dies later has got further than the last one.
                with session.fenced() as transaction:
                    transaction.record(present.step(step), seconds=time.monotonic() - began[step])

        return deps.child().run(
            self._folder,
            deadline_s=deps.deadline_s,
            memory_bytes=deps.memory_bytes,
            progress=progress,
            cancelled=session.cancelled,
        )

    def _judged(self, ran: ChildRun) -> Report:
        """Steps and their seconds, as the child measured them; judging is what is left of them.

        The CPU time of the process that trained stays with the step ``train``: judging again with
        more rows overwrites only what judging cost.
        """
        report, present = ran.report, self._turn()
        took = {k: v for k, v in report.seconds.items() if k not in ("cpu", "total")}
        judging = max(0.0, report.seconds.get("total", ran.seconds) - sum(took.values()))
        detail: dict[str, Any] = {
            "gates": msgspec.to_builtins(report.gates),
            "gaps": msgspec.to_builtins(report.gaps),
            "cost": msgspec.to_builtins(report.cost),
            "rows": report.rows,
            "decision": msgspec.to_builtins(report.decision),
            "warnings": list(report.warnings),
            "memory_bytes": ran.memory_bytes,
            "recipe": {
                "name": report.recipe_name,
                "number": turn.number_of(report, self._context),
                "sha256": turn.candidate_of(report),
            },
        }
        with self._session.fenced() as transaction:
            if report.mode == "repair":
                for step, seconds in took.items():
                    cpu = ran.cpu_seconds if step == "train" else None
                    transaction.set_seconds(present.step(step), seconds, cpu_seconds=cpu)
            turn.count(transaction, present, report, self._context)
            if present.cause is not None:
                transaction.remember(cause=present.cause)
            if report.mode == "repair":
                known = transaction.job().outcome.get(remedy_facts.MEASURED, {})
                took_cpu = {**known, present.name: round(ran.cpu_seconds, 3)}
                transaction.remember(**{remedy_facts.MEASURED: took_cpu})
            transaction.record(
                "gate",
                seconds=judging,
                cpu_seconds=None if "train" in took else ran.cpu_seconds,
                detail=detail,
            )
        return report


def next_look(labelled: int) -> int:
    """Labels at which a diagnosis is made again: a quarter more, so that a job looks a dozen times
    in its life, and not at each label; each look may err as its interval says.

    Examples
    --------
    >>> next_look(20), next_look(400)
    (40, 500)
    """
    return labelled + max(MIN_LABELS, labelled // 4)


def window_since(steps: Iterable[Mapping[str, Any]]) -> int | None:
    """Begin of the window as it was found when the training rows were chosen."""
    for step in steps:
        if step["name"] == "window":
            since = json.loads(step["detail"] or "{}").get("since")
            return None if since is None else int(since)
    return None


def labelled_gate_rows(fresh: Path) -> int:
    """Labelled gate rows that the last judgement was given."""
    table = pq.read_table(fresh, columns=["split", "label"])
    gate = pc.and_(pc.equal(table["split"], "gate"), pc.is_valid(table["label"]))
    return int(pc.sum(gate).as_py() or 0)


def _too_few(labelled: int) -> Diagnosis:
    return Diagnosis(
        cause="unclear",
        why=f"{labelled} labelled rows since the change, {MIN_LABELS} are needed",
        student_loss_points=None,
        teacher_loss_points=None,
        disagreement=None,
        labelled=labelled,
    )

"""Turn of a recipe in its job: how the present candidate is made, what was tried before it, and its
number among the candidates of its incident that face fresh rows."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import sqlalchemy as sa

from redistill.compress import recipes, remedies
from redistill.compress.judge import policy
from redistill.compress.judge.gates.recipe import MOST
from redistill.compress.plan import Diagnosis, JobSpec, Measure, NeedsPerson, Report, Tried
from redistill.workers.jobs import remedy_facts
from redistill.workers.jobs.job_spec import JobInputs
from redistill.workers.jobs.session import JobTransaction
from redistill.workers.store import audit, checkpoints, fresh_tests
from redistill.workers.store.fresh_tests import FreshTest, NumberTaken
from redistill.workers.store.job_queue import Job

__all__ = ["Turn", "candidate_of", "count", "number_of", "read", "without_files"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """One recipe of a job."""

    recipes: tuple[str, ...]
    """Those of the job, in the order in which they are tried."""
    tried: tuple[Tried, ...] = ()
    """The first of them, whose candidates were refused or left open."""
    again: str | None = None
    """Which of ``tried`` has its turn once more: no other is left, and a person can decide."""
    asked_about: str | None = None
    """Whose candidate a person was asked about last; ``None``: nobody was asked."""
    tests: tuple[FreshTest, ...] = ()
    """Candidates of the incident that have faced fresh rows, of all its jobs."""
    diagnosis: Diagnosis | None = None
    """Of the incident; ``None``: there is none, or it was not made yet."""
    cause_beside: str | None = None
    """What a job that answers no incident is told (``JobInputs.cause``)."""
    version: str
    """What has to be beaten."""
    since: int = 0
    """Where its fresh rows begin, microseconds since 1970; 0: not known."""

    @property
    def name(self) -> str:
        """Of the recipe."""
        return self.again or self.recipes[len(self.tried)]

    @property
    def others(self) -> tuple[Tried, ...]:
        """What was tried beside the present recipe."""
        return tuple(t for t in self.tried if t.name != self.name)

    @property
    def cause(self) -> str | None:
        """What the candidate is judged by; ``None``: nothing is known."""
        return self.cause_beside if self.diagnosis is None else self.diagnosis.cause

    def step(self, name: str) -> str:
        """Name of a step in SQL: two recipes train, and both are told."""
        return name if self.name == self.recipes[0] else f"{self.name}.{name}"

    def told(self, spec: JobSpec) -> JobSpec:
        """``job.json`` of this turn."""
        here = (self.version, self.since)
        return replace(
            spec,
            recipes=self.recipes,
            tried=self.others,
            again=self.again,
            # what a person took upon themselves was said of one candidate
            waived=spec.waived if self.asked_about in (None, self.name) else {},
            recipe=len(self.tests) + 1,
            faced={t.sha256: t.number for t in self.tests if (t.version, t.since) == here},
            incident_loss=None if self.diagnosis is None else _to_regain(self.diagnosis),
            cause=self.cause,
        )

    def test(self, report: Report, context: JobInputs, *, at: int) -> FreshTest | None:
        """What has to be written down of a judged candidate; ``None``: it has not faced fresh rows,
        or the job answers no incident."""
        sha256 = candidate_of(report)
        number = number_of(report, context)
        if number is None or sha256 is None:
            return None
        limits = policy.of(context.model_context.spec.policy())
        return FreshTest(
            number=number,
            sha256=sha256,
            version=self.version,
            since=self.since,
            recipe=self.name,
            job_id=context.job.job_id,
            e_value=limits["fresh"].e_value,
            at=at,
        )

    def refused(self, report: Report, reasons: tuple[str, ...]) -> Tried:
        """The present recipe, as it is told once its candidate is refused."""
        return Tried(
            name=self.name,
            number=report.recipe if report.faced else None,
            sha256=candidate_of(report),
            reasons=reasons,
            gates=report.gates,
            ranking_loss=report.ranking_loss,
        )

    def left_open(self, report: Report, missing: NeedsPerson) -> Tried:
        """The same where only a person can bring what decides about its candidate."""
        told = self.refused(report, (f"{missing.gate}: {missing.why}",))
        return replace(told, open=True)

    def every(self, present: Tried) -> tuple[Tried, ...]:
        """All that was tried, in order, with what came of the present recipe."""
        known = {t.name: t for t in self.tried} | {present.name: present}
        return tuple(known[name] for name in self.recipes if name in known)

    def after(self, present: Tried) -> str | None:
        """Name of the recipe that follows; ``None``: there is none, or no candidate of the incident
        may face fresh rows any more."""
        following = self.recipes[len(self.every(present)) :]
        return following[0] if following and not self.spent(present) else None

    def to_ask_about(self, present: Tried) -> str | None:
        """Where no recipe follows: whose candidate a person is asked about.

        The present one, where it had its turn once more for that; otherwise the open one of the
        least loss on ranking rows, which no gate looks at: the first of equals, those last of which
        it is not known. ``None``: none is open.
        """
        if present.open and self.again is not None:
            return present.name
        rest = [t for t in self.every(present) if t.open]
        return min(rest, key=_ranked).name if rest else None

    def spent(self, present: Tried) -> bool:
        """Whether as many candidates of the incident as may have faced fresh rows."""
        return max(len(self.tests), present.number or 0) >= MOST

    def reasons(self, present: Tried) -> tuple[str, ...]:
        """Why nothing is published, in a sentence each: of every recipe that was tried."""
        every = self.every(present)
        if len(every) == 1:
            told = present.reasons
        else:
            told = tuple(f"{t.name}: {reason}" for t in every for reason in t.reasons)
        untried = self.recipes[len(every) :]
        if untried and self.spent(present):
            told += (
                f"{' and '.join(untried)}: not tried, {MOST} candidates of this incident have faced"
                " its fresh rows",
            )
        return told


def without_files(found: Turn) -> tuple[Tried, ...]:
    """What was tried, once the job's folder is gone: of the others nothing is left to publish."""
    gone = "its files were deleted while a person was asked"
    return tuple(
        replace(t, open=False, reasons=(*t.reasons, gone)) if t.open and t in found.others else t
        for t in found.tried
    )


def _ranked(tried: Tried) -> tuple[bool, float]:
    return tried.ranking_loss is None, tried.ranking_loss or 0.0


def _to_regain(diagnosis: Diagnosis) -> Measure | None:
    """What a candidate can give back: of a loss that the teacher shares, the part that it kept."""
    lost, back = diagnosis.student_loss_points, diagnosis.recoverable_points
    if lost is None or back is None or not 0.0 < back.value < lost.value:
        return lost
    return back


def candidate_of(report: Report) -> str | None:
    """SHA-256 of the candidate that a report is about; ``None``: there is none that loads."""
    return next((v.sha256 for v in report.variants if v.name == report.chosen), None)


def number_of(report: Report, context: JobInputs) -> int | None:
    """Which candidate of its incident it was that faced fresh rows; ``None``: it has not, or the
    job answers no incident."""
    return report.recipe if report.faced and context.incident is not None else None


def read(conn: sa.Connection, context: JobInputs, job: Job) -> Turn:
    """Which recipe is next in a job."""
    if context.incident is None:
        considered = remedy_facts.considered(conn, context, None)
        return Turn(
            recipes=remedies.sequence(considered)[:1],
            cause_beside=context.cause,
            version=context.version,
        )
    diagnosis = _diagnosis(conn, job.job_id)
    tried: Any = job.outcome.get("tried", [])
    names: Any = job.outcome.get("recipes")
    if not names:  # it was diagnosed by an older release, or is not yet
        names = remedies.sequence(remedy_facts.considered(conn, context, diagnosis))
    return Turn(
        recipes=tuple(names),
        tried=msgspec.convert(tried, tuple[Tried, ...]),
        again=job.outcome.get("again"),
        asked_about=job.outcome.get("asked_about"),
        tests=fresh_tests.of_incident(conn, context.incident["incident_id"]),
        diagnosis=diagnosis,
        version=context.version,
        since=context.since or 0,
    )


def count(transaction: JobTransaction, present: Turn, report: Report, context: JobInputs) -> None:
    """Before anything follows from what fresh rows said of a candidate: it has faced them.

    Raises
    ------
    NumberTaken
        It was judged under a number that is not its own, or that there is not.
    """
    test = present.test(report, context, at=transaction.now)
    if test is None or context.incident is None:
        return
    if test.number > MOST:
        raise NumberTaken(f"{MOST} candidates of this incident have faced fresh rows: no more may")
    incident_id = str(context.incident["incident_id"])
    if fresh_tests.enter(transaction.conn, incident_id, test):
        body = {
            "why": f"candidate {test.number} of at most {MOST} faces fresh rows:"
            f" {recipes.RECIPES[test.recipe].told}",
            "job_id": test.job_id,
            "sha256": test.sha256,
            "recipe": test.recipe,
            "number": test.number,
            "version": test.version,
            "since": test.since,
        }
        audit.append(
            transaction.conn,
            transaction.actor,
            "incident.candidate_tested",
            incident_id,
            body,
            transaction.now,
        )


def _diagnosis(conn: sa.Connection, job_id: str) -> Diagnosis | None:
    for step in checkpoints.read(conn, job_id):
        if step["name"] == "diagnose" and step["state"] == "done":
            return msgspec.convert(json.loads(step["detail"]), Diagnosis)
    return None

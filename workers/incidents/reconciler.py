"""What has to be looked at again and again, since no event says that it is due: findings that
nobody announced, findings of versions that were replaced, recoveries, and waits that are over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa
import structlog

from redistill.streams.errors import StateError
from redistill.streams.monitor.findings import superseded
from redistill.streams.store.database import Database
from redistill.streams.store.flush import store_findings
from redistill.streams.store.tables import findings
from redistill.streams.wire.events import DriftFound
from redistill.workers.errors import WorkersError
from redistill.workers.incidents import (
    evidence,
    ingest,
    lifecycle,
    policy,
    recent_actions,
    recovery,
    repository,
)
from redistill.workers.incidents.model_context import Rules, Terms, load
from redistill.workers.store import job_queue
from redistill.workers.store.tables import jobs, pointers

log = structlog.get_logger(__name__)

PARTLY_LABELS = 1_000
"""Labels after which a version that has not recovered will hardly do so by more of them."""


@dataclass(slots=True)
class Swept:
    """What one sweep did."""

    taken: int = 0
    superseded: int = 0
    recovered: int = 0
    decided: int = 0


class Sweep:
    """Goes over findings and open incidents; cheap when nothing has changed.

    Parameters
    ----------
    database
        The rows.
    rules
        The fleet's limits.
    actor
        Who writes, for the audit chain.
    clock
        Microseconds since 1970.
    """

    def __init__(
        self, database: Database, *, rules: Rules, actor: str, clock: Callable[[], int]
    ) -> None:
        self._database = database
        self._rules = rules
        self._actor = actor
        self._clock = clock
        self._seen: dict[str, int] = {}  # incident -> outcomes at the last look for a recovery

    def take_in(self, finding_id: str | None = None) -> int:
        """Take in one announced finding, or all pending ones; how many it were."""
        return len(
            ingest.take_in(
                self._database,
                finding_id,
                rules=self._rules,
                actor=self._actor,
                clock=self._clock,
            )
        )

    def run_once(self) -> Swept:
        """One sweep."""
        done = Swept(taken=self.take_in())
        with self._database.read() as conn:
            old = _of_replaced_versions(conn)
            open_now = repository.open_ones(conn)
        for finding_id in old:
            done.superseded += self._supersede(finding_id)
        for incident in open_now:
            try:
                if incident["incident_class"] == "harm" and self._recovered(incident):
                    done.recovered += 1
                elif incident["stage"] == "detected" or _untouched(incident):
                    done.decided += self._decide(incident)
            except (WorkersError, msgspec.MsgspecError, StateError) as error:
                # what is stored of one model must not keep the others waiting
                log.warning(
                    "incident_stuck",
                    action="incident_stuck",
                    incident_id=incident["incident_id"],
                    error=str(error),
                )
        self._seen = {
            i["incident_id"]: self._seen[i["incident_id"]]
            for i in open_now
            if i["incident_id"] in self._seen
        }
        return done

    def _supersede(self, finding_id: str) -> bool:
        """End a finding of a version that the pointer does not name any more."""
        now = self._clock()
        with self._database.begin() as conn:
            row = conn.execute(
                sa.select(findings).where(findings.c.finding_id == finding_id).with_for_update()
            ).one_or_none()
            if row is None or row.status == "resolved":
                return False
            found = superseded(msgspec.json.decode(row.body, type=DriftFound), now)
            return store_findings(conn, [found], now=now) == 1

    def _recovered(self, incident: repository.Row) -> bool:
        """Whether the version that serves now has made good what the incident is about."""
        incident_id = incident["incident_id"]
        with self._database.read() as conn:
            question = evidence.question(conn, incident, self._seen.get(incident_id, 0))
        if question is None:
            return False
        self._seen[incident_id] = question.n
        if incident["stage"] != "guarding":
            self._guard(incident, question.version)
        answer = recovery.judge(
            question.errors,
            base=question.base,
            harmed=question.harmed,
            tolerance=question.tolerance,
            share=question.share,
            labels_per_alarm=question.labels_per_alarm,
        )
        if not answer.recovered:
            if question.n >= PARTLY_LABELS and incident["decision"] != "ask_person":
                self._partly(incident, question, answer)
            return False
        now = self._clock()
        with self._database.begin() as conn:
            load(conn, incident["model"], lock=True)
            current = repository.get(conn, incident_id)
            if current is None or current["status"] != "open":
                return False
            why = (
                f"version {question.version}: error {answer.error:.1%}, measured on {answer.n}"
                f" labels (harm: {question.harmed:.1%}, promised: {question.base.rate:.1%})"
            )
            lifecycle.resolve(conn, current, "recovered", why=why, actor=self._actor, now=now)
        return True

    def _partly(
        self, incident: repository.Row, question: evidence.Question, answer: recovery.Recovery
    ) -> None:
        """It is better, but not good enough, and by now that is no accident: say so once."""
        now = self._clock()
        with self._database.begin() as conn:
            load(conn, incident["model"], lock=True)
            current = repository.get(conn, incident["incident_id"])
            if current is None or current["status"] != "open" or current["stage"] != "guarding":
                return
            why = (
                f"version {question.version} has an error of {answer.error:.1%}, measured on"
                f" {question.n} labels; promised were {question.base.rate:.1%}, harmed"
                f" {question.harmed:.1%}: resolve it if that is good enough"
            )
            repository.update(
                conn,
                current,
                actor=self._actor,
                action="incident.partly_recovered",
                now=now,
                decision="ask_person",
                why=why,
            )

    def _guard(self, incident: repository.Row, version: str) -> None:
        """The pointer moved, by whomever: from now on the new version's labels decide."""
        now = self._clock()
        with self._database.begin() as conn:
            load(conn, incident["model"], lock=True)
            current = repository.get(conn, incident["incident_id"])
            if current is None or current["status"] != "open" or current["stage"] == "guarding":
                return
            why = f"version {version} serves now; its labels will show whether the harm is over"
            lifecycle.cancel_job(conn, current, why=why, now=now)
            repository.update(
                conn,
                current,
                actor=self._actor,
                action="incident.guarding",
                now=now,
                stage="guarding",
                why=why,
            )

    def _decide(self, incident: repository.Row) -> bool:
        """Ask the policy again about an incident that waits."""
        now = self._clock()
        with self._database.read() as conn:  # mostly nothing has changed: no lock for that
            terms = load(conn, incident["model"])
            if terms is None or not _may_have_changed(conn, incident, terms, self._rules, now):
                return False
            if _untouched(incident) and terms.updated_at <= incident["updated_at"]:
                return False  # a person was asked, and the model's terms are what they were
        with self._database.begin() as conn:
            terms = load(conn, incident["model"], lock=True)
            current = repository.get(conn, incident["incident_id"])
            if terms is None or current is None or current["stage"] != incident["stage"]:
                return False
            if _serves_another(conn, current):
                return False
            before = current["decision"]
            remedy = lifecycle.consider(
                conn, current, terms, self._rules, actor=self._actor, now=now
            )
            return bool(remedy.decision != before)


def _of_replaced_versions(conn: sa.Connection) -> list[str]:
    query = (
        sa.select(findings.c.finding_id)
        .join(pointers, pointers.c.model == findings.c.model)
        .where(findings.c.status != "resolved", findings.c.version != pointers.c.stable)
        .limit(100)
    )
    return list(conn.execute(query).scalars())


def _untouched(incident: repository.Row) -> bool:
    """Whether a person was asked because of the model's terms, before anything was tried: the terms
    may have become others (another level, another approval)."""
    return bool(incident["stage"] == "awaiting_person" and incident["attempt"] == 0)


def _serves_another(conn: sa.Connection, incident: repository.Row) -> bool:
    stable = conn.execute(
        sa.select(pointers.c.stable).where(pointers.c.model == incident["model"])
    ).scalar_one_or_none()
    return stable is not None and stable != incident["version"]


def _may_have_changed(
    conn: sa.Connection, incident: repository.Row, terms: Terms, rules: Rules, now: int
) -> bool:
    """Whether the policy could decide otherwise than before."""
    if _serves_another(conn, incident):
        return False
    subject, budget, past = recent_actions.gather(conn, incident, terms, rules, now=now)
    remedy = policy.decide(subject, None, budget=budget, history=past, now=now)
    return bool(remedy.decision != incident["decision"])


def expire(database: Database, *, rules: Rules, actor: str, clock: Callable[[], int]) -> list[str]:
    """End jobs beyond their deadline that nobody is at work on, and ask a person.

    Returns
    -------
    list of str
        Their ids.
    """
    with database.read() as conn:
        overdue = job_queue.overdue(conn, clock())
    ended: list[str] = []
    for job in overdue:
        now = clock()
        with database.begin() as conn:
            load(conn, job.model, lock=True)
            locked = sa.select(jobs.c.state).where(jobs.c.job_id == job.job_id).with_for_update()
            if conn.execute(locked).scalar_one() != job.state:
                continue  # a worker took it up meanwhile
            hours = (job.deadline_at - job.created_at) / 3.6e9
            why = f"not decided within {hours:.0f} h ({job.outcome.get('why', job.state)})"
            job_queue.finish(conn, job, "expired", outcome={"reasons": [why], "why": why}, now=now)
            lifecycle.job_ended(conn, job, "expired", why=why, rules=rules, actor=actor, now=now)
        log.warning("job_expired", action="job_expired", job_id=job.job_id, why=why)
        ended.append(job.job_id)
    return ended

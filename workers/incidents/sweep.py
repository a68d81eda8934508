"""What has to be looked at again and again, since no event says that it is due: findings that
nobody announced, findings of versions that were replaced, recoveries, and waits that are over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import sqlalchemy as sa
import structlog

from streams.errors import StateError
from streams.monitor.base import BaseError
from streams.monitor.findings import superseded
from streams.store.database import Database
from streams.store.flush import store_findings
from streams.store.tables import (
    accuracy_states,
    findings,
    input_states,
    outcomes,
    profiles,
)
from streams.wire.events import DriftFound
from workers.errors import WorkersError
from workers.incidents import intake, lifecycle, record, recovery
from workers.incidents.terms import Rules, Terms, load
from workers.jobs import store
from workers.store.tables import incident_findings, jobs, pointers

log = structlog.get_logger(__name__)

MAX_OUTCOMES = 8_192
"""Outcomes of a new version that are looked at, the first ones: more than any recovery needs."""


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
            intake.take_in(
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
            open_now = record.open_ones(conn)
        for finding_id in old:
            done.superseded += self._supersede(finding_id)
        for incident in open_now:
            try:
                if incident["incident_class"] == "harm" and self._recovered(incident):
                    done.recovered += 1
                elif incident["stage"] == "detected":
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

    def _recovered(self, incident: record.Row) -> bool:
        """Whether the version that serves now has made good what the incident is about."""
        incident_id = incident["incident_id"]
        with self._database.read() as conn:
            question = _question(conn, incident, self._seen.get(incident_id, 0))
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
            current = record.get(conn, incident_id)
            if current is None or current["status"] != "open":
                return False
            why = (
                f"version {question.version}: error {answer.error:.1%}, measured on {answer.n}"
                f" labels (harm: {question.harmed:.1%}, promised: {question.base.rate:.1%})"
            )
            lifecycle.resolve(conn, current, "recovered", why=why, actor=self._actor, now=now)
        return True

    def _partly(self, incident: record.Row, question: _Question, answer: recovery.Recovery) -> None:
        """It is better, but not good enough, and by now that is no accident: say so once."""
        now = self._clock()
        with self._database.begin() as conn:
            load(conn, incident["model"], lock=True)
            current = record.get(conn, incident["incident_id"])
            if current is None or current["status"] != "open" or current["stage"] != "guarding":
                return
            why = (
                f"version {question.version} has an error of {answer.error:.1%}, measured on"
                f" {question.n} labels; promised were {question.base.rate:.1%}, harmed"
                f" {question.harmed:.1%}: resolve it if that is good enough"
            )
            record.update(
                conn,
                current,
                actor=self._actor,
                action="incident.partly_recovered",
                now=now,
                decision="ask_person",
                why=why,
            )

    def _guard(self, incident: record.Row, version: str) -> None:
        """The pointer moved, by whomever: from now on the new version's labels decide."""
        now = self._clock()
        with self._database.begin() as conn:
            load(conn, incident["model"], lock=True)
            current = record.get(conn, incident["incident_id"])
            if current is None or current["status"] != "open" or current["stage"] == "guarding":
                return
            why = f"version {version} serves now; its labels will show whether the harm is over"
            lifecycle.cancel_job(conn, current, why=why, now=now)
            record.update(
                conn,
                current,
                actor=self._actor,
                action="incident.guarding",
                now=now,
                stage="guarding",
                why=why,
            )

    def _decide(self, incident: record.Row) -> bool:
        """Ask the policy again about an incident that waits."""
        now = self._clock()
        with self._database.read() as conn:  # mostly nothing has changed: no lock for that
            terms = load(conn, incident["model"])
            if terms is None or not _may_have_changed(conn, incident, terms, self._rules, now):
                return False
        with self._database.begin() as conn:
            terms = load(conn, incident["model"], lock=True)
            current = record.get(conn, incident["incident_id"])
            if terms is None or current is None or current["stage"] != "detected":
                return False
            if _serves_another(conn, current):
                return False
            before = current["decision"]
            remedy = lifecycle.consider(
                conn, current, terms, self._rules, actor=self._actor, now=now
            )
            return bool(remedy.decision != before)


@dataclass(frozen=True, slots=True)
class _Question:
    version: str
    errors: Any  # (n,) uint8
    n: int
    base: BaseError
    harmed: float
    tolerance: float
    share: float
    labels_per_alarm: float


def _of_replaced_versions(conn: sa.Connection) -> list[str]:
    query = (
        sa.select(findings.c.finding_id)
        .join(pointers, pointers.c.model == findings.c.model)
        .where(findings.c.status != "resolved", findings.c.version != pointers.c.stable)
        .limit(100)
    )
    return list(conn.execute(query).scalars())


def _serves_another(conn: sa.Connection, incident: record.Row) -> bool:
    stable = conn.execute(
        sa.select(pointers.c.stable).where(pointers.c.model == incident["model"])
    ).scalar_one_or_none()
    return stable is not None and stable != incident["version"]


def _question(conn: sa.Connection, incident: record.Row, seen: int) -> _Question | None:
    """What is known of the version that serves now; ``None``: it is still the harmed one, or there
    is no new outcome."""
    model = incident["model"]
    pointer = conn.execute(sa.select(pointers).where(pointers.c.model == model)).one_or_none()
    if pointer is None or pointer.stable == incident["version"]:
        return None
    o = outcomes.c
    served = sa.and_(
        o.model == model,
        o.version == pointer.stable,
        o.served_at >= pointer.moved_at,
        o.uniform,
        o.label.is_not(None),
    )
    n = int(conn.execute(sa.select(sa.func.count()).where(served)).scalar_one())
    if n == seen and incident["stage"] == "guarding":
        return None
    terms = load(conn, model)
    harm = _harm(conn, incident)
    if terms is None or harm is None:
        return None
    correct = (
        conn.execute(
            sa.select(sa.case((o.label == o.prediction, 1), else_=0))
            .where(served)
            .order_by(o.seq)
            .limit(MAX_OUTCOMES)
        )
        .scalars()
        .all()
    )
    base = _base(conn, incident, harm)
    if base is None or harm.impact.current is None:
        return None
    share = _share(conn, model, pointer.stable)
    return _Question(
        version=pointer.stable,
        errors=1 - np.asarray(correct, np.uint8),
        n=n,
        base=base,
        harmed=1 - harm.impact.current,
        tolerance=terms.watch.tolerance_points / 100,
        share=share,
        labels_per_alarm=max(1_000.0, terms.watch.rows_per_alarm * share),
    )


def _harm(conn: sa.Connection, incident: record.Row) -> DriftFound | None:
    """The finding of harm that the incident is about: the worst one."""
    rows = conn.execute(
        sa.select(findings.c.body)
        .join(incident_findings, incident_findings.c.finding_id == findings.c.finding_id)
        .where(
            incident_findings.c.incident_id == incident["incident_id"],
            findings.c.kind == "accuracy",
            findings.c.version == incident["version"],
        )
    ).scalars()
    found = [msgspec.json.decode(body, type=DriftFound) for body in rows]
    known = [f for f in found if f.impact.current is not None]
    return min(known, key=lambda f: f.impact.current or 0.0, default=None)


def _base(conn: sa.Connection, incident: record.Row, harm: DriftFound) -> BaseError | None:
    """The error that was promised for the harmed version."""
    text = conn.execute(
        sa.select(profiles.c.base_error).where(
            profiles.c.model == incident["model"], profiles.c.version == incident["version"]
        )
    ).scalar_one_or_none()
    if text is not None:
        return BaseError.from_json(text)
    if harm.impact.reference is None:
        return None
    # Learned from traffic and never stored: the finding tells the rate, a thousand rows taught it.
    wrong = round((1 - harm.impact.reference) * 1_000)
    errors = np.repeat(np.array([1, 0], np.uint8), [wrong, 1_000 - wrong])
    return BaseError.from_errors(errors, ordered=False, provisional=True)


def _share(conn: sa.Connection, model: str, version: str) -> float:
    """Share of a version's rows that have a label."""
    rows = conn.execute(
        sa.select(sa.func.coalesce(sa.func.sum(input_states.c.rows), 0)).where(
            input_states.c.model == model, input_states.c.version == version
        )
    ).scalar_one()
    labelled = conn.execute(
        sa.select(accuracy_states.c.n).where(
            accuracy_states.c.model == model, accuracy_states.c.version == version
        )
    ).scalar_one_or_none()
    if not rows or not labelled:
        return 1.0
    return float(min(1.0, max(0.001, labelled / int(rows))))


def _may_have_changed(
    conn: sa.Connection, incident: record.Row, terms: Terms, rules: Rules, now: int
) -> bool:
    """Whether the policy could decide otherwise than before."""
    from workers.incidents import history, policy

    if _serves_another(conn, incident):
        return False
    subject, budget, past = history.gather(conn, incident, terms, rules, now=now)
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
        overdue = store.overdue(conn, clock())
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
            store.finish(conn, job, "expired", outcome={"reasons": [why], "why": why}, now=now)
            lifecycle.job_ended(conn, job, "expired", why=why, rules=rules, actor=actor, now=now)
        log.warning("job_expired", action="job_expired", job_id=job.job_id, why=why)
        ended.append(job.job_id)
    return ended

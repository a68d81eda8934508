"""Reconciler: what has to be looked at again and again, since no event says that it is due.

Findings that nobody announced, findings of versions that were replaced, recoveries, and waits that
are over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
import sqlalchemy as sa
import structlog

from redistill.streams.errors import StateError
from redistill.streams.monitor.findings import superseded
from redistill.streams.store.database import Database
from redistill.streams.store.findings import store_findings
from redistill.streams.store.tables import findings
from redistill.streams.wire.events import DriftFound
from redistill.workers.errors import WorkersError
from redistill.workers.incidents import (
    incident_repository,
    ingest,
    lifecycle,
    policy,
    recent_actions,
    recovery,
    recovery_evidence,
)
from redistill.workers.incidents.incident_repository import IncidentRow
from redistill.workers.incidents.model_context import FleetLimits, ModelContext, load
from redistill.workers.store import job_queue
from redistill.workers.store.tables import jobs, pointers

__all__ = ["Reconciler", "expire_jobs"]

log = structlog.get_logger(__name__)

PARTLY_LABELS = 1_000
"""Labels after which a version that has not recovered will hardly do so by more of them."""


@dataclass(slots=True)
class Reconciled:
    """What one round did."""

    ingested: int = 0
    superseded: int = 0
    recovered: int = 0
    decided: int = 0


class Reconciler:
    """Goes over findings and open incidents; cheap when nothing has changed.

    Parameters
    ----------
    database
        The rows.
    fleet_limits
        The fleet's limits.
    actor
        Who writes, for the audit chain.
    clock
        Microseconds since 1970.
    """

    def __init__(
        self, database: Database, *, fleet_limits: FleetLimits, actor: str, clock: Callable[[], int]
    ) -> None:
        self._database = database
        self._fleet_limits = fleet_limits
        self._actor = actor
        self._clock = clock
        self._seen: dict[str, int] = {}  # incident -> outcomes at the last look for a recovery

    def ingest(self, finding_id: str | None = None) -> int:
        """Take in one announced finding, or all pending ones; how many it were."""
        return len(
            ingest.ingest(
                self._database,
                finding_id,
                fleet_limits=self._fleet_limits,
                actor=self._actor,
                clock=self._clock,
            )
        )

    def run_once(self) -> Reconciled:
        """One round."""
        done = Reconciled(ingested=self.ingest())
        with self._database.read() as conn:
            replaced = _of_replaced_versions(conn)
            open_now = incident_repository.open_ones(conn)
        for finding_id in replaced:
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
            finding = superseded(msgspec.json.decode(row.body, type=DriftFound), now)
            return store_findings(conn, [finding], now=now) == 1

    def _recovered(self, incident: IncidentRow) -> bool:
        """Whether the version that serves now has made good what the incident is about."""
        incident_id = incident["incident_id"]
        with self._database.read() as conn:
            evidence = recovery_evidence.gather(conn, incident, self._seen.get(incident_id, 0))
        if evidence is None:
            return False
        self._seen[incident_id] = evidence.n
        if incident["stage"] != "guarding":
            self._guard(incident, evidence.version)
        verdict = recovery.judge(
            evidence.errors,
            evidence.times,
            base=evidence.base,
            harmed=evidence.level,
            tolerance=evidence.tolerance,
            share=evidence.share,
        )
        if not verdict.recovered:
            settled = verdict.short or evidence.n >= recovery_evidence.MAX_OUTCOMES
            if settled and evidence.n >= PARTLY_LABELS and incident["decision"] != "ask_person":
                self._partly(incident, evidence, verdict)
            return False
        now = self._clock()
        with self._database.begin() as conn:
            load(conn, incident["model"], lock=True)
            current = incident_repository.get(conn, incident_id)
            if current is None or current["status"] != "open":
                return False
            why = (
                f"version {evidence.version}: error {verdict.error:.1%}, measured on {verdict.n}"
                f" labels (harm: {evidence.harmed:.1%}, promised: {evidence.base.rate:.1%})"
            )
            lifecycle.resolve(conn, current, "recovered", why=why, actor=self._actor, now=now)
        return True

    def _partly(
        self,
        incident: IncidentRow,
        evidence: recovery_evidence.RecoveryEvidence,
        verdict: recovery.Recovery,
    ) -> None:
        """It is better, but not good enough, and by now that is no accident: say so once."""
        now = self._clock()
        with self._database.begin() as conn:
            load(conn, incident["model"], lock=True)
            current = incident_repository.get(conn, incident["incident_id"])
            if current is None or current["status"] != "open" or current["stage"] != "guarding":
                return
            why = (
                f"version {evidence.version} has an error of {verdict.error:.1%}, measured on"
                f" {evidence.n} labels; promised were {evidence.base.rate:.1%}, harmed"
                f" {evidence.harmed:.1%}: resolve it if that is good enough"
            )
            incident_repository.update(
                conn,
                current,
                actor=self._actor,
                action="incident.partly_recovered",
                now=now,
                decision="ask_person",
                why=why,
            )

    def _guard(self, incident: IncidentRow, version: str) -> None:
        """The pointer moved, by whomever: from now on the new version's labels decide."""
        now = self._clock()
        with self._database.begin() as conn:
            load(conn, incident["model"], lock=True)
            current = incident_repository.get(conn, incident["incident_id"])
            if current is None or current["status"] != "open" or current["stage"] == "guarding":
                return
            why = f"version {version} serves now; its labels will show whether the harm is over"
            lifecycle.cancel_job(conn, current, why=why, now=now)
            incident_repository.update(
                conn,
                current,
                actor=self._actor,
                action="incident.guarding",
                now=now,
                stage="guarding",
                why=why,
            )

    def _decide(self, incident: IncidentRow) -> bool:
        """Ask the policy again about an incident that waits."""
        now = self._clock()
        with self._database.read() as conn:  # mostly nothing has changed: no lock for that
            context = load(conn, incident["model"])
            if context is None or not _may_have_changed(
                conn, incident, context, self._fleet_limits, now
            ):
                return False
            if _untouched(incident) and context.updated_at <= incident["updated_at"]:
                return False  # a person was asked, and the model is registered as it was
        with self._database.begin() as conn:
            context = load(conn, incident["model"], lock=True)
            current = incident_repository.get(conn, incident["incident_id"])
            if context is None or current is None or current["stage"] != incident["stage"]:
                return False
            if _serves_another(conn, current):
                return False
            before = current["decision"]
            remedy = lifecycle.apply_policy(
                conn, current, context, self._fleet_limits, actor=self._actor, now=now
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


def _untouched(incident: IncidentRow) -> bool:
    """Whether a person was asked because of how the model is registered, before anything was tried:
    that may have changed (another level, another approval)."""
    return bool(incident["stage"] == "awaiting_person" and incident["attempt"] == 0)


def _serves_another(conn: sa.Connection, incident: IncidentRow) -> bool:
    stable = conn.execute(
        sa.select(pointers.c.stable).where(pointers.c.model == incident["model"])
    ).scalar_one_or_none()
    return stable is not None and stable != incident["version"]


def _may_have_changed(
    conn: sa.Connection,
    incident: IncidentRow,
    context: ModelContext,
    fleet_limits: FleetLimits,
    now: int,
) -> bool:
    """Whether the policy could decide otherwise than before."""
    if _serves_another(conn, incident):
        return False
    incident_context, budget, recent = recent_actions.gather(
        conn, incident, context, fleet_limits, now=now
    )
    remedy = policy.decide(incident_context, None, budget=budget, recent=recent, now=now)
    return bool(remedy.decision != incident["decision"])


def expire_jobs(
    database: Database, *, fleet_limits: FleetLimits, actor: str, clock: Callable[[], int]
) -> list[str]:
    """End jobs beyond their deadline that nobody is at work on, and ask a person.

    Returns
    -------
    list of str
        Their ids.
    """
    with database.read() as conn:
        overdue = job_queue.overdue(conn, clock())
    ended: list[str] = []
    for seen in overdue:
        now = clock()
        with database.begin() as conn:
            load(conn, seen.model, lock=True)
            locked = sa.select(jobs).where(jobs.c.job_id == seen.job_id).with_for_update()
            job = job_queue.job_of(conn.execute(locked).mappings().one())
            if (job.state, job.deadline_at) != (seen.state, seen.deadline_at):
                continue  # a worker, or a person, took it up meanwhile
            hours = (job.deadline_at - job.waits_since) / 3.6e9
            why = f"not decided within {hours:.0f} h ({job.outcome.get('why', job.state)})"
            job_queue.finish(conn, job, "expired", outcome={"reasons": [why], "why": why}, now=now)
            lifecycle.job_ended(
                conn, job, "expired", why=why, fleet_limits=fleet_limits, actor=actor, now=now
            )
        log.warning("job_expired", action="job_expired", job_id=job.job_id, why=why)
        ended.append(job.job_id)
    return ended

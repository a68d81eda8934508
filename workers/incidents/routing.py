"""Routing of a finding to its incident: the one it belongs to, the one it opens or opens again, or
the reason why it belongs to none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from uuid import UUID, uuid5

import sqlalchemy as sa

from redistill.streams.store.tables import findings
from redistill.streams.wire.events import DriftFound, IncidentClass
from redistill.workers.incidents import incident_repository, lifecycle
from redistill.workers.incidents.finding_class import (
    change_bounds,
    class_while_open,
    incident_class_of,
)
from redistill.workers.incidents.incident_repository import IncidentRow
from redistill.workers.incidents.model_context import FleetLimits, ModelContext
from redistill.workers.store.tables import incident_findings, pointers

__all__ = ["Ingested", "Router"]

NAMESPACE = UUID("0d9d4c0e-3a51-5b0d-9f0e-6b8f4a1a9a52")


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of one revision of a finding."""

    finding_id: str
    did: Literal["opened", "reopened", "attached", "resolved", "noted"]
    incident_id: str | None
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Router:
    """Routes one revision of a finding, in the caller's transaction and under its model's lock.

    Parameters
    ----------
    conn
        A writing transaction.
    fleet_limits
        For the cool-down, and for the policy where an incident opens.
    actor
        Who writes, for the audit chain.
    now
        Microseconds since 1970.
    """

    conn: sa.Connection
    fleet_limits: FleetLimits
    actor: str
    now: int

    def route(self, finding: DriftFound, context: ModelContext | None) -> Ingested:
        """Bring a finding to its incident; ``context``: its model, ``None`` if that is not
        registered."""
        if context is None:
            return _noted(finding, f"model {finding.model} is not registered")
        incident_class, why_none = incident_class_of(finding)
        incident = incident_repository.of_finding(
            self.conn, str(finding.finding_id), incident_class or class_while_open(finding)
        )
        if finding.status == "resolved":
            return self._resolved(finding, incident)
        if incident is not None and incident_class in (None, incident["incident_class"]):
            incident_id = incident["incident_id"]
            note = f"belongs to incident {incident_id}"
            if incident["status"] == "resolved":
                note += ", which is resolved"
            return _noted(finding, note, incident_id)
        stable = self.conn.execute(
            sa.select(pointers.c.stable).where(pointers.c.model == finding.model)
        ).scalar_one_or_none()
        if stable is not None and finding.version != stable:
            note = f"version {finding.version} is not the one that the pointer names ({stable})"
            return _noted(finding, note)
        if incident_class is None:
            return self._explains(finding, why_none)
        return self._harms(finding, incident_class, context)

    def _explains(self, finding: DriftFound, why_none: str) -> Ingested:
        """A finding that opens nothing explains the model's oldest open incident, if any."""
        for incident in incident_repository.open_ones(self.conn, finding.model):
            self._attach(finding, incident)
            return _ingested(finding, "attached", incident, "explains the incident")
        return _noted(finding, why_none)

    def _harms(
        self, finding: DriftFound, incident_class: IncidentClass, context: ModelContext
    ) -> Ingested:
        """A finding of trouble belongs to the open incident of its class, or opens one."""
        for incident in incident_repository.open_ones(self.conn, finding.model):
            if incident["incident_class"] != incident_class:
                continue
            if incident["version"] != finding.version:
                return self._replacement_harmed(finding, incident, context)
            self._attach(finding, incident)
            incident_repository.update(
                self.conn,
                incident,
                actor=self.actor,
                action="incident.finding_attached",
                now=self.now,
            )
            return _ingested(finding, "attached", incident, "same trouble")
        resolved = incident_repository.last_resolved(
            self.conn,
            finding.model,
            incident_class,
            since=self.now - self.fleet_limits.cool_down,
        )
        if resolved is not None:
            why = f"it came back within the cool-down: {finding.reason}"
            return self._reopen(finding, resolved, context, why)
        incident = incident_repository.open_new(
            self.conn,
            incident_id=str(
                uuid5(NAMESPACE, f"{incident_class}|{finding.finding_id}|{finding.revision}")
            ),
            model=finding.model,
            version=finding.version,
            incident_class=incident_class,
            finding_id=str(finding.finding_id),
            change=change_bounds(finding),
            why=finding.reason,
            actor=self.actor,
            now=self.now,
        )
        return self._act(finding, "opened", incident, context)

    def _replacement_harmed(
        self, finding: DriftFound, incident: IncidentRow, context: ModelContext
    ) -> Ingested:
        """What was published against an incident is harmed too: the incident is about it now."""
        why = f"harm on {finding.version}"
        lifecycle.cancel_job(self.conn, incident, why=why, now=self.now)
        why = f"the version that replaced {incident['version']} is harmed as well: {finding.reason}"
        return self._reopen(finding, incident, context, why)

    def _reopen(
        self, finding: DriftFound, incident: IncidentRow, context: ModelContext, why: str
    ) -> Ingested:
        incident = incident_repository.reopen(
            self.conn,
            incident,
            version=finding.version,
            finding_id=str(finding.finding_id),
            change=change_bounds(finding),
            why=why,
            actor=self.actor,
            now=self.now,
        )
        return self._act(finding, "reopened", incident, context)

    def _act(
        self,
        finding: DriftFound,
        did: Literal["opened", "reopened"],
        incident: IncidentRow,
        context: ModelContext,
    ) -> Ingested:
        remedy = lifecycle.apply_policy(
            self.conn, incident, context, self.fleet_limits, actor=self.actor, now=self.now
        )
        return _ingested(finding, did, incident, f"{remedy.decision}: {remedy.why}")

    def _attach(self, finding: DriftFound, incident: IncidentRow) -> None:
        incident_repository.attach(
            self.conn, incident["incident_id"], str(finding.finding_id), self.now
        )

    def _resolved(self, finding: DriftFound, incident: IncidentRow | None) -> Ingested:
        """A finding that is over ends its incident, if nothing else keeps that open."""
        if incident is None:
            return _noted(finding, "it was over before anything had to be done")
        incident_id = incident["incident_id"]
        if incident["status"] == "resolved":
            return _noted(finding, f"incident {incident_id} is resolved", incident_id)
        if finding.resolution == "superseded":
            note = "its version was replaced: the incident ends when the new one is seen to do well"
            return _noted(finding, note, incident_id)
        if class_while_open(finding) != incident["incident_class"] or (
            incident["stage"] == "guarding"
        ):
            return _noted(finding, "explained the incident", incident_id)
        if still := self._still_open(finding, incident_id):
            return _noted(finding, f"{still} findings of it are still open", incident_id)
        lifecycle.resolve(
            self.conn,
            incident,
            "reverted",
            why=f"it went away without a release: {finding.reason}",
            actor=self.actor,
            now=self.now,
        )
        return _ingested(
            finding, "resolved", incident, "the incident ended: it went away by itself"
        )

    def _still_open(self, finding: DriftFound, incident_id: str) -> int:
        """How many other findings of this kind keep the incident open."""
        f, attached = findings.c, incident_findings.c
        return int(
            self.conn.execute(
                sa.select(sa.func.count())
                .select_from(findings.join(incident_findings, attached.finding_id == f.finding_id))
                .where(
                    attached.incident_id == incident_id,
                    f.finding_id != str(finding.finding_id),
                    f.kind == finding.kind,
                    f.status != "resolved",
                )
            ).scalar_one()
        )


def _noted(finding: DriftFound, note: str, incident_id: str | None = None) -> Ingested:
    return Ingested(str(finding.finding_id), "noted", incident_id, note)


def _ingested(
    finding: DriftFound,
    did: Literal["opened", "reopened", "attached", "resolved"],
    incident: IncidentRow,
    note: str,
) -> Ingested:
    return Ingested(str(finding.finding_id), did, incident["incident_id"], note)

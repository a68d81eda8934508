"""Waivers of releases: what a person took upon themselves is a gate of trusted rows, and stands in
the audit chain."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from redistill.workers.invariants.rule import RuleInput, RuleResult
from redistill.workers.store.tables import audit, versions

__all__ = ["recorded"]


def recorded(inputs: RuleInput) -> RuleResult:
    """The part of invariant 4 that is about waived gates."""
    said = _said(inputs.conn)
    violations: list[str] = []
    waivers = 0
    columns = [versions.c[n] for n in ("model", "version", "job_id", "report")]
    for row in inputs.conn.execute(sa.select(*columns).where(versions.c.published_at.is_not(None))):
        try:
            report = json.loads(row.report)
        except ValueError:  # said by another part of the rule
            continue
        gates = report.get("gates", ())
        splits = {g.get("name"): g.get("split") for g in gates}
        waived = report.get("waived", {})
        violations += [
            f"{row.model} {row.version}: gate {g.get('name')} says that it was waived, its report"
            " names nobody"
            for g in gates
            if g.get("why", "").startswith("waived by ") and g.get("name") not in waived
        ]
        for gate, told in waived.items():
            waivers += 1
            name = f"{row.model} {row.version}: gate {gate}"
            if splits.get(gate, "trusted") != "trusted":
                violations.append(f"{name} was waived and looks at no trusted rows")
            if not any((row.model, of, gate, told) in said for of in (row.job_id, row.version)):
                violations.append(f"{name} was waived, and the audit chain does not say by whom")
    return RuleResult(figures={"waivers": waivers}, violations=violations)


def _said(conn: sa.Connection) -> set[tuple[Any, ...]]:
    """What the audit chain says: model, job or version, gate, who and why."""
    out: set[tuple[Any, ...]] = set()
    actions = ("job.gates_waived", "release.gates_waived")
    for row in conn.execute(
        sa.select(audit.c.subject, audit.c.body).where(audit.c.action.in_(actions))
    ):
        body = json.loads(row.body)
        for gate, told in body["waived"].items():
            out.add((row.subject, body.get("job_id") or body["version"], gate, told))
    return out

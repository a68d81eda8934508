"""Candidates that faced the fresh rows of their incident: numbered without a gap, at most three,
and each release asked for the evidence that its number needs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from redistill.compress.judge.gates.recipe import MOST
from redistill.workers.invariants.rule import RuleInput, RuleResult
from redistill.workers.store.tables import fresh_tests, job_steps, jobs, pointer_history, versions

__all__ = ["counted"]


def counted(inputs: RuleInput) -> RuleResult:
    """The part of invariant 4 that is about releases which answer an incident."""
    tests: dict[str, list[Any]] = {}
    for row in inputs.conn.execute(
        sa.select(fresh_tests).order_by(fresh_tests.c.incident_id, fresh_tests.c.number)
    ):
        tests.setdefault(row.incident_id, []).append(row)
    violations = [
        f"incident {incident_id[:8]}: the candidates that faced its fresh rows are numbered"
        f" {[t.number for t in rows]}"
        for incident_id, rows in tests.items()
        if [t.number for t in rows] != list(range(1, len(rows) + 1)) or len(rows) > MOST
    ]
    for row, report in _released(inputs.conn):
        number = report.get("recipe")
        known = (number, row.sha256, row.predecessor)
        test = next(
            (
                t
                for t in tests.get(row.incident_id, ())
                if (t.number, t.sha256, t.version) == known and report["faced"] is True
            ),
            None,
        )
        name = f"{row.model} {row.version}"
        if test is None:
            violations.append(
                f"{name}: its incident does not count it as candidate {number} on fresh rows"
            )
            continue
        asked = [g.get("limit") for g in report.get("gates", ()) if g.get("name") == "fresh"]
        if asked != [test.e_value * 2.0 ** (test.number - 1)]:
            violations.append(
                f"{name}: candidate {number} of its incident was asked for an e-value of {asked}"
            )
    violations += _gone_back(inputs.conn, tests)
    return RuleResult(figures={"tested": sum(map(len, tests.values()))}, violations=violations)


def _gone_back(conn: sa.Connection, tests: dict[str, list[Any]]) -> Iterator[str]:
    """Jobs that answered an incident with an earlier release, which has to have passed the gates of
    that job as well: what contradicts it."""
    made = sa.exists().where(versions.c.job_id == jobs.c.job_id)
    rows = conn.execute(
        sa.select(jobs, job_steps.c.detail.label("judged"))
        .outerjoin(job_steps, (job_steps.c.job_id == jobs.c.job_id) & (job_steps.c.name == "gate"))
        .where(jobs.c.state == "succeeded", jobs.c.trigger_kind == "incident", ~made)
    )
    for row in rows.all():
        name = f"job {row.number} of {row.model}, which went back to an earlier release"
        try:
            sha256 = json.loads(row.outcome or "{}").get("sha256")
            judged = json.loads(row.judged or "{}")
        except ValueError:  # said by another part of the rules
            continue
        mine = (row.job_id, sha256, "reuse")
        test = next(
            (t for t in tests.get(row.incident_id, ()) if (t.job_id, t.sha256, t.recipe) == mine),
            None,
        )
        if test is None:
            yield f"{name}: its incident does not count it as a candidate on fresh rows"
            continue
        gates = judged.get("gates", [])
        failed = [g["name"] for g in gates if g.get("passed") is not True]
        if failed or not gates:
            yield f"{name}: it did not pass {', '.join(failed) or 'any gate'}"
        asked = [g.get("limit") for g in gates if g.get("name") == "fresh"]
        if asked != [test.e_value * 2.0 ** (test.number - 1)]:
            yield f"{name}: it was asked for an e-value of {asked}"


def _released(conn: sa.Connection) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Versions that served and answer an incident, with their gate reports."""
    columns = [versions.c[n] for n in ("model", "version", "sha256", "predecessor", "report")]
    served = sa.exists().where(
        pointer_history.c.model == versions.c.model, pointer_history.c.stable == versions.c.version
    )
    rows = conn.execute(
        sa.select(*columns, jobs.c.incident_id)
        .join(jobs, jobs.c.job_id == versions.c.job_id)
        .where(served, jobs.c.trigger_kind == "incident")
    )
    for row in rows.all():
        try:
            report = json.loads(row.report)
        except ValueError:  # said by another part of the rule
            continue
        if "faced" in report:  # else it was judged before candidates were counted
            yield row, report

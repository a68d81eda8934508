"""Waived gates of releases: of trusted rows, and in the audit chain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from history import JOB, NOW, report

from redistill.streams.store.database import Database
from redistill.workers.invariants import waivers
from redistill.workers.invariants.rule import RuleInput, RuleResult
from redistill.workers.store import audit
from redistill.workers.store.tables import versions

TOLD = "cli:ann: old rows"


def found(database: Database, home: Path) -> RuleResult:
    with database.read() as conn:
        return waivers.recorded(RuleInput(conn=conn, now=NOW, home=home, outbox_kept_us=0))


def waived(database: Database, gate: str = "trusted", split: str = "trusted") -> None:
    """The release was published although this gate was open."""
    gates = [{"name": gate, "split": split, "passed": True}]
    changed = json.loads(report("r1-x")) | {"waived": {gate: TOLD}, "gates": gates}
    with database.begin() as conn:
        conn.execute(
            sa.update(versions)
            .where(versions.c.version == "r1-x")
            .values(report=json.dumps(changed))
        )


def said(database: Database, action: str = "job.gates_waived", **body: Any) -> None:
    told = {"waived": {"trusted": TOLD}} | body
    with database.begin() as conn:
        audit.append(conn, "cli:ann", action, "credit", told, NOW)


def test_releases_without_a_waiver_hold(database: Database, tmp_path: Path) -> None:
    assert found(database, tmp_path) == RuleResult(figures={"waivers": 0})


@pytest.mark.parametrize(
    ("action", "body"),
    [("job.gates_waived", {"job_id": JOB}), ("release.gates_waived", {"version": "r1-x"})],
)
def test_a_waiver_that_the_audit_chain_has_holds(
    database: Database, tmp_path: Path, action: str, body: dict[str, Any]
) -> None:
    waived(database)
    said(database, action, **body)
    assert found(database, tmp_path) == RuleResult(figures={"waivers": 1})


@pytest.mark.parametrize(
    "body",
    [
        {"job_id": "another"},
        {"job_id": JOB, "waived": {"f1": TOLD}},
        {"job_id": JOB, "waived": {"trusted": "cli:bob: old rows"}},
    ],
)
def test_a_waiver_that_nobody_recorded_is_reported(
    database: Database, tmp_path: Path, body: dict[str, Any]
) -> None:
    waived(database)
    said(database, **body)
    (violation,) = found(database, tmp_path).violations
    assert violation == (
        "credit r1-x: gate trusted was waived, and the audit chain does not say by whom"
    )


def test_a_gate_that_was_waived_by_nobody_is_reported(database: Database, tmp_path: Path) -> None:
    waived(database)
    said(database, job_id=JOB)
    with database.begin() as conn:
        served = versions.c.version == "r1-x"
        text = conn.execute(sa.select(versions.c.report).where(served)).scalar_one()
        line = {"name": "f1", "split": "trusted", "passed": True, "why": f"waived by {TOLD}; worse"}
        changed = json.loads(text) | {"gates": [line]}
        conn.execute(sa.update(versions).where(served).values(report=json.dumps(changed)))
    (violation,) = found(database, tmp_path).violations
    assert violation == ("credit r1-x: gate f1 says that it was waived, its report names nobody")


def test_a_waived_gate_of_fresh_rows_is_reported(database: Database, tmp_path: Path) -> None:
    waived(database, "fresh", "fresh")
    said(database, job_id=JOB, waived={"fresh": TOLD})
    (violation,) = found(database, tmp_path).violations
    assert violation == "credit r1-x: gate fresh was waived and looks at no trusted rows"

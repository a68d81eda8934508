"""Releases that answer an incident: each is among the candidates that its incident counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from history import INCIDENT, JOB, NOW, SHA, Change, add, both, report, set_

from redistill.streams.store.database import Database
from redistill.workers.invariants import candidates
from redistill.workers.invariants.rule import RuleInput, RuleResult
from redistill.workers.store.tables import fresh_tests, job_steps, jobs, pointer_history, versions

SECOND = versions.c.version == "r1-x"


def found(database: Database, home: Path) -> RuleResult:
    with database.read() as conn:
        return candidates.counted(RuleInput(conn=conn, now=NOW, home=home, outbox_kept_us=0))


def judged(**values: Any) -> Change:
    """The release has another report."""
    changed = json.loads(report("r1-x")) | values
    return set_(versions, SECOND, report=json.dumps(changed))


def candidate(number: int) -> Change:
    return add(
        fresh_tests, incident_id=INCIDENT, number=number, sha256=f"c{number}", version="v1",
        since=0, recipe="warm", job_id=JOB, e_value=200.0, at=NOW,
    )  # fmt: skip


def test_a_counted_release_holds(database: Database, tmp_path: Path) -> None:
    assert found(database, tmp_path) == RuleResult(figures={"tested": 1})


UNCOUNTED = "credit r1-x: its incident does not count it as candidate"
GATE = {"name": "fresh", "passed": True}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (set_(fresh_tests, sha256="9" * 64), f"{UNCOUNTED} 1 on fresh rows"),
        (set_(fresh_tests, version="v0"), f"{UNCOUNTED} 1 on fresh rows"),
        (judged(recipe=2), f"{UNCOUNTED} 2 on fresh rows"),
        (judged(faced=False), f"{UNCOUNTED} 1 on fresh rows"),
        (set_(fresh_tests, e_value=400.0), "asked for an e-value of [200.0]"),
        (judged(gates=[]), "asked for an e-value of []"),
        (judged(gates=[GATE | {"limit": 100.0}]), "asked for an e-value of [100.0]"),
        (candidate(3), "are numbered [1, 3]"),
    ],
)
def test_a_release_that_is_not_counted_as_it_was_judged_is_reported(
    database: Database, tmp_path: Path, change: Change, said: str
) -> None:
    with database.begin() as conn:
        change(conn)
    (violation,) = found(database, tmp_path).violations
    assert said in violation


def test_a_second_candidate_needs_twice_as_much(database: Database, tmp_path: Path) -> None:
    with database.begin() as conn:
        set_(fresh_tests, sha256="f" * 64)(conn)
        candidate(2)(conn)
        set_(fresh_tests, fresh_tests.c.number == 2, sha256=SHA["r1-x"])(conn)
        judged(recipe=2, gates=[GATE | {"limit": 400.0}])(conn)
    assert found(database, tmp_path).violations == []


def test_a_fourth_candidate_is_reported(database: Database, tmp_path: Path) -> None:
    with database.begin() as conn:
        for number in (2, 3, 4):
            candidate(number)(conn)
    (violation,) = found(database, tmp_path).violations
    assert violation == (
        "incident 11111111: the candidates that faced its fresh rows are numbered [1, 2, 3, 4]"
    )


@pytest.mark.parametrize(
    "change",
    [
        set_(versions, SECOND, report=json.dumps({"mode": "repair", "recipe": 1})),
        set_(versions, SECOND, report="{"),
        set_(jobs, trigger_kind="actor"),
    ],
)
def test_older_reports_and_jobs_of_people_are_not_counted(
    database: Database, tmp_path: Path, change: Change
) -> None:
    with database.begin() as conn:
        conn.execute(sa.delete(fresh_tests))
        change(conn)
    assert found(database, tmp_path).violations == []


def test_a_version_that_never_served_needs_no_number(database: Database, tmp_path: Path) -> None:
    with database.begin() as conn:
        conn.execute(sa.delete(fresh_tests))
        conn.execute(sa.delete(pointer_history).where(pointer_history.c.stable == "r1-x"))
    assert found(database, tmp_path).violations == []


def gone_back(**judged: Any) -> Change:
    """The job made nothing: it went back to the first model, as its gates said."""
    gates = [GATE | {"limit": 200.0}]
    detail = json.dumps({"gates": gates, **judged})
    return both(
        set_(versions, SECOND, job_id=None),
        set_(jobs, outcome=json.dumps({"version": "v1", "sha256": SHA["v1"]})),
        set_(fresh_tests, sha256=SHA["v1"], recipe="reuse"),
        set_(job_steps, job_steps.c.name == "gate", detail=detail),
    )


def test_job_that_went_back_to_an_earlier_release_holds(database: Database, tmp_path: Path) -> None:
    with database.begin() as conn:
        gone_back()(conn)
    assert found(database, tmp_path).violations == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (both(gone_back(), set_(fresh_tests, sha256="9" * 64)), "does not count it as a candidate"),
        (both(gone_back(), set_(fresh_tests, recipe="warm")), "does not count it as a candidate"),
        (both(gone_back(), set_(fresh_tests, e_value=400.0)), "asked for an e-value of [200.0]"),
        (gone_back(gates=[GATE | {"limit": 200.0, "passed": None}]), "did not pass fresh"),
        (gone_back(gates=[{"name": "x", "passed": True}]), "asked for an e-value of []"),
    ],
)
def test_job_that_went_back_to_a_release_that_was_not_judged_so_is_reported(
    database: Database, tmp_path: Path, change: Change, said: str
) -> None:
    with database.begin() as conn:
        change(conn)
    (violation,) = found(database, tmp_path).violations
    assert violation.startswith("job 1 of credit, which went back to an earlier release: ")
    assert said in violation

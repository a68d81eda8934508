"""The rules of releases: each can be broken, and an untouched history holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from history import NOW, SHA, Breaks, RuleChecks, add, holds, own, put, remove, report, set_

from redistill.streams.store.database import Database
from redistill.times import DAY
from redistill.workers.invariants import candidates, releases, waivers
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.store.tables import (
    activations,
    barred,
    fresh_tests,
    job_steps,
    jobs,
    pointer_history,
    pointers,
    versions,
)

RULES = (
    own(3, releases.one_job),
    own(4, releases.passed_gates, candidates.counted, waivers.recorded),
    own(5, releases.pointers_stand),
    own(6, releases.fenced_writes),
    own(7, releases.served_only_pointed),
)
RULE = {rule.number: rule for rule in RULES}


def second_live_job(conn: sa.Connection) -> None:
    for number in (2, 3):  # marks that were not set let two live jobs past the unique key
        put(
            conn, jobs, job_id=str(number), number=number, model="credit", attempt=1, trigger_kind="actor",
            trigger_id="x", state="running", options="{}", tries=1, not_before=0, deadline_at=0, created_at=0,
            live_mark=None,
        )  # fmt: skip


def baseline_again(conn: sa.Connection) -> None:
    conn.execute(sa.update(versions).where(versions.c.version == "r1-x").values(kind="baseline"))


FIRST, SECOND = versions.c.version == "v1", versions.c.version == "r1-x"
EPOCH_2 = pointer_history.c.epoch == 2
SERVED = activations.c.event_id == "1"
LAST_STEP = job_steps.c.name == "publish"

BREAKS: Breaks = {
    "two live jobs": (3, "credit has 2 live jobs", second_live_job),
    "a job half finished": (3, "its mark says otherwise", set_(jobs, live_mark=1)),
    "a release that failed": (4, "without having passed its gates", set_(versions, SECOND, gate_passed=False)),
    "a report of other bytes": (4, "not about its bytes", set_(versions, SECOND, report=report("v1"))),
    "another policy": (4, "under another policy", set_(versions, SECOND, policy_sha256="q" * 64)),
    "a failed gate inside": (
        4,
        "fresh did not pass",
        set_(versions, SECOND, report=report("r1-x").replace("true", "false")),
    ),
    "an unreadable report": (4, "cannot be read", set_(versions, SECOND, report="{")),
    "a second baseline": (4, "was not the first that served", baseline_again),
    "a candidate that nobody counted": (
        4,
        "does not count it as candidate 1 on fresh rows",
        remove(fresh_tests),
    ),
    "an epoch that went back": (5, "not the last of its history", set_(pointers, epoch=1)),
    "a hole in the epochs": (5, "are not 1 to 1", remove(pointer_history, pointer_history.c.epoch == 1)),
    "a pointer to nothing": (5, "which is not known", remove(versions, SECOND)),
    "a pointer to other bytes": (5, "names other bytes", set_(pointer_history, EPOCH_2, sha256="0" * 64)),
    "barred bytes served": (
        5,
        "were barred before",
        add(barred, model="credit", sha256=SHA["r1-x"], reason="bad", at=NOW),
    ),
    "a predecessor without files": (5, "cannot be loaded again", set_(versions, FIRST, files="{}")),
    "a zombie's step": (6, "after lease 2 had written", set_(job_steps, LAST_STEP, token=1)),
    "a step of the future": (6, "the last given is 2", set_(job_steps, LAST_STEP, token=3)),
    "unknown bytes served": (7, "which no pointer ever named", set_(activations, SERVED, sha256="9" * 64)),
    "served too early": (7, "before a pointer named it", set_(activations, SERVED, at=NOW)),
    "served under another epoch": (7, "which named other bytes", set_(activations, SERVED, epoch=1)),
    "served under another name": (7, "which named other bytes", set_(activations, SERVED, version="v1")),
}  # fmt: skip


class TestReleases(RuleChecks):
    RULES = RULES
    BREAKS = BREAKS


def test_what_was_looked_at_is_told(database: Database, tmp_path: Path) -> None:
    figures = {number: holds(database, tmp_path, rule).figures for number, rule in RULE.items()}
    assert figures == {
        3: {"jobs": 1, "live": 0, "releases": 1},
        4: {"versions": 2, "published": 2, "tested": 1, "waivers": 0},
        5: {"pointers": 1, "moves": 2, "releases": 2},
        6: {"steps": 3, "leases": 1},
        7: {"activations": 3, "declared_fallbacks": 1},
    }


@pytest.mark.parametrize(("content", "expected"), [(None, "is missing"), (b"other", "other bytes")])
def test_changed_files_of_a_release_are_reported(
    database: Database, tmp_path: Path, content: bytes | None, expected: str
) -> None:
    path = RepositoryLayout(tmp_path).path("credit", "model.onnx", SHA["v1"])
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    (violation,) = holds(database, tmp_path, RULE[5]).violations
    assert expected in violation


def unguarded(conn: sa.Connection, table: sa.Table) -> None:
    """Make a table again without its constraints: the rules do not rely on them."""
    for statement in (
        f"CREATE TABLE copied AS SELECT * FROM {table.name}",
        f"DROP TABLE {table.name}",
        f"ALTER TABLE copied RENAME TO {table.name}",
    ):
        conn.execute(sa.text(statement))


def test_two_jobs_of_one_attempt_are_reported(database: Database, tmp_path: Path) -> None:
    with database.begin() as conn:
        conn.execute(sa.delete(job_steps))
        conn.execute(sa.delete(fresh_tests))
        unguarded(conn, jobs)
        row = dict(conn.execute(sa.select(jobs)).mappings().one())
        conn.execute(sa.insert(jobs).values(**(row | {"job_id": "twin", "number": 2})))
    (violation,) = holds(database, tmp_path, RULE[3]).violations
    assert violation == "attempt 1 of incident 11111111 has 2 jobs"


def test_two_releases_of_one_job_are_reported(database: Database, tmp_path: Path) -> None:
    with database.begin() as conn:
        unguarded(conn, versions)
        row = dict(conn.execute(sa.select(versions).where(SECOND)).mappings().one())
        twin = row | {"version": "twin", "status": "candidate"}
        conn.execute(sa.insert(versions).values(**twin))
    (violation,) = holds(database, tmp_path, RULE[3]).violations
    assert violation == "job 22222222 made 2 releases"


def test_candidate_that_never_served_may_have_failed(database: Database, tmp_path: Path) -> None:
    with database.begin() as conn:
        row = dict(conn.execute(sa.select(versions).where(SECOND)).mappings().one())
        candidate = {"version": "r2-y", "status": "rejected", "gate_passed": False, "job_id": None}
        conn.execute(sa.insert(versions).values(**(row | candidate)))
    found = holds(database, tmp_path, RULE[4])
    assert (found.violations, found.figures) == (
        [],
        {"versions": 3, "published": 2, "tested": 1, "waivers": 0},
    )


def test_judged_incumbent_is_no_candidate(database: Database, tmp_path: Path) -> None:
    """A repair's report names the incumbent as well, and does not pass it."""
    judged = json.loads(report("r1-x")) | {"incumbent": {"sha256": SHA["r1-x"]}, "chosen": None}
    with database.begin() as conn:
        conn.execute(sa.update(versions).where(SECOND).values(report=json.dumps(judged)))
    (violation,) = holds(database, tmp_path, RULE[4]).violations
    assert "not about its bytes" in violation


def test_bytes_that_were_barred_later_may_have_served(database: Database, tmp_path: Path) -> None:
    with database.begin() as conn:
        put(conn, barred, model="credit", sha256=SHA["r1-x"], reason="worse", at=NOW + 3 * DAY)
    assert holds(database, tmp_path, RULE[5]).violations == []

"""What the policy is told of a model's last hours, read from rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import loop
import pytest
import sqlalchemy as sa
from loop import LIMITS, NOW

from redistill.times import DAY, HOUR
from redistill.workers.incidents import recent_actions
from redistill.workers.incidents.model_context import load
from redistill.workers.incidents.policy import IncidentContext, JobBudget, RecentActions
from redistill.workers.store import fresh_tests
from redistill.workers.store.fresh_tests import FreshTest
from redistill.workers.store.tables import incidents, jobs, pauses, pointer_history

INCIDENT = {"incident_id": "i1", "incident_class": "harm", "model": "credit"}


@pytest.fixture
def conn(tmp_path: Path) -> Iterator[sa.Connection]:
    database = loop.opened(f"sqlite:///{tmp_path / 'actions.db'}")
    with database.begin() as conn:
        loop.register(conn, loop.spec())
        conn.execute(sa.update(pointer_history).values(trigger='{"kind": "actor", "id": "ann"}'))
        for name in ("i1", "i2"):
            conn.execute(
                sa.insert(incidents).values(
                    incident_id=name, model="credit", version="v1", incident_class=name, attempt=0,
                    status="open", stage="detected", why="", split_salt="", opened_at=0, updated_at=0,
                )
            )  # fmt: skip
        yield conn
    database.dispose()


def gather(conn: sa.Connection, **over: Any) -> tuple[IncidentContext, JobBudget, RecentActions]:
    context = load(conn, "credit")
    assert context is not None
    return recent_actions.gather(conn, INCIDENT, context, LIMITS, now=NOW, **over)


def add_job(conn: sa.Connection, number: int, **over: Any) -> None:
    values = {
        "job_id": f"j{number}", "number": number, "model": "credit", "attempt": number,
        "trigger_kind": "incident", "trigger_id": "i", "state": "succeeded", "options": "{}",
        "tries": 1, "not_before": 0, "deadline_at": 0, "created_at": 0, "started_at": NOW - HOUR,
        "finished_at": NOW - HOUR,
    } | over  # fmt: skip
    conn.execute(sa.insert(jobs).values(**values))


def test_model_about_which_nothing_was_done(conn: sa.Connection) -> None:
    incident, budget, recent = gather(conn, approved=True)
    assert incident == IncidentContext(
        model="credit", incident_class="harm", level="repair", approval="automatic",
        has_teacher=True, approved=True, predecessor=None,
    )  # fmt: skip
    assert budget == JobBudget(
        model_jobs=0, model_limit=5, fleet_jobs=0, fleet_limit=24, free_at=NOW + DAY
    )
    assert recent == RecentActions()


def test_predecessor_is_where_a_roll_back_would_go(conn: sa.Connection) -> None:
    loop.point(conn, "credit", "v2", now=NOW - HOUR, kind="actor")
    assert gather(conn)[0].predecessor == "v1"


def test_budget_counts_automatic_jobs_that_were_started_within_a_day(conn: sa.Connection) -> None:
    add_job(conn, 1, started_at=NOW - 3 * HOUR)
    add_job(conn, 2, trigger_kind="schedule", started_at=NOW - 5 * HOUR)
    add_job(conn, 3, model="fraud", started_at=NOW - 7 * HOUR)
    add_job(conn, 4, trigger_kind="actor")  # a person's decision
    add_job(conn, 5, started_at=NOW - DAY)
    add_job(conn, 6, started_at=None)
    budget = gather(conn)[1]
    assert (budget.model_jobs, budget.fleet_jobs) == (2, 3)
    assert budget.free_at == NOW + 17 * HOUR


def test_live_job_and_pause_are_told(conn: sa.Connection) -> None:
    add_job(conn, 1, state="waiting_labels", live_mark=1, finished_at=None)
    conn.execute(sa.insert(pauses).values(model="credit", until=NOW + 5, reason="rolled back"))
    recent = gather(conn)[2]
    assert recent.live_job == "j1"
    assert (recent.paused_until, recent.pause_reason) == (NOW + 5, "rolled back")


@pytest.mark.parametrize(
    ("kind", "cools"),
    [("incident", True), ("schedule", True), ("guard", True), ("actor", False)],
)
def test_automatic_change_of_the_pointer_is_followed_by_a_cool_down(
    conn: sa.Connection, kind: str, cools: bool
) -> None:
    for epoch, at, trigger in ((2, NOW - 9, kind), (3, NOW - 1, "actor")):
        conn.execute(
            sa.insert(pointer_history).values(
                model="credit", epoch=epoch, stable="v1", sha256="0", change="publish", reason="",
                trigger=json.dumps({"kind": trigger, "id": "x"}), at=at,
            )
        )  # fmt: skip
    recent = gather(conn)[2]
    assert recent.cooling_until == (NOW - 9 + LIMITS.cool_down if cools else None)


def test_attempt_of_the_incident_is_followed_by_a_cool_down_too(conn: sa.Connection) -> None:
    add_job(conn, 1, incident_id="i1", finished_at=NOW - 20, state="rejected")
    add_job(conn, 2, incident_id="i1", finished_at=NOW - 10, state="cancelled")
    add_job(conn, 3, incident_id="i2", finished_at=NOW - 5)
    assert gather(conn)[2].cooling_until == NOW - 20 + LIMITS.cool_down


@pytest.mark.parametrize(
    ("states", "rejected"),
    [
        ([], 0),
        (["rejected", "rejected"], 2),
        (["rejected", "succeeded", "rejected"], 1),
        (["rejected", "failed", "rejected", "cancelled"], 2),  # they judged nothing
        (["rejected", "succeeded"], 0),
    ],
)
def test_candidates_rejected_since_one_passed_are_counted(
    conn: sa.Connection, states: list[str], rejected: int
) -> None:
    for i, state in enumerate(states, 1):
        add_job(conn, i, state=state, finished_at=NOW - HOUR + i)
    add_job(conn, 90, state="rejected", trigger_kind="actor", finished_at=NOW)
    add_job(conn, 91, state="rejected", model="fraud", finished_at=NOW)
    assert gather(conn)[2].rejected_in_a_row == rejected


def test_candidates_of_the_incident_that_faced_its_rows_are_counted(conn: sa.Connection) -> None:
    add_job(conn, 1)
    for incident, numbers in (("i1", (1, 2)), ("i2", (1,))):
        for n in numbers:
            test = FreshTest(
                number=n, sha256=f"c{n}", version="v1", since=0, recipe="warm", job_id="j1",
                e_value=200.0, at=NOW,
            )  # fmt: skip
            fresh_tests.enter(conn, incident, test)
    assert gather(conn)[2].tested == 2

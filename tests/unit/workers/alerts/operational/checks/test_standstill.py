"""Retention, announcements and jobs that stand still."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from operational import NOW, Watched, watched

from redistill.streams.store.tables import outbox
from redistill.times import MINUTE, SECOND
from redistill.workers.alerts.operational.checks import standstill
from redistill.workers.store import clock_problem
from redistill.workers.store.clock_problem import ClockProblem
from redistill.workers.store.tables import job_steps, jobs


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[Watched]:
    with watched(database_url, tmp_path / "home", child_seconds=600) as made:
        yield made


def test_retention_opens_after_ten_minutes_and_ends_when_clocks_agree(world: Watched) -> None:
    assert world.firing(standstill.retention_stopped) == []
    with world.database.begin() as conn:
        clock_problem.put(
            conn,
            ClockProblem(why="h-1 is 9 s ahead", us=9, since=NOW, until=None, holder="h-1"),
        )
    assert world.firing(standstill.retention_stopped, later=10 * MINUTE - 1) == []
    assert world.firing(standstill.retention_stopped, later=1) == ["retention"]
    found = world.look(standstill.retention_stopped)
    assert found is not None
    assert found["retention"].said == (
        "nothing has been deleted for its age for 10 min: h-1 is 9 s ahead"
    )
    with world.database.begin() as conn:
        clock_problem.clear(conn)
    assert world.firing(standstill.retention_stopped) == []


def test_outbox_opens_at_two_minutes_and_ends_at_half_a_minute(world: Watched) -> None:
    event = {"topic": "drift", "key": "", "headers": "{}", "value": b"", "created_at": NOW}
    world.insert(outbox, event | {"event_id": "a"}, event | {"event_id": "b"})
    assert world.firing(standstill.outbox_unsent, later=120 * SECOND - 1) == []
    assert world.firing(standstill.outbox_unsent, later=1) == ["drift"]
    found = world.look(standstill.outbox_unsent)
    assert found is not None
    assert found["drift"].said == ("2 announcements of drift wait to be sent, the oldest for 2 min")
    world.update(outbox, created_at=world.now - 31 * SECOND)
    assert world.firing(standstill.outbox_unsent) == ["drift"]
    world.update(outbox, created_at=world.now - 30 * SECOND)
    assert world.firing(standstill.outbox_unsent) == []
    world.update(outbox, created_at=NOW)
    assert world.firing(standstill.outbox_unsent) == ["drift"]
    world.update(outbox, sent_at=world.now)
    assert world.firing(standstill.outbox_unsent) == []


def job(n: int, state: str, not_before: int) -> dict[str, object]:
    return {
        "job_id": f"j{n}", "number": n, "model": f"m{n}", "attempt": 1, "trigger_kind": "actor",
        "trigger_id": "me", "state": state, "options": "{}", "tries": 0, "not_before": not_before,
        "deadline_at": NOW * 2, "created_at": NOW, "live_mark": 1,
    }  # fmt: skip


def test_jobs_are_stuck_when_none_of_them_goes_on(world: Watched) -> None:
    assert world.firing(standstill.jobs_stuck) == []
    world.insert(jobs, job(7, "queued", NOW), job(8, "queued", NOW + 60 * MINUTE))
    assert world.firing(standstill.jobs_stuck, later=20 * MINUTE - 1) == []
    assert world.firing(standstill.jobs_stuck, later=1) == ["jobs"]
    found = world.look(standstill.jobs_stuck)
    assert found is not None
    assert found["jobs"].said == "1 job could be worked on, and none has gone on for 20 min"
    assert "jobs show 7" in found["jobs"].remedy
    step = {"job_id": "j7", "name": "train", "state": "running", "token": 1}
    world.insert(job_steps, step | {"at": world.now - 7 * MINUTE})
    assert world.firing(standstill.jobs_stuck) == ["jobs"]
    assert world.firing(standstill.jobs_stuck, later=-MINUTE) == []


def test_jobs_that_wait_for_labels_or_for_their_time_are_not_stuck(world: Watched) -> None:
    world.insert(jobs, job(7, "waiting_labels", NOW), job(8, "queued", NOW * 2))
    assert world.firing(standstill.jobs_stuck, later=600 * MINUTE) == []

"""What the clock starts: each scheduled time once, whoever was asleep."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import loop
import pytest
import sqlalchemy as sa
from loop import NOW, Clock
from waiting import eventually

from redistill.streams.store.database import Database, connect
from redistill.times import DAY, HOUR, SECOND, now_us
from redistill.workers.incidents.model_context import load
from redistill.workers.jobs.scheduler import Scheduler, _Every, make_due_job
from redistill.workers.store import job_queue
from redistill.workers.store.tables import audit, jobs


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = loop.opened(database_url)
    yield opened
    opened.dispose()


def start(database: Database, **over: Any) -> None:
    with database.begin() as conn:
        loop.register(conn, loop.spec(schedule="0 3 * * *", **over), now=NOW - 10 * DAY)


def due(database: Database, now: int) -> str | None:
    with database.begin() as conn:
        model_context = load(conn, "credit")
        assert model_context is not None
        return make_due_job(conn, model_context, now=now)


def rows(database: Database) -> list[Any]:
    with database.read() as conn:
        return list(conn.execute(sa.select(jobs).order_by(jobs.c.created_at)).mappings())


def test_each_scheduled_time_makes_one_job_however_often_it_is_asked(database: Database) -> None:
    start(database)
    first = due(database, NOW)
    assert first is not None
    assert due(database, NOW) is None
    assert due(database, NOW + 60 * SECOND) is None
    (job,) = rows(database)
    assert (job["trigger_kind"], job["state"]) == ("schedule", "queued")
    with database.begin() as conn:
        found = job_queue.get(conn, first)
        assert found is not None
        job_queue.finish(conn, found, "succeeded", outcome={}, now=NOW)
    assert due(database, NOW + DAY) is not None
    assert due(database, NOW + 5 * DAY) is not None  # four nights were slept through: one job
    assert len(rows(database)) == 3


def test_job_of_a_clock_that_was_ahead_stops_no_schedule(database: Database) -> None:
    start(database)
    early = due(database, NOW + 40 * DAY)
    assert early is not None
    with database.begin() as conn:
        found = job_queue.get(conn, early)
        assert found is not None
        job_queue.finish(conn, found, "succeeded", outcome={}, now=NOW)
    assert due(database, NOW) is not None
    assert due(database, NOW) is None


def test_schedule_that_finds_a_live_job_leaves_a_trace(database: Database) -> None:
    start(database)
    due(database, NOW)
    due(database, NOW + DAY)
    first, second = rows(database)
    assert (first["state"], second["state"]) == ("queued", "cancelled")
    assert "still at work" in second["outcome"]
    with database.read() as conn:
        actions = conn.execute(sa.select(audit.c.action)).scalars().all()
    assert actions == ["job.scheduled", "job.scheduled"]


def test_times_before_the_registration_do_not_count(database: Database) -> None:
    with database.begin() as conn:
        loop.register(conn, loop.spec(schedule="0 0 1 1 *"), now=NOW)
    assert due(database, NOW + HOUR) is None


def test_paused_model_is_not_recompressed(database: Database) -> None:
    start(database, approval="paused")
    due(database, NOW)
    (job,) = rows(database)
    assert job["state"] == "cancelled"


def test_models_below_level_repair_have_no_schedule(database: Database) -> None:
    start(database, level="rollback")
    assert due(database, NOW) is None


def test_two_schedulers_make_one_job_and_do_chores_under_one_lease(database: Database) -> None:
    start(database)
    done: list[str] = []
    made = threading.Event()
    clock = Clock()
    both = [
        Scheduler(
            database,
            holder=name,
            chores={"sweep": (0.2, lambda name=name: done.append(name))},  # type: ignore[misc]
            on_job=made.set,
            clock=clock,
        )
        for name in ("one", "two")
    ]
    for scheduler in both:
        scheduler.start()
    try:
        assert made.wait(10)
        eventually(lambda: len(done) > 3, "the chore is done again and again", every=0.05)
    finally:
        for scheduler in both:
            scheduler.stop()
    assert len(rows(database)) == 1
    assert len(set(done)) == 1


def test_schedule_that_nobody_can_read_is_said_once_and_stops_no_other(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    with database.begin() as conn:
        for name, schedule in (("a", "0 0 31 2 *"), ("b", "*/100 * * * *"), ("c", "0 3 * * *")):
            loop.register(conn, loop.spec(name=name, schedule=schedule), now=NOW - 10 * DAY)
    scheduler = Scheduler(database, holder="one", chores={}, on_job=lambda: None, clock=Clock())
    scheduler.fire_all()
    scheduler.fire_all()
    assert [r["model"] for r in rows(database)] == ["c"]
    said = [line for line in capsys.readouterr().out.splitlines() if "schedule_unreadable" in line]
    assert len(said) == 2
    assert "never has it" in said[0]


def test_chore_that_fails_is_done_again(database: Database) -> None:
    calls: list[int] = []

    def chore() -> None:
        calls.append(1)
        raise ValueError("once more")

    scheduler = Scheduler(
        database, holder="one", chores={"bad": (0.1, chore)}, on_job=lambda: None, clock=Clock()
    )
    scheduler.start()
    try:
        eventually(lambda: len(calls) > 2, "it is called again", every=0.05)
    finally:
        scheduler.stop()


def test_database_that_is_away_is_no_fault_of_a_chore(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    away = connect(f"sqlite:///{tmp_path / 'gone' / 'redistill.db'}")
    tries: list[str] = []
    done: list[str] = []

    class Counted(Scheduler):
        def _hold(self) -> int | None:
            tries.append("asked")
            return super()._hold()

    scheduler = Counted(
        away,
        holder="one",
        chores={"expire": (0.1, lambda: done.append("done"))},
        on_job=lambda: None,
        clock=Clock(),
        look_seconds=0.1,
    )
    scheduler.start()
    try:
        eventually(lambda: len(tries) > 2, "it goes on trying")
    finally:
        scheduler.stop()
    said = capsys.readouterr().out
    assert "chore_failed" not in said  # the database is said to be away once, for all tasks
    assert "Traceback" not in said
    assert not [r for r in caplog.records if "raised an exception" in r.getMessage()]
    assert not done


def test_chores_go_on_when_the_clock_is_set_back_by_a_month(database: Database) -> None:
    calls: list[int] = []
    moved = 0

    def machine() -> int:
        return now_us() + moved

    scheduler = Scheduler(
        database, holder="one", chores={"expire": (3_600.0, lambda: calls.append(1))},
        on_job=lambda: None, clock=Clock(), process=machine,
    )  # fmt: skip
    scheduler.start()
    try:
        # where all wake-ups stand after the clock was set back
        for chore in scheduler._timer.get_jobs():
            chore.modify(next_run_time=datetime.now(UTC) + timedelta(days=40))
        scheduler.keep_time()
        assert not calls  # nothing was set yet
        moved = -40 * DAY
        scheduler.keep_time()
        eventually(lambda: calls, "it is done")
        done = len(calls)
        scheduler.keep_time()  # once a setting
        assert all(c.next_run_time > datetime.now(UTC) for c in scheduler._timer.get_jobs())
        assert len(calls) == done
    finally:
        scheduler.stop()


def test_clock_that_jumps_ahead_makes_no_list_of_all_that_was_missed() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    every = _Every(seconds=2.0, timezone=UTC)
    assert every.get_next_fire_time(now - timedelta(days=40), now) == now + timedelta(seconds=2)

"""When a waiting job goes on: not before its time, and only where there may be enough rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import job_worker
import loop
import pytest
import sqlalchemy as sa
from loop import NOW, Clock
from served_rows import labelled, served

from redistill.streams.store.database import Database
from redistill.streams.store.tables import outcomes
from redistill.times import SECOND
from redistill.workers.jobs import training_window
from redistill.workers.jobs.waiting import WaitingJobs
from redistill.workers.store import job_queue
from redistill.workers.store.tables import jobs, pointers


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    with opened.begin() as conn:
        loop.register(conn, loop.spec())
        job_worker.incident_with_job(conn)
    yield opened
    opened.dispose()


def parked(database: Database, **wait: Any) -> str:
    """Let the only job wait."""
    claim = job_worker.claimed(database)
    with job_queue.fenced(database, claim, Clock()) as conn:
        job_queue.park(conn, claim, outcome={"wait": wait}, gate_rows=0, now=NOW)
    return claim.job.job_id


def ready(database: Database, waiting: WaitingJobs) -> str | None:
    with database.read() as conn:
        job = waiting.ready(conn)
    return None if job is None else job.job_id


def test_job_with_enough_labels_goes_on(database: Database) -> None:
    job_id = parked(database, count="labelled", rows=20, outcomes=20)
    waiting = WaitingJobs(Clock())
    served(database, range(1, 41))
    labelled(database, range(1, 20))
    assert ready(database, waiting) is None
    labelled(database, range(20, 21))
    assert ready(database, waiting) == job_id


def test_window_is_not_read_before_there_may_be_enough(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    read = training_window.read
    monkeypatch.setattr(
        training_window,
        "read",
        lambda conn, wanted: reads.append(1) or read(conn, wanted),  # type: ignore[func-returns-value]
    )
    parked(database, count="gate_labelled", rows=30, outcomes=10)
    waiting = WaitingJobs(Clock())
    served(database, range(1, 201))
    labelled(database, range(1, 10))
    assert ready(database, waiting) is None
    assert reads == []
    labelled(database, range(10, 21))  # 20 outcomes, some 10 of them on the gate's side
    assert ready(database, waiting) is None
    assert len(reads) == 1
    labelled(database, range(21, 25))  # fewer than are missing
    assert ready(database, waiting) is None
    assert len(reads) == 1
    labelled(database, range(25, 101))
    assert ready(database, waiting) is not None
    assert len(reads) == 2


def test_last_label_that_was_missing_is_enough(database: Database) -> None:
    parked(database, count="labelled", rows=20, outcomes=0)
    served(database, range(1, 41))
    labelled(database, range(1, 20))
    assert ready(database, WaitingJobs(Clock())) is None
    labelled(database, range(20, 21))
    assert ready(database, WaitingJobs(Clock())) is not None


def test_job_that_waits_a_second_time_is_looked_at_from_its_own_number_on(
    database: Database,
) -> None:
    parked(database, count="gate_labelled", rows=20, outcomes=1)
    waiting = WaitingJobs(Clock())
    served(database, range(1, 201))
    labelled(database, range(1, 21))
    assert ready(database, waiting) is None  # and not again before 20 and what is missing
    labelled(database, range(21, 101))
    assert ready(database, waiting) is not None
    with database.begin() as conn:  # its window is another one now
        conn.execute(sa.delete(outcomes))
        wait = {"count": "gate_labelled", "rows": 1, "outcomes": 1}
        conn.execute(sa.update(jobs).values(outcome=json.dumps({"wait": wait})))
    labelled(database, range(1, 11))
    assert ready(database, waiting) is not None


def test_job_that_lacks_rows_looks_at_its_own_pace(database: Database) -> None:
    job_id = parked(database, count="train", rows=10, outcomes=0, look_at=NOW + 2 * SECOND)
    clock = Clock()
    waiting = WaitingJobs(clock)
    served(database, range(1, 101))
    assert ready(database, waiting) is None
    clock.forward(2 * SECOND)
    assert ready(database, waiting) == job_id


def test_what_is_known_of_a_wait_delays_no_other_wait_of_the_job(database: Database) -> None:
    job_id = parked(database, count="train", rows=10, outcomes=0)
    clock = Clock()
    waiting = WaitingJobs(clock)
    assert ready(database, waiting) is None  # there are no rows: looked at again later
    served(database, range(1, 201))
    labelled(database, range(1, 101))
    assert ready(database, waiting) is None
    waits_for(database, count="gate_labelled", rows=5, outcomes=0)
    assert ready(database, waiting) == job_id
    waits_for(database, count="labelled", rows=130, outcomes=0)
    assert ready(database, waiting) is None  # and not again before 130 outcomes
    waits_for(database, count="labelled", rows=90, outcomes=0)  # another worker took it up
    assert ready(database, waiting) == job_id


def test_waits_that_are_over_are_forgotten(database: Database) -> None:
    parked(database, count="train", rows=10, outcomes=0)
    waiting = WaitingJobs(Clock())
    assert ready(database, waiting) is None
    waits_for(database, count="train", rows=11, outcomes=0)
    assert ready(database, waiting) is None
    assert len(waiting._next) == 1
    with database.begin() as conn:
        conn.execute(sa.update(jobs).values(state="expired"))
    assert ready(database, waiting) is None
    assert waiting._next == {}


def test_looks_for_rows_take_a_small_share_of_the_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window with labels of a source may be half a million rows, and the wait a day."""
    clock, reads, read = Clock(), [0], training_window.read

    def slow(*args: Any) -> training_window.TrainingWindow:
        reads[0] += 1
        clock.forward(2 * SECOND)
        return read(*args)

    monkeypatch.setattr(training_window, "read", slow)
    parked(database, count="train", rows=10, outcomes=0)
    waiting = WaitingJobs(clock)
    for _ in range(200):
        assert ready(database, waiting) is None
        clock.forward(SECOND)
    assert reads[0] == 2


def waits_for(database: Database, **wait: Any) -> None:
    """Let the job wait for something else."""
    with database.begin() as conn:
        conn.execute(sa.update(jobs).values(outcome=json.dumps({"wait": wait})))


def test_job_without_an_incident_counts_from_where_its_window_began(database: Database) -> None:
    with database.begin() as conn:
        conn.execute(sa.delete(jobs))
        job_id = job_worker.manual_job(conn)
    parked(database, count="labelled", rows=5, outcomes=1, since=NOW + 51 * SECOND)
    served(database, range(1, 101))
    labelled(database, range(1, 51))  # labelled, and served before the window
    waiting = WaitingJobs(Clock())
    assert ready(database, waiting) is None
    with database.begin() as conn:
        wait = {"count": "labelled", "rows": 5, "outcomes": 1, "since": NOW}
        conn.execute(sa.update(jobs).values(outcome=json.dumps({"wait": wait})))
    assert ready(database, waiting) == job_id


def test_job_that_makes_no_sense_any_more_goes_on_to_say_so(database: Database) -> None:
    job_id = parked(database, count="labelled", rows=1_000, outcomes=1_000)
    with database.begin() as conn:
        conn.execute(sa.delete(pointers))
    assert ready(database, WaitingJobs(Clock())) == job_id


def test_job_whose_rows_cannot_be_read_any_more_goes_on_to_say_so(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that was registered with another feature: no other job may wait for it."""

    def gone(*_: object) -> None:
        raise training_window.WindowError("1 features were not stored")

    job_id = parked(database, count="labelled", rows=1_000, outcomes=0)
    monkeypatch.setattr(training_window, "read", gone)
    assert ready(database, WaitingJobs(Clock())) == job_id


def test_nothing_waits(database: Database) -> None:
    assert ready(database, WaitingJobs(Clock())) is None

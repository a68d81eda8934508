"""Jobs in SQL: made once, worked on by one worker, written only by whoever holds them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import loop
import pytest
import sqlalchemy as sa
from loop import NOW, Clock
from waiting import PATIENCE_SECONDS

from redistill.streams.store import lease, properties
from redistill.streams.store.database import Database
from redistill.times import HOUR, SECOND, to_us
from redistill.workers.errors import LeaseLost
from redistill.workers.store import checkpoints, job_queue
from redistill.workers.store.tables import job_steps, jobs


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = loop.opened(database_url)
    with opened.begin() as conn:
        loop.register(conn, loop.spec())
        loop.register(conn, loop.spec("other"))
    yield opened
    opened.dispose()


def make(database: Database, job_id: str, *, model: str = "credit", now: int = NOW) -> bool:
    with database.begin() as conn:
        return job_queue.create(
            conn,
            job_queue.job_id_of(job_id),
            model=model,
            trigger=("actor", "cli:ann"),
            deadline_at=now + HOUR,
            now=now,
        )


def state(database: Database, job_id: str) -> job_queue.Job:
    with database.read() as conn:
        job = job_queue.get(conn, job_queue.job_id_of(job_id))
    assert job is not None
    return job


def test_job_is_made_once_and_one_per_model_is_live(database: Database) -> None:
    assert make(database, "a")
    assert not make(database, "a")
    assert not make(database, "b")
    assert make(database, "c", model="other")
    with database.read() as conn:
        rows = conn.execute(sa.select(jobs.c.number).order_by(jobs.c.number)).scalars().all()
    assert rows == [1, 2]


def test_counter_that_was_restored_without_its_jobs_keeps_no_job_from_being_made(
    database: Database,
) -> None:
    assert make(database, "a")
    with database.begin() as conn:
        properties.put(conn, job_queue.NUMBER, "0")
    assert make(database, "b", model="other")
    assert state(database, "b").number == 2


def test_ended_job_makes_room_for_the_next(database: Database) -> None:
    make(database, "a")
    with database.begin() as conn:
        job_queue.finish(conn, state(database, "a"), "rejected", outcome={}, now=NOW)
    assert make(database, "b")
    assert not make(database, "a")


def test_claim_is_exclusive_until_its_lease_ends(database: Database) -> None:
    make(database, "a")
    first = job_queue.claim(database, "one", now=NOW)
    assert first is not None
    assert job_queue.claim(database, "two", now=NOW + SECOND) is None
    later = NOW + to_us(job_queue.LEASE_SECONDS + 1)
    second = job_queue.claim(database, "two", now=later)
    assert second is not None
    assert second.token > first.token
    assert second.job.tries == 2


def test_zombie_writes_nothing_after_the_job_was_taken_over(database: Database) -> None:
    make(database, "a")
    clock = Clock()
    zombie = job_queue.claim(database, "one", now=clock())
    clock.forward(to_us(job_queue.LEASE_SECONDS + 1))
    heir = job_queue.claim(database, "two", now=clock())
    assert zombie is not None
    assert heir is not None
    with pytest.raises(LeaseLost), job_queue.fenced(database, zombie, clock) as conn:
        checkpoints.record(conn, zombie, "publish", "done", now=clock())
    with job_queue.fenced(database, heir, clock) as conn:
        checkpoints.record(conn, heir, "train", "done", now=clock())
    with database.read() as conn:
        assert conn.execute(sa.select(job_steps.c.name)).scalars().all() == ["train"]


def test_cancelled_job_can_be_written_no_more(database: Database) -> None:
    make(database, "a")
    claim = job_queue.claim(database, "one", now=NOW)
    assert claim is not None
    with database.begin() as conn:
        job_queue.finish(conn, claim.job, "cancelled", outcome={}, now=NOW)
    with pytest.raises(job_queue.JobEnded), job_queue.fenced(database, claim, Clock()):
        pytest.fail("it was let in")


def test_finished_step_renews_the_tries_but_only_once(database: Database) -> None:
    make(database, "a")
    clock = Clock()
    for _ in range(3):
        claim = job_queue.claim(database, f"w{clock()}", now=clock())
        assert claim is not None
        clock.forward(to_us(job_queue.LEASE_SECONDS + 1))
    assert not job_queue.exhausted(claim.job)
    for done in ("train", "train"):
        claim = job_queue.claim(database, f"w{clock()}", now=clock())
        assert claim is not None
        with job_queue.fenced(database, claim, clock) as conn:
            checkpoints.record(conn, claim, done, "done", now=clock())
        clock.forward(to_us(job_queue.LEASE_SECONDS + 1))
    assert state(database, "a").tries == 2  # renewed by the first, not by the second


def test_job_is_exhausted_when_its_workers_die_in_the_same_step(database: Database) -> None:
    make(database, "a")
    clock = Clock()
    for n in range(job_queue.MAX_DEATHS + 1):
        claim = job_queue.claim(database, f"w{n}", now=clock())
        assert claim is not None
        assert not job_queue.exhausted(claim.job) or n == job_queue.MAX_DEATHS
        clock.forward(to_us(job_queue.LEASE_SECONDS + 1))
    assert job_queue.exhausted(claim.job)


def test_parked_job_is_only_claimed_on_purpose(database: Database) -> None:
    make(database, "a")
    clock = Clock()
    claim = job_queue.claim(database, "one", now=clock())
    assert claim is not None
    with job_queue.fenced(database, claim, clock) as conn:
        job_queue.park(conn, claim, outcome={"wait": {"rows": 25}}, gate_rows=7, now=clock())
    assert job_queue.claim(database, "two", now=clock()) is None
    assert not make(database, "b")
    again = job_queue.claim_waiting(database, claim.job.job_id, "two", now=clock())
    assert again is not None
    assert again.job.gate_rows == 7
    assert again.job.outcome["wait"] == {"rows": 25}
    assert job_queue.claim_waiting(database, claim.job.job_id, "three", now=clock()) is None


def test_requeued_job_waits_for_its_time(database: Database) -> None:
    make(database, "a")
    clock = Clock()
    claim = job_queue.claim(database, "one", now=clock())
    assert claim is not None
    with job_queue.fenced(database, claim, clock) as conn:
        job_queue.requeue(
            conn, claim, not_before=clock() + 2 * SECOND, why="it crashed", forgive=False
        )
    assert job_queue.claim(database, "two", now=clock() + SECOND) is None
    again = job_queue.claim(database, "two", now=clock() + 2 * SECOND)
    assert again is not None
    assert again.job.tries == 1
    assert again.job.outcome["last_error"] == "it crashed"
    assert again.job.outcome["failures"] == 1


def test_overdue_jobs_are_those_that_nobody_is_at(database: Database) -> None:
    make(database, "a")
    make(database, "c", model="other")
    late = NOW + 2 * HOUR
    assert job_queue.claim(database, "one", now=late) is not None
    with database.read() as conn:
        assert [j.model for j in job_queue.overdue(conn, late)] == ["other"]
        assert job_queue.overdue(conn, NOW) == []


def test_four_workers_share_jobs_without_taking_one_twice(database: Database) -> None:
    with database.begin() as conn:
        for i in range(12):
            loop.register(conn, loop.spec(f"m{i}"), version=None)
    for i in range(12):
        make(database, f"j{i}", model=f"m{i}")
    taken: list[str] = []
    lock = threading.Lock()

    def work(name: str) -> None:
        while (claim := job_queue.claim(database, name, now=NOW)) is not None:
            with job_queue.fenced(database, claim, Clock()) as conn:
                job_queue.finish(conn, claim.job, "succeeded", outcome={}, now=NOW)
                job_queue.release(conn, claim)
            with lock:
                taken.append(claim.job.job_id)

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert len(taken) == len(set(taken)) == 12


def test_job_that_asked_a_person_is_taken_up_again_where_nothing_else_is_live(
    database: Database,
) -> None:
    make(database, "asked")
    claim = job_queue.claim(database, "w1", now=NOW)
    assert claim is not None
    ended = {"phase": "gate", "why": "few rows", "reasons": ["few rows"], "seconds": 7.0}
    failed = {"last_error": "it crashed", "failures": 2, "wait": {"rows": 9}}
    with job_queue.fenced(database, claim, Clock()) as conn:
        job_queue.finish(conn, claim.job, "needs_person", outcome=ended | failed, now=NOW + 1)
        job_queue.release(conn, claim)
    make(database, "other")
    options = {"waived": {"trusted": "cli:ann: old"}}
    with database.begin() as conn:
        asked = job_queue.last(conn, "credit", incident_id=None)
        assert asked is not None
        assert asked.job_id == job_queue.job_id_of("other")
        asked = state(database, "asked")
        assert not job_queue.reopen(conn, asked, options=options, deadline_at=9, now=NOW + 2)
        job_queue.finish(conn, state(database, "other"), "rejected", outcome={}, now=NOW + 2)
        other = state(database, "other")
    with database.begin() as conn:
        assert not job_queue.reopen(conn, other, options={}, deadline_at=9, now=NOW + 2)
        assert not job_queue.reopen(
            conn, state(database, "other"), options={}, deadline_at=9, now=NOW + 2
        )
        assert job_queue.reopen(conn, asked, options=options, deadline_at=9, now=NOW + 2)
    again = state(database, "asked")
    assert (again.state, again.finished_at, again.deadline_at) == ("queued", None, 9)
    first = {"at": NOW + 1, "answered_at": NOW + 2, "why": "few rows", "waived": {}}
    assert (state(database, "other").waits_since, again.waits_since) == (NOW, NOW + 2)
    assert (again.options, again.outcome) == (options, {"phase": "gate", "asked": [first]})
    taken = job_queue.claim(database, "w2", now=NOW + 3)
    assert taken is not None
    assert taken.job.job_id == claim.job.job_id
    assert taken.token > claim.token
    with job_queue.fenced(database, taken, Clock()) as conn:
        job_queue.finish(conn, taken.job, "needs_person", outcome={"why": "still"}, now=NOW + 4)
        job_queue.release(conn, taken)
    with database.begin() as conn:
        job_queue.reopen(conn, state(database, "asked"), options={}, deadline_at=9, now=NOW + 5)
    second = {
        "at": NOW + 4, "answered_at": NOW + 5, "why": "still", "waived": options["waived"],
    }  # fmt: skip
    assert state(database, "asked").outcome["asked"] == [first, second]


def test_job_that_waits_has_got_further_than_what_failed_before(database: Database) -> None:
    make(database, "a")
    clock = Clock()
    claim = job_queue.claim(database, "one", now=clock())
    assert claim is not None
    with job_queue.fenced(database, claim, clock) as conn:
        job_queue.requeue(conn, claim, not_before=clock(), why="it crashed", forgive=False)
    again = job_queue.claim(database, "two", now=clock())
    assert again is not None
    assert again.job.outcome["failures"] == 1
    with job_queue.fenced(database, again, clock) as conn:
        job_queue.park(conn, again, outcome={"why": "few labels"}, gate_rows=7, now=clock())
    assert state(database, "a").outcome == {"why": "few labels"}


def test_job_that_ends_while_it_is_taken_out_of_its_wait_stays_ended(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(database, "a")
    clock = Clock()
    claim = job_queue.claim(database, "one", now=clock())
    assert claim is not None
    with job_queue.fenced(database, claim, clock) as conn:
        job_queue.park(conn, claim, outcome={}, gate_rows=7, now=clock())
    acquire = lease.acquire

    def late(conn: sa.Connection, *args: Any, **options: Any) -> int | None:
        job_queue.finish(conn, claim.job, "cancelled", outcome={}, now=clock())
        return acquire(conn, *args, **options)

    monkeypatch.setattr(lease, "acquire", late)
    assert job_queue.claim_waiting(database, claim.job.job_id, "two", now=clock()) is None
    assert state(database, "a").state == "cancelled"

"""A job session: one claim, one way to write, one time for each transaction."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import job_worker
import loop
import pytest
import sqlalchemy as sa
from loop import NOW, Clock

from redistill.streams.store.database import Database
from redistill.streams.store.tables import leases
from redistill.times import SECOND, to_us
from redistill.workers.errors import LeaseLost
from redistill.workers.jobs.session import JobSession, JobTransaction
from redistill.workers.store import job_queue
from redistill.workers.store.tables import job_steps, jobs

LEASE = to_us(job_queue.LEASE_SECONDS)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    with opened.begin() as conn:
        loop.register(conn, loop.spec())
        job_worker.manual_job(conn)
    yield opened
    opened.dispose()


def session(
    database: Database,
    clock: Clock,
    *,
    holder: str = "w1",
    stop: threading.Event | None = None,
    beat_seconds: float = 60.0,
) -> JobSession:
    return JobSession(
        database,
        job_worker.claimed(database, now=clock(), holder=holder),
        actor=f"worker:{holder}",
        clock=clock,
        stop=stop or threading.Event(),
        beat_seconds=beat_seconds,
    )


def held_leases(database: Database, now: int) -> list[str]:
    with database.read() as conn:
        query = sa.select(leases.c.name).where(leases.c.expires_at > now)
        return list(conn.execute(query).scalars())


def write_and_fail(transaction: JobTransaction) -> None:
    transaction.record("train")
    transaction.remember(phase="gate")
    transaction.freeze(NOW)
    raise OSError("the disk is full")


def test_what_is_written_in_a_transaction_has_one_time_and_the_claims_token(
    database: Database,
) -> None:
    clock = Clock()
    one = session(database, clock)
    with one.fenced() as transaction:
        clock.forward(SECOND)
        transaction.record("train", seconds=2.5, detail={"rows": 3})
        transaction.record("gate", "running")
        assert transaction.actor == "worker:w1"
    steps = job_worker.steps(database, one.job.job_id)
    assert {(s["at"], s["token"]) for s in steps.values()} == {(NOW, 1)}
    assert steps["train"]["detail"] == {"rows": 3}
    assert (steps["train"]["state"], steps["gate"]["state"]) == ("done", "running")


def test_time_of_a_transaction_is_read_after_the_job_was_locked(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    one = session(database, clock)
    check = job_queue.lease.check

    def slow(*args: object) -> None:
        check(*args)  # type: ignore[arg-type]
        clock.forward(3 * SECOND)

    monkeypatch.setattr(job_queue.lease, "check", slow)
    with one.fenced() as transaction:
        assert transaction.now == NOW + 3 * SECOND


def test_nothing_of_a_transaction_stands_when_it_fails(database: Database) -> None:
    one = session(database, Clock())
    with pytest.raises(OSError, match="full"), one.fenced() as transaction:
        write_and_fail(transaction)
    stored = job_worker.job(database, one.job.job_id)
    assert (stored.outcome, stored.frozen_at) == ({}, None)
    assert job_worker.steps(database, one.job.job_id) == {}


def test_zombie_cannot_open_a_transaction(database: Database) -> None:
    clock = Clock()
    zombie = session(database, clock)
    clock.forward(LEASE + SECOND)
    heir = session(database, clock, holder="w2")
    with pytest.raises(LeaseLost), zombie.fenced():
        pytest.fail("it was let in")
    with heir.fenced() as transaction:
        transaction.record("train")
    assert job_worker.steps(database, heir.job.job_id)["train"]["token"] == 2


def test_ended_job_is_written_no_more(database: Database) -> None:
    one = session(database, Clock())
    with database.begin() as conn:
        job_queue.finish(conn, one.job, "expired", outcome={}, now=NOW)
    with pytest.raises(job_queue.JobEnded), one.fenced():
        pytest.fail("it was let in")


def test_what_is_remembered_adds_up_and_is_there_after_a_refresh(database: Database) -> None:
    one = session(database, Clock())
    with one.fenced() as transaction:
        transaction.remember(incumbent="v1")
        transaction.remember(phase="gate")
        transaction.freeze(NOW + 5)
    assert one.job.outcome == {}
    with one.read() as conn:
        refreshed = one.refresh(conn)
    assert refreshed.outcome == {"incumbent": "v1", "phase": "gate"}
    assert one.job.frozen_at == NOW + 5
    with one.fenced() as transaction:  # the claim is still the same
        transaction.record("publish")


def test_parked_job_keeps_what_it_knows_and_gives_its_lease_back(database: Database) -> None:
    clock = Clock()
    one = session(database, clock)
    with one.fenced() as transaction:
        transaction.remember(phase="gate")
        before = transaction.park({"count": "train", "rows": 64}, have=7, why="too few")
    assert before.outcome == {"phase": "gate"}
    stored = job_worker.job(database, one.job.job_id)
    assert stored.state == "waiting_labels"
    assert stored.outcome == {
        "phase": "gate",
        "wait": {"count": "train", "rows": 64},
        "why": "too few",
    }
    assert held_leases(database, clock()) == []


def test_finished_job_keeps_what_it_knows_and_gives_its_lease_back(database: Database) -> None:
    clock = Clock()
    one = session(database, clock)
    clock.forward(SECOND)
    assert one.now() == NOW + SECOND
    with one.fenced() as transaction:
        transaction.remember(phase="publish")
        assert transaction.finish("succeeded", {"version": "r1"}).state == "running"
    stored = job_worker.job(database, one.job.job_id)
    assert (stored.state, stored.finished_at) == ("succeeded", NOW + SECOND)
    assert stored.outcome == {"phase": "publish", "version": "r1"}
    assert held_leases(database, clock()) == []


@pytest.mark.parametrize(("forgive", "failures"), [(True, 0), (False, 1)])
def test_requeued_job_counts_what_was_its_failure(
    database: Database, forgive: bool, failures: int
) -> None:
    clock = Clock()
    one = session(database, clock)
    with one.fenced() as transaction:
        transaction.requeue(not_before=NOW + SECOND, why="stopped", forgive=forgive)
    stored = job_worker.job(database, one.job.job_id)
    assert (stored.state, stored.not_before) == ("queued", NOW + SECOND)
    assert stored.outcome["failures"] == failures
    assert held_leases(database, clock()) == []


def test_measured_seconds_replace_those_of_the_wall_clock(database: Database) -> None:
    one = session(database, Clock())
    with one.fenced() as transaction:
        transaction.record("train", seconds=9.0)
        transaction.set_seconds("train", 2.0, cpu_seconds=1.5)
    train = job_worker.steps(database, one.job.job_id)["train"]
    assert (train["seconds"], train["cpu_seconds"]) == (2.0, 1.5)


def heartbeats() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "job-heartbeat"]


def test_heartbeat_lasts_as_long_as_the_session(database: Database) -> None:
    with session(database, Clock()) as one:
        assert heartbeats() == ["job-heartbeat"]
        assert one.end is None
    assert heartbeats() == []
    assert not one.cancelled.is_set()


def test_session_notices_that_its_worker_stops(database: Database) -> None:
    stop = threading.Event()
    with session(database, Clock(), stop=stop) as one:
        stop.set()
        assert one.cancelled.wait(10)
        assert one.end == "stopped"


def test_session_notices_that_somebody_ended_the_job(database: Database) -> None:
    with session(database, Clock(), beat_seconds=0.01) as one:
        with database.begin() as conn:
            conn.execute(sa.update(jobs).values(state="cancelled"))
        assert one.cancelled.wait(10)
        assert one.end == "ended"
    with database.read() as conn:
        assert conn.execute(sa.select(job_steps)).all() == []

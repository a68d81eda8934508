"""The heartbeat of a job: it keeps the lease, and notices whatever ends the work."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import job_worker
import loop
import pytest
import sqlalchemy as sa
from loop import NOW, Clock
from waiting import PATIENCE_SECONDS, eventually

from redistill.streams.errors import StoreUnavailable
from redistill.streams.store.database import Database
from redistill.streams.store.tables import leases
from redistill.times import SECOND, to_us
from redistill.workers.jobs.heartbeat import Heartbeat
from redistill.workers.store import job_queue
from redistill.workers.store.job_queue import Claim

LEASE = to_us(job_queue.LEASE_SECONDS)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    with opened.begin() as conn:
        loop.register(conn, loop.spec())
        job_worker.manual_job(conn)
    yield opened
    opened.dispose()


@pytest.fixture
def claim(database: Database) -> Claim:
    return job_worker.claimed(database)


class CountedClock(Clock):
    """Counts how often it was looked at: once for each beat, at least."""

    looks = 0

    def __call__(self) -> int:
        self.looks += 1
        return super().__call__()


class Shaky:
    """A database that is away while it is told to be."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.away = False
        self.tried = 0

    def begin(self) -> Any:
        """A transaction, or none."""
        self.tried += 1
        if self.away:
            raise StoreUnavailable("connection refused")
        return self.database.begin()


def expires_at(database: Database) -> int:
    with database.read() as conn:
        return int(conn.execute(sa.select(leases.c.expires_at)).scalar_one())


def heartbeat(
    database: Any, claim: Claim, clock: Clock, stop: threading.Event | None = None
) -> Heartbeat:
    return Heartbeat(
        cast(Database, database),
        claim,
        clock=clock,
        stop=stop or threading.Event(),
        beat_seconds=0.01,
    )


def test_lease_is_renewed_as_time_goes_on(database: Database, claim: Claim) -> None:
    clock = Clock()
    with heartbeat(database, claim, clock) as beat:
        clock.forward(5 * SECOND)
        eventually(lambda: expires_at(database) == NOW + 5 * SECOND + LEASE, "it is renewed")
        assert not beat.cancelled.is_set()
    assert beat.end is None


@pytest.mark.parametrize(
    ("how", "end"), [("stop", "stopped"), ("cancel", "ended"), ("take", "lost")]
)
def test_what_ends_the_work_is_noticed(
    database: Database, claim: Claim, how: str, end: str
) -> None:
    clock, stop = CountedClock(), threading.Event()
    with heartbeat(database, claim, clock, stop) as beat:
        eventually(lambda: clock.looks > 2, "it beats")
        assert not beat.cancelled.is_set()
        if how == "stop":
            stop.set()
        elif how == "cancel":
            with database.begin() as conn:
                job_queue.finish(conn, claim.job, "cancelled", outcome={}, now=NOW)
        else:
            with database.begin() as conn:
                conn.execute(sa.update(leases).values(token=99, holder="two"))
        assert beat.cancelled.wait(PATIENCE_SECONDS)
    assert beat.end == end


def test_missed_beats_are_no_loss_while_the_lease_lasts(database: Database, claim: Claim) -> None:
    clock, shaky = Clock(), Shaky(database)
    with heartbeat(shaky, claim, clock) as beat:
        shaky.away = True
        missed = shaky.tried
        clock.forward(LEASE)  # the last moment
        eventually(lambda: shaky.tried > missed + 2, "beats are missed")
        assert not beat.cancelled.is_set()
        shaky.away = False
        eventually(lambda: expires_at(database) == NOW + 2 * LEASE, "it is renewed")
        shaky.away = True
        missed = shaky.tried
        clock.forward(LEASE)  # the last moment of the renewed one
        eventually(lambda: shaky.tried > missed + 2, "beats are missed")
        assert not beat.cancelled.is_set()
        clock.forward(1)
        assert beat.cancelled.wait(PATIENCE_SECONDS)
    assert beat.end == "lost"


def test_nothing_beats_after_the_end(database: Database, claim: Claim) -> None:
    shaky = Shaky(database)
    with heartbeat(shaky, claim, Clock()):
        eventually(lambda: shaky.tried > 0, "it beats")
    tried = shaky.tried
    with database.begin() as conn:
        conn.execute(sa.update(leases).values(expires_at=NOW))
    assert (shaky.tried, expires_at(database)) == (tried, NOW)

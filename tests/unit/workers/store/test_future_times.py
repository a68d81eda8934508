"""What a clock that was ahead has written holds nobody up once it is mended."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import loop
import pytest
import sqlalchemy as sa
from loop import NOW

from redistill.streams.store.database import Database
from redistill.streams.store.tables import specs
from redistill.times import DAY, HOUR, SECOND
from redistill.workers.store import future_times, job_queue
from redistill.workers.store.tables import jobs, monitored_releases, pauses, pointers

AHEAD = NOW + 40 * DAY


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = loop.opened(database_url)
    yield opened
    opened.dispose()


def written(database: Database, at: int) -> None:
    """What a worker writes at a time."""
    with database.begin() as conn:
        loop.register(conn, loop.spec(), now=at)
        job_queue.create(
            conn, "j", model="credit", trigger=("actor", "x"), deadline_at=at + 72 * HOUR, now=at
        )
        conn.execute(sa.update(jobs).values(not_before=at + 15 * SECOND, started_at=at))
        conn.execute(sa.insert(pauses).values(model="credit", until=at + HOUR, reason="r"))
        conn.execute(
            sa.insert(monitored_releases).values(
                model="credit", epoch=2, version="v2", predecessor="v1", state="watching",
                last_seq=0, since=at, until=at + 7 * DAY,
            )
        )  # fmt: skip


def times(database: Database) -> list[dict[str, Any]]:
    with database.read() as conn:
        return [
            {k: v for row in conn.execute(sa.select(t)).mappings() for k, v in row.items()}
            for t in (jobs, pauses, monitored_releases, pointers, specs)
        ]


def test_times_of_the_future_become_now_and_last_as_long_as_they_were_meant_to(
    database: Database,
) -> None:
    written(database, AHEAD)
    changed = future_times.bring_back(database, now=NOW, longest_pause=DAY)
    job, pause, guard, pointer, spec = times(database)
    assert (job["created_at"], job["deadline_at"]) == (NOW, NOW + 72 * HOUR)
    assert (job["not_before"], job["started_at"]) == (NOW, NOW)
    assert pause["until"] == NOW + DAY
    assert (guard["since"], guard["until"]) == (NOW, NOW + 7 * DAY)
    assert (pointer["moved_at"], pointer["announced_at"]) == (AHEAD - HOUR, NOW)
    assert spec["registered_at"] == spec["updated_at"] == NOW
    assert changed["jobs.not_before"] == 1
    assert future_times.bring_back(database, now=NOW, longest_pause=DAY) == {}


def test_what_was_written_now_or_before_stays(database: Database) -> None:
    written(database, NOW)
    before = times(database)
    for now in (NOW, NOW + 400 * DAY):
        assert future_times.bring_back(database, now=now, longest_pause=DAY) == {}
    assert times(database) == before

"""A repair worker whose clock is wrong, or is set while it runs, deletes nothing for it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import loop
import pytest
import sqlalchemy as sa
from faketime import FakeClock
from ports import free_port
from processes import Worker, environment
from waiting import eventually

from redistill.streams.store import lease
from redistill.streams.store.database import Database
from redistill.streams.store.tables import join_rows, labels, leases
from redistill.times import DAY, MINUTE, now_us
from redistill.workers.jobs import scheduler
from redistill.workers.settings.settings import Settings
from redistill.workers.store import clock_problem, names, opening

OLD, YOUNG = 30, 200
"""Rows that have expired, and rows that have not."""


@pytest.fixture
def database(database_url: str, tmp_path: Path) -> Iterator[Database]:
    settings = Settings.load({"database": database_url, "home": tmp_path / "home"})
    opening.upgrade(settings)
    opened = opening.open(settings)
    now = opened.clock()
    with opened.begin() as conn:
        loop.register(conn, loop.spec(), now=now)
        for i in range(OLD + YOUNG):
            stored = now - (31 if i < OLD else 1 + i % 28) * DAY
            row: dict[str, Any] = {"model": "credit", "version": "v1", "id_hash": i,
                                   "prediction": "repay", "served_at": stored}  # fmt: skip
            conn.execute(
                sa.insert(join_rows).values(
                    **row, stored_at=stored, topic_id="t", partition=0, window=0
                )
            )
            del row["version"], row["served_at"]
            conn.execute(
                sa.insert(labels).values(
                    **row, id=str(i), source="ledger", observed_at=stored, label="repay",
                    op="upsert", received_at=stored, state="joined",
                )
            )  # fmt: skip
        # another worker was here until just now
        assert lease.acquire(conn, "stream-file", "stream:1", now=now, seconds=10)
    yield opened
    opened.dispose()


@pytest.fixture
def worker(database: Database, fake_clock: FakeClock, tmp_path: Path) -> Iterator[Worker]:
    env = environment(
        database=database.url.render_as_string(hide_password=False),
        home=str(tmp_path / "home"),
        broker=f"127.0.0.1:{free_port()}",  # nobody is there: nothing waits for a broker
    ) | {"TZ": "America/New_York", "PYTHONPATH": str(Path(__file__).parents[1] / "support")}
    made = Worker("repair", [], fake_clock.environment(**env), tmp_path, module="hasty")
    yield made
    made.kill()  # it cannot be told to stop: libfaketime keeps the main thread from waking up


def counts(database: Database) -> tuple[int, ...]:
    with database.read() as conn:
        return tuple(
            conn.execute(sa.select(sa.func.count()).select_from(t)).scalar_one()
            for t in (join_rows, labels)
        )


def problem(database: Database) -> str | None:
    with database.read() as conn:
        found = clock_problem.get(conn)
    return None if found is None else found.why


def renewed(database: Database) -> int:
    with database.read() as conn:
        query = sa.select(leases.c.renewed_at).where(leases.c.name == scheduler.LEASE)
        return int(conn.execute(query).scalar() or 0)


def several(database: Database, off: int, rounds: set[int]) -> bool:
    """Whether several chores were begun while the clock was off by so much."""
    at = renewed(database)
    if abs(at - now_us() - off) < MINUTE:
        rounds.add(at)
    return len(rounds) > 8  # two for each chore


def test_wrong_clock_deletes_nothing_and_the_right_one_goes_on(
    database: Database, worker: Worker, fake_clock: FakeClock
) -> None:
    everything = (OLD + YOUNG,) * 2
    fake_clock.set("+40d")
    worker.start()
    eventually(lambda: worker.says("retention_stopped"), "the worker says it")
    assert "40.0 days ahead" in str(problem(database))
    for offset, off in (("+40d", 40), ("-40d", -40), ("+40d", 40)):  # in mid-run
        fake_clock.set(offset)
        ours = off * DAY if database.is_sqlite else 0
        rounds = set[int]()
        eventually(
            lambda ours=ours, rounds=rounds: several(database, ours, rounds),
            "chores go on, and leases are by the database's clock where it has one",
        )
        assert problem(database) is not None
        assert counts(database) == everything
    fake_clock.set("+0")
    eventually(lambda: worker.says("retention_resumed"), "it ends by itself")
    assert problem(database) is None
    left = OLD + YOUNG - -(-(OLD + YOUNG) // 10)
    eventually(lambda: counts(database) == (left, left), "a tenth goes in the first hour")
    worker.kill()
    with database.read() as conn:
        oldest = conn.execute(sa.select(sa.func.min(join_rows.c.stored_at))).scalar_one()
        young = conn.execute(
            sa.select(sa.func.count()).where(join_rows.c.stored_at > now_us() - 30 * DAY)
        ).scalar_one()
        assert names.model_names(conn) == ["credit"]
    assert (now_us() - oldest > 30 * DAY, young) == (True, YOUNG)


SCRIPT = """
import json, sys
from redistill.streams.store.database import connect
database = connect(sys.argv[1])
for line in sys.stdin:
    with database.read():
        pass
    print(json.dumps([database.clock(), database.clock.process()]), flush=True)
"""


@pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Apia"])
def test_database_tells_the_time_whatever_is_done_to_the_clock(
    postgres_url: str, fake_clock: FakeClock, zone: str
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, postgres_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, env=fake_clock.environment(**environment(), TZ=zone),
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    for offset, off in (("+0", 0), ("+40d", 40 * DAY), ("-3600", -60 * MINUTE), ("+0", 0)):
        fake_clock.set(offset)
        process.stdin.write("now\n")
        process.stdin.flush()
        shared, own = json.loads(process.stdout.readline())
        assert abs(shared - now_us()) < MINUTE
        assert abs(own - now_us() - off) < MINUTE
    process.stdin.close()
    process.stdout.close()
    process.wait(60)

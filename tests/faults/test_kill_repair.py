"""``kill -9`` of the repair worker at random moments of a repair: one job, one release, nothing
torn."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import credit
import numpy as np
import pytest
import repairable
import sqlalchemy as sa
from processes import Worker, environment
from waiting import eventually

from redistill.streams.client.fetch import Repository
from redistill.streams.store.database import Database
from redistill.streams.store.tables import leases
from redistill.times import DAY, MINUTE, now_us
from redistill.workers.invariants import check
from redistill.workers.jobs.child import Child
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.settings.settings import Settings
from redistill.workers.store import opening
from redistill.workers.store.tables import job_steps, jobs, pointer_history, versions

KILLS = int(os.environ.get("KILLS", "2"))
SEED = int(os.environ.get("SEED", "7"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120 + 60 * KILLS)]


@pytest.fixture
def settings(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    with Child.start() as child:
        home = repairable.copy_of(tmp_path_factory.getbasetemp(), child, tmp_path / "home")
    return repairable.settings_of(home)


@pytest.fixture
def database(settings: Settings) -> Iterator[Database]:
    opened = opening.open(settings)
    yield opened
    opened.dispose()


def rows(database: Database, table: sa.Table) -> list[Any]:
    with database.read() as conn:
        return list(conn.execute(sa.select(table)).mappings())


def processes_of(folder: Path) -> list[int]:
    """Processes with an open file in a job's folder."""
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                links = [os.readlink(fd) for fd in (entry / "fd").iterdir()]
            except OSError:
                continue
            if any(link.startswith(str(folder)) for link in links):
                pids.append(int(entry.name))
    return pids


def test_killed_workers_publish_one_release(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    rng = random.Random(SEED)
    print(f"seed {SEED}, {KILLS} kills")
    service = repairable.service(database, settings)
    data = np.random.default_rng(SEED)
    at = now_us() - 10 * MINUTE
    service.serve(credit.rows(data, 1_000), at=at, label_share=0.3)
    service.serve(credit.rows(data, 1_500, boom=True), at=at + MINUTE, label_share=0.3)

    env = environment(
        home=str(settings.root), broker="127.0.0.1:9", poll_seconds="0.1", log_level="info"
    )
    worker = Worker("repair", ["run", "repair"], env, tmp_path / "logs")
    killed_in: list[str] = []
    folder = settings.jobs_folder
    for _ in range(KILLS):
        before = tokens(database)
        worker.start()
        if not rows(database, jobs) or rows(database, jobs)[0]["live_mark"]:
            eventually(
                lambda before=before: tokens(database) > before or not worker.alive,  # type: ignore[misc]
                f"the worker takes the job: {worker.tail()}",
                every=0.01,
            )
        assert worker.alive, worker.tail()
        time.sleep(rng.uniform(0.0, 4.0))
        worker.kill()
        steps = sorted(rows(database, job_steps), key=lambda s: s["at"])
        killed_in.append(steps[-1]["name"] if steps else "start")
        eventually(lambda: not processes_of(folder), "its child ends with it", every=0.05)
    print("killed after", killed_in)

    worker.start()
    try:
        # the job may have been finished before the last kill: then there is nothing to wait for
        eventually(lambda: worker.says("repair_started"), f"the worker is up: {worker.tail()}")
        eventually(
            lambda: [j for j in rows(database, jobs) if j["finished_at"]],
            f"the job ends: {worker.tail()}",
        )
        (job,) = rows(database, jobs)
        assert job["state"] == "succeeded", job["outcome"]
        version = json.loads(job["outcome"])["version"]
        trust = (settings.keys_folder / "root.json").read_bytes()

        def signed() -> bool:
            client = Repository(
                RepositoryLayout(settings.root).repository, trust, cache=tmp_path / "cache"
            )
            return client.pointer("credit").stable == version

        eventually(signed, "the signed pointer names it")
    finally:
        status = worker.stop()
    assert status == 0, worker.tail()
    made = [v for v in rows(database, versions) if v["job_id"] is not None]
    assert [v["version"] for v in made] == [version]
    assert [h["change"] for h in rows(database, pointer_history)] == ["publish", "publish"]
    checked = check.check(
        database,
        now=now_us(),
        home=settings.root,
        outbox_kept_us=7 * DAY,
    )
    assert {c.number: c.problems for c in checked if c.number != 1 and not c.holds} == {}


def tokens(database: Database) -> int:
    """The newest fencing token of any job."""
    with database.read() as conn:
        query = sa.select(sa.func.max(leases.c.token)).where(leases.c.name.like("job:%"))
        return int(conn.execute(query).scalar() or 0)

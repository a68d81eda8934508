from __future__ import annotations

import json
from collections.abc import Iterator

import loop
import pytest
import sqlalchemy as sa
from loop import NOW

from redistill.streams.store.database import Database
from redistill.times import HOUR
from redistill.workers.store import checkpoints, job_queue
from redistill.workers.store.job_queue import Claim, Job
from redistill.workers.store.tables import jobs


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = loop.opened(database_url)
    with opened.begin() as conn:
        loop.register(conn, loop.spec())
        job_queue.create(
            conn, "j1", model="credit", trigger=("actor", "ann"), deadline_at=NOW + HOUR, now=NOW
        )
    yield opened
    opened.dispose()


@pytest.fixture
def claim(database: Database) -> Claim:
    taken = job_queue.claim(database, "worker", now=NOW)
    assert taken is not None
    return taken


def job(conn: sa.Connection) -> Job:
    stored = job_queue.get(conn, "j1")
    assert stored is not None
    return stored


def test_step_is_written_with_its_claim_and_again_in_its_place(
    database: Database, claim: Claim
) -> None:
    with database.begin() as conn:
        checkpoints.record(conn, claim, "train", "running", now=NOW)
        checkpoints.record(conn, claim, "gate", "running", now=NOW + 1)
        checkpoints.record(
            conn, claim, "train", "done", now=NOW + 2, seconds=1.5, cpu_seconds=1.25,
            detail={"b": 1, "a": [2]},
        )  # fmt: skip
        steps = checkpoints.read(conn, "j1")
    assert [(s["name"], s["state"], s["at"]) for s in steps] == [
        ("gate", "running", NOW + 1),
        ("train", "done", NOW + 2),
    ]
    assert (steps[1]["seconds"], steps[1]["cpu_seconds"]) == (1.5, 1.25)
    assert json.loads(steps[1]["detail"]) == {"a": [2], "b": 1}
    assert {s["token"] for s in steps} == {claim.token}
    with database.read() as conn:
        assert checkpoints.read(conn, "other") == []


def test_job_that_got_further_has_all_its_tries_again(database: Database, claim: Claim) -> None:
    def tries_after(name: str, state: str) -> int:
        with database.begin() as conn:
            conn.execute(sa.update(jobs).values(tries=5))
            checkpoints.record(conn, claim, name, state, now=NOW)
            return job(conn).tries

    assert tries_after("train", "running") == 5
    assert tries_after("train", "failed") == 5
    assert tries_after("train", "done") == 1
    assert tries_after("train", "done") == 5  # done again after a crash is no step further
    assert tries_after("gate", "done") == 1


def test_seconds_are_those_that_the_step_measured(database: Database, claim: Claim) -> None:
    with database.begin() as conn:
        checkpoints.record(conn, claim, "train", "done", now=NOW, seconds=9.0, cpu_seconds=9.0)
        checkpoints.record(conn, claim, "gate", "done", now=NOW, seconds=8.0)
        checkpoints.set_seconds(conn, claim, "train", 1.5)
        by_name = {s["name"]: s for s in checkpoints.read(conn, "j1")}
    assert (by_name["train"]["seconds"], by_name["train"]["cpu_seconds"]) == (1.5, None)
    assert by_name["gate"]["seconds"] == 8.0


def test_what_is_remembered_is_added_to_the_outcome(database: Database, claim: Claim) -> None:
    with database.begin() as conn:
        checkpoints.remember(conn, job(conn), {"phase": "repair", "incumbent": "v1"})
        checkpoints.remember(conn, job(conn), {"phase": "gate"})
        assert job(conn).outcome == {"phase": "gate", "incumbent": "v1"}


def test_training_rows_end_where_they_were_frozen(database: Database, claim: Claim) -> None:
    with database.begin() as conn:
        assert job(conn).frozen_at is None
        checkpoints.freeze(conn, claim, NOW - 7)
        assert job(conn).frozen_at == NOW - 7

"""Ends of jobs and refusals of gates are counted with what they count, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import loop
import pytest

from redistill.streams.store.database import Database
from redistill.workers.store import event_counts, job_queue


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    yield opened
    opened.dispose()


def counts(database: Database) -> tuple[dict[str, int], dict[str, int]]:
    with database.read() as conn:
        return event_counts.job_ends(conn), event_counts.gate_refusals(conn)


def make(database: Database, job_id: str, state: str = "queued") -> job_queue.Job | None:
    with database.begin() as conn:
        job_queue.create(
            conn, job_id, model="credit", trigger=("actor", job_id), deadline_at=loop.NOW, now=loop.NOW, state=state
        )  # fmt: skip
        return job_queue.get(conn, job_id)


def test_each_end_of_a_job_is_counted_once(database: Database) -> None:
    job = make(database, "a")
    assert job is not None
    assert counts(database) == ({}, {})
    for state in ("needs_person", "succeeded"):  # it was taken up again in between
        with database.begin() as conn:
            job_queue.finish(conn, job, state, outcome={}, now=loop.NOW)
    make(database, "b", "cancelled")
    make(database, "b", "cancelled")  # there is one already
    assert counts(database)[0] == {"needs_person": 1, "succeeded": 1, "cancelled": 1}


def test_what_is_rolled_back_is_not_counted(database: Database) -> None:
    job = make(database, "a")
    assert job is not None

    def failing() -> None:
        with database.begin() as conn:
            job_queue.finish(conn, job, "failed", outcome={}, now=loop.NOW)
            event_counts.count_refusals(conn, ["fresh"], now=loop.NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert counts(database) == ({}, {})


def test_gates_are_counted_apart_and_from_ends(database: Database) -> None:
    for gates in (["fresh", "latency"], ["fresh", "fresh"], []):
        with database.begin() as conn:
            event_counts.count_refusals(conn, gates, now=loop.NOW)
    assert counts(database) == ({}, {"fresh": 2, "latency": 1})

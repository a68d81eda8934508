"""The answer to a commit is lost: it was written, nobody knows, and whoever tries again does no harm."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import database_faults as faults
import job_worker
import loop
import postgres_server as postgres
import pytest
import sqlalchemy as sa
from loop import NOW, Clock
from served_rows import labelled, served
from stream_rows import CONFIG, START, chunk, label, new_database, prediction, record, watch
from waiting import eventually

from redistill.compress.plan import Accepted, read_job_spec
from redistill.streams.engine.accumulator import Accumulator
from redistill.streams.errors import StoreUnavailable
from redistill.streams.store import availability
from redistill.streams.store import tables as t
from redistill.streams.store.batch import (
    FlushBatch,
    Flushed,
    JoinRows,
    OffsetsMoved,
    Partition,
    Progress,
)
from redistill.streams.store.database import Database, connect
from redistill.streams.store.flush import flush
from redistill.streams.store.join_step import join_labels
from redistill.streams.store.tries import Mark, mark, stored_offsets, take_back
from redistill.times import SECOND, microseconds, to_us
from redistill.workers.jobs.runner import Runner
from redistill.workers.store import job_queue
from redistill.workers.store.tables import audit, pointers

P0, L0 = Partition("topic-id", 0), Partition("label-id", 0)


class Wire:
    """A database, and the way to it on which answers are lost."""

    def __init__(self, server: postgres.PostgresServer, url: str) -> None:
        self.lost = faults.LostCommit(server, url)
        self.db: Database = connect(self.lost.url)
        self.direct: Database = connect(url)

    def losing(self, work: Callable[[], Any], *, commit: int = 1) -> None:
        """Do some work of which this commit is not answered."""
        before = self.lost.lost
        self.lost.commit = commit
        with pytest.raises(StoreUnavailable):
            work()
        assert self.lost.lost == before + 1
        self.available()

    def available(self) -> None:
        """Wait until the database may be asked again."""
        eventually(lambda: not self.db.availability.refuses(writing=True), every=0.01)

    def rows(self, table: sa.Table) -> list[Any]:
        with self.db.read() as conn:
            return list(conn.execute(sa.select(table)))


@pytest.fixture
def wire(
    postgres_server: postgres.PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Wire]:
    for name in ("FIRST_PAUSE_SECONDS", "LONGEST_PAUSE_SECONDS"):
        monkeypatch.setattr(availability, name, 0.01)
    made = Wire(postgres_server, postgres_url)
    yield made
    made.db.dispose()
    made.direct.dispose()
    made.lost.close()


def batch(end: int, expected: int | None) -> FlushBatch:
    n = end - (expected or 0)
    ids = range(expected or 0, end)
    progress = Progress(
        topic="predictions", expected=expected, first_offset=0, next_offset=end, counted=n, rows=n
    )
    joins = JoinRows(
        id_hash=list(ids), version=["7"] * n, prediction=["repay"] * n, score=[0.75] * n,
        slices=[None] * n, served_at=[NOW] * n, topic_id=[P0.topic_id] * n,
        partition=[P0.number] * n, window=[0] * n,
    )  # fmt: skip
    return FlushBatch(progress={P0: progress}, joins={"credit": joins})


def test_flush_that_was_written_is_not_written_again(wire: Wire) -> None:
    new_database(wire.db.url.render_as_string(hide_password=False)).dispose()
    for end, expected in ((10, None), (20, 10)):
        wire.losing(
            lambda end=end, expected=expected: flush(wire.db, batch(end, expected), now=NOW)
        )
        again = flush(wire.db, batch(end, expected), now=NOW)
        assert again == OffsetsMoved((P0,)), "it is dropped, and read on from where SQL is"
    (offset,) = wire.rows(t.offsets)
    assert (offset.next_offset, offset.counted, offset.rows) == (20, 20, 20)
    assert len(wire.rows(t.join_rows)) == 20
    wire.losing(lambda: mark(wire.db, [Mark(P0, 20, 2, alone=True)]))
    assert mark(wire.db, [Mark(P0, 20, 2, alone=True)]) == []
    for left in (1, 0, 0):
        wire.losing(lambda: take_back(wire.db, {P0: 20}))
        with wire.db.read() as conn:
            assert stored_offsets(conn, [P0])[P0].tries == left


def test_outcomes_that_were_made_are_not_made_again(wire: Wire) -> None:
    new_database(wire.db.url.render_as_string(hide_password=False)).dispose()
    watch(wire.db)
    key, now = b"k" * 32, microseconds(START) + 3_600 * SECOND
    made = Accumulator(
        wire.db,
        state_key=key,
        kinds={"predictions": "predictions", "labels": "labels"},
        clock=lambda: now / SECOND,
    )
    made.assign(P0, "predictions", stored=None, start=0)
    made.assign(L0, "labels", stored=None, start=0)
    made.take(P0, chunk([record(prediction(i), i) for i in range(40)]))
    made.take(L0, chunk([record(label(i), i) for i in range(40)]))
    closed = made.close()
    assert closed is not None
    assert isinstance(flush(wire.db, closed, now=now), Flushed)
    wire.losing(lambda: join_labels(wire.db, CONFIG, now=now, state_key=key), commit=2)
    again = join_labels(wire.db, CONFIG, now=now, state_key=key)
    assert again is not None
    assert again.outcomes == 0
    assert sorted(o.seq for o in wire.rows(t.outcomes)) == list(range(1, 41))
    (state,) = wire.rows(t.accuracy_states)
    assert (state.n, state.last_seq) == (40, 40)


def test_job_is_worked_off_once_whichever_commits_are_lost(wire: Wire, tmp_path: Path) -> None:
    loop.opened(wire.db.url.render_as_string(hide_password=False)).dispose()
    job_worker.registered(wire.db, tmp_path / "home")
    with wire.db.begin() as conn:
        job_id = job_worker.incident_with_job(conn)
    served(wire.db, range(1, 301))
    labelled(wire.db, range(1, 101))

    def answer(folder: Path, _: job_worker.Progress) -> job_worker.Report:
        mode = read_job_spec((folder / "job.json").read_bytes()).mode
        if mode == "diagnose":
            return job_worker.diagnosis("compression_gap")
        return job_worker.report(mode, decision=Accepted(variant="fp32"))

    clock = Clock()
    child = job_worker.ScriptedChild(*[answer] * 100)
    runner = Runner(job_worker.dependencies(wire.db, tmp_path / "home", child=child, clock=clock))
    wire.lost.share = 0.2
    while job_worker.job(wire.direct, job_id).state not in job_queue.DONE:
        with contextlib.suppress(StoreUnavailable):
            runner.run_once()
        wire.available()
        clock.forward(to_us(job_queue.LEASE_SECONDS + 1))
    wire.lost.share = 0.0
    assert wire.lost.lost >= 3
    assert job_worker.job(wire.direct, job_id).state == "succeeded"
    with wire.direct.read() as conn:
        moves = sa.select(pointers.c.epoch, pointers.c.stable)
        assert conn.execute(moves).all() == [(2, job_worker.RecordingPublisher.VERSION)]
        kinds = conn.execute(sa.select(audit.c.action)).scalars().all()
    assert len(kinds) == len(set(kinds)), "nothing is said twice"

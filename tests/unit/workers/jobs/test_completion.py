"""How a claim ends: the job, its incident and its release change together, or not at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import job_worker
import loop
import pytest
import sqlalchemy as sa
from job_worker import RecordingPublisher, report
from loop import LIMITS, NOW, Clock

from redistill.compress.plan import Rejected
from redistill.streams.store.database import Database
from redistill.times import SECOND, to_us
from redistill.workers.jobs import completion, job_spec
from redistill.workers.jobs.publish import EarlierRelease
from redistill.workers.jobs.session import JobSession
from redistill.workers.jobs.turn import Turn
from redistill.workers.store import audit_chain, job_queue
from redistill.workers.store.tables import audit as audit_table
from redistill.workers.store.tables import pointers


@dataclass
class World:
    """A claimed job of an incident."""

    database: Database
    home: Path
    job_id: str
    clock: Clock = field(default_factory=Clock)
    publisher: RecordingPublisher = field(default_factory=RecordingPublisher)

    def __post_init__(self) -> None:
        self.deps = job_worker.dependencies(
            self.database, self.home, publisher=self.publisher, clock=self.clock
        )
        self.session = JobSession(
            self.database,
            job_worker.claimed(self.database),
            actor="worker:w1",
            clock=self.clock,
            stop=threading.Event(),
        )

    @property
    def job(self) -> job_queue.Job:
        """The job as it stands."""
        return job_worker.job(self.database, self.job_id)

    def context(self) -> job_spec.JobInputs:
        """What SQL says of it."""
        with self.database.read() as conn:
            return job_spec.read_inputs(conn, self.job)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    job_worker.registered(database, tmp_path / "home")
    with database.begin() as conn:
        job_id = job_worker.incident_with_job(conn)
    yield World(database, tmp_path / "home", job_id)
    database.dispose()


def test_parked_job_and_its_incident_wait_together(world: World) -> None:
    with world.session.fenced() as transaction:
        completion.park(
            transaction, {"count": "labelled", "rows": 20}, have=3, why="3 labelled rows"
        )
    assert (world.job.state, world.job.gate_rows) == ("waiting_labels", 3)
    incident = job_worker.incident(world.database)
    assert (incident["stage"], incident["why"]) == ("waiting_labels", "3 labelled rows")


def test_ended_job_says_why_and_how_long_it_took(world: World) -> None:
    world.clock.forward(3 * SECOND)
    completion.end(world.session, LIMITS, "failed", why="the teacher is damaged")
    job = world.job
    assert (job.state, job.finished_at) == ("failed", NOW + 3 * SECOND)
    assert job.outcome == {
        "reasons": ["the teacher is damaged"],
        "seconds": 3.0,
        "why": "the teacher is damaged",
    }
    incident = job_worker.incident(world.database)
    assert (incident["stage"], incident["why"]) == ("awaiting_person", "the teacher is damaged")
    assert job_queue.claim(world.database, "w2", now=world.clock()) is None


def test_job_that_is_not_ours_any_more_is_not_ended(world: World) -> None:
    world.clock.forward(to_us(job_queue.LEASE_SECONDS + 1))
    job_worker.claimed(world.database, now=world.clock(), holder="heir")
    completion.end(world.session, LIMITS, "failed", why="too late")
    assert world.job.state == "running"
    assert job_worker.incident(world.database)["why"] == "measured"


def test_rejection_ends_the_job_with_what_was_announced(world: World) -> None:
    judged = report(decision=Rejected(reasons=("too slow",)))
    completion.reject(world.session, world.deps, world.context(), judged, ["too slow"])
    assert (world.job.state, world.job.outcome["sha256"]) == ("rejected", loop.SHA)
    assert world.publisher.rejections == [judged]
    assert "too slow" in job_worker.incident(world.database)["why"]


def test_refused_recipe_is_announced_and_the_job_goes_on_in_one_transaction(world: World) -> None:
    present = Turn(recipes=("warm", "scratch"), version="v1")
    judged = job_worker.faced(1, Rejected(reasons=("fresh: worse",)))
    refused = present.refused(judged, ("fresh: worse",))
    with world.session.fenced() as transaction:
        transaction.remember(phase="gate")
    context = world.context()
    completion.go_on(world.session, world.deps, context, judged, present, refused)
    outcome = world.job.outcome
    assert (world.job.state, outcome["phase"]) == ("running", "repair")
    assert outcome["recipes"] == ["warm", "scratch"]
    assert [t["name"] for t in outcome["tried"]] == ["warm"]
    assert world.publisher.rejections == [judged]
    incident = job_worker.incident(world.database)
    assert (incident["stage"], incident["why"]) == (
        "repairing",
        "recipe warm was refused (fresh: worse); scratch is next",
    )


def test_publish_is_written_as_two_steps_and_one_end(world: World) -> None:
    completion.publish(world.session, world.deps)
    steps = job_worker.steps(world.database, world.job_id)
    assert steps["publish"]["detail"] == {"version": "r1-abababab", "epoch": 2}
    assert set(steps) == {"seal", "publish"}
    assert world.job.state == "succeeded"
    assert world.publisher.woken == 1
    assert job_worker.incident(world.database)["stage"] == "guarding"
    with world.database.read() as conn:
        actors = set(conn.execute(sa.select(audit_table.c.actor)).scalars())
        assert audit_chain.verify(conn).problem is None
    assert "worker:w1" in actors


def test_going_back_to_an_earlier_release_seals_nothing(world: World) -> None:
    again = EarlierRelease(version=world.publisher.VERSION, sha256=loop.SHA)
    world.publisher.prepare = lambda folder, context: again  # type: ignore[method-assign]
    completion.publish(world.session, world.deps)
    assert set(job_worker.steps(world.database, world.job_id)) == {"publish"}
    assert world.job.outcome["why"] == "went back to r1-abababab (epoch 2), its gates passed"
    assert (world.job.state, world.job.outcome["sha256"]) == ("succeeded", loop.SHA)


def test_version_that_was_replaced_while_we_packaged_is_not_beaten(world: World) -> None:
    prepare = world.publisher.prepare

    def slow(folder: Path, context: job_spec.JobInputs) -> object:
        with world.database.begin() as conn:
            loop.point(conn, "credit", "v2", now=NOW)
        return prepare(folder, context)

    world.publisher.prepare = slow  # type: ignore[method-assign]
    with pytest.raises(job_spec.JobObsolete, match="replaced by v2"):
        completion.publish(world.session, world.deps)
    with world.database.read() as conn:
        assert conn.execute(sa.select(pointers.c.stable)).scalar_one() == "v2"
    assert world.job.state == "running"
    assert job_worker.steps(world.database, world.job_id) == {}
    assert world.publisher.woken == 0


def test_what_was_written_before_the_publish_is_known_to_it(world: World) -> None:
    with world.session.fenced() as transaction:
        transaction.remember(incumbent="v0")
    with pytest.raises(job_spec.JobObsolete, match="which it was to beat"):
        completion.publish(world.session, world.deps)

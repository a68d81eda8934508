"""Working on jobs: from a claim to its end, whatever stops the work in between."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import job_worker
import loop
import pytest
import sqlalchemy as sa
from job_worker import RecordingPublisher, ScriptedChild, diagnosis, report
from loop import NOW, Clock
from served_rows import labelled, served

from redistill.compress.plan import Accepted, Rejected, Undecidable
from redistill.streams.errors import StoreUnavailable
from redistill.streams.store.database import Database
from redistill.streams.store.tables import specs
from redistill.times import SECOND, to_us
from redistill.workers.jobs import retry
from redistill.workers.jobs.child import ChildCancelled, ChildFailed
from redistill.workers.jobs.runner import Runner
from redistill.workers.store import job_queue
from redistill.workers.store.tables import jobs, pointers

ACCEPTED = report(decision=Accepted(variant="fp32"))
REJECTED = report(decision=Rejected(reasons=("too slow", "too large")))
GAP = diagnosis("compression_gap")
KILLED = ChildFailed("killed by SIGKILL", kind="killed", retriable=True, tail="...")


def undecided(gate: str = "fresh_e_value") -> job_worker.Report:
    return report(decision=Undecidable(gate=gate, have=40, need=90, why="too few rows"))


@dataclass
class World:
    """A registered model with harm and a job for it, and the worker that runs jobs."""

    database: Database
    home: Path
    job_id: str
    clock: Clock = field(default_factory=Clock)
    child: ScriptedChild = field(default_factory=ScriptedChild)
    publisher: RecordingPublisher = field(default_factory=RecordingPublisher)

    def __post_init__(self) -> None:
        self.deps = job_worker.dependencies(
            self.database,
            self.home,
            child=self.child,
            publisher=self.publisher,
            clock=self.clock,
        )
        self.runner = Runner(self.deps)

    def run(self, *answers: job_worker.Answer) -> bool:
        """One round of the runner; the child gives these answers."""
        self.child.answers = list(answers)
        return self.runner.run_once()

    def crash(self) -> None:
        """The worker is gone: its lease ends, and another one takes the job."""
        self.clock.forward(to_us(job_queue.LEASE_SECONDS + 1))
        self.runner = Runner(self.deps)

    @property
    def job(self) -> job_queue.Job:
        """The job as it stands."""
        return job_worker.job(self.database, self.job_id)

    @property
    def steps(self) -> set[str]:
        """Names of its steps."""
        return set(job_worker.steps(self.database, self.job_id))

    @property
    def modes(self) -> list[str]:
        """What the child was asked."""
        return [spec.mode for spec in self.child.asked]

    @property
    def stable(self) -> str:
        """What the pointer names."""
        with self.database.read() as conn:
            return str(conn.execute(sa.select(pointers.c.stable)).scalar_one())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    job_worker.registered(database, tmp_path / "home")
    with database.begin() as conn:
        job_id = job_worker.incident_with_job(conn)
    served(database, range(1, 301))
    labelled(database, range(1, 101))
    yield World(database, tmp_path / "home", job_id)
    database.dispose()


def test_nothing_is_claimed_while_the_child_loads(world: World) -> None:
    world.child.ready = False
    assert not world.run()
    assert world.job.state == "queued"


def test_no_job_is_no_work(world: World) -> None:
    with world.database.begin() as conn:
        conn.execute(sa.delete(jobs))
    assert not world.run()


def test_accepted_candidate_is_published_and_the_incident_told(world: World) -> None:
    assert world.run(GAP, ACCEPTED)
    assert world.modes == ["diagnose", "repair"]
    job = world.job
    assert job.state == "succeeded"
    assert job.outcome["why"] == "published r1-abababab (epoch 2), its gates passed"
    assert (job.outcome["version"], job.outcome["epoch"]) == ("r1-abababab", 2)
    assert world.stable == "r1-abababab"
    assert world.publisher.woken == 1
    assert world.steps == {"diagnose", "window", "gate", "seal", "publish"}
    incident = job_worker.incident(world.database)
    assert (incident["stage"], incident["decision"]) == ("guarding", "repair")
    assert not world.run()


def test_publish_is_one_transaction(world: World) -> None:
    def full(conn: sa.Connection) -> None:
        raise StoreUnavailable("the disk is full")

    world.publisher.before_commit = full
    with pytest.raises(StoreUnavailable):
        world.run(GAP, ACCEPTED)
    assert (world.job.state, world.job.outcome["phase"]) == ("running", "publish")
    assert world.stable == "v1"
    assert world.publisher.woken == 0
    assert not {"seal", "publish"} & world.steps
    assert job_worker.incident(world.database)["stage"] == "repairing"


def test_worker_that_died_before_the_publish_leaves_only_that_to_the_next(world: World) -> None:
    test_publish_is_one_transaction(world)
    world.publisher.before_commit = lambda conn: None
    world.crash()
    assert world.run()  # the child is asked nothing
    assert world.job.state == "succeeded"
    assert world.publisher.woken == 1


def test_worker_that_died_while_it_trained_leaves_no_second_diagnosis(world: World) -> None:
    def die(folder: Path, progress: job_worker.Progress) -> job_worker.Report:
        raise StoreUnavailable("the worker is gone")

    with pytest.raises(StoreUnavailable):
        world.run(GAP, die)
    world.crash()
    assert world.run(ACCEPTED)
    assert world.modes == ["diagnose", "repair", "repair"]
    assert world.job.state == "succeeded"


def test_rejected_candidate_is_announced_with_its_reasons(world: World) -> None:
    world.run(GAP, REJECTED)
    job = world.job
    assert (job.state, job.outcome["why"]) == ("rejected", "too slow; too large")
    assert job.outcome["reasons"] == ["too slow", "too large"]
    assert job.outcome["sha256"] == loop.SHA
    assert world.publisher.rejections == [REJECTED]
    assert world.stable == "v1"


def test_gate_that_no_label_can_decide_rejects(world: World) -> None:
    world.run(GAP, undecided("trusted_points"))
    assert world.job.state == "rejected"
    assert "trusted rows do not grow" in world.job.outcome["why"]


def test_undecided_candidate_is_judged_again_when_labels_came(world: World) -> None:
    world.run(GAP, undecided())
    assert (world.job.state, world.job.outcome["phase"]) == ("waiting_labels", "gate")
    assert not world.run()
    labelled(world.database, range(101, 301))
    again = report("gate", Accepted(variant="fp32"))
    assert world.run(again)
    assert world.modes == ["diagnose", "repair", "gate"]
    assert world.job.state == "succeeded"


def test_report_that_decides_nothing_ends_the_job(world: World) -> None:
    world.run(GAP, report())
    assert (world.job.state, world.job.outcome["why"]) == ("failed", "the report decides nothing")


def test_crashed_child_is_tried_again_later_and_not_for_ever(world: World) -> None:
    world.run(GAP, KILLED)
    job = world.job
    assert (job.state, job.not_before) == ("queued", NOW + 2 * SECOND)
    assert job.outcome["failures"] == 1
    assert "SIGKILL" in job.outcome["last_error"]
    assert not world.run(KILLED)
    for _ in range(retry.MAX_TRIES - 1):
        world.clock.forward(60 * SECOND)
        world.run(KILLED)
    assert world.job.state == "failed"
    assert world.job.outcome["why"] == "all 3 tries failed; the last: killed by SIGKILL"
    assert job_worker.incident(world.database)["stage"] == "awaiting_person"


def test_child_that_can_never_succeed_is_not_tried_again(world: World) -> None:
    world.run(GAP, ChildFailed("BadData: one class only", kind="BadData", retriable=False))
    assert (world.job.state, world.job.outcome["why"]) == ("failed", "BadData: one class only")


def test_stopped_worker_puts_the_job_back_as_no_failure(world: World) -> None:
    def stopped(folder: Path, progress: job_worker.Progress) -> job_worker.Report:
        world.deps.stop.set()
        assert cancelled().wait(10)
        raise ChildCancelled("ended on request")

    cancelled = _cancelled(world)
    world.run(GAP, stopped)
    job = world.job
    assert (job.state, job.not_before, job.tries) == ("queued", world.clock(), 0)
    assert (job.outcome["failures"], job.outcome["last_error"]) == (0, "the worker was stopped")
    world.deps.stop.clear()
    world.run(ACCEPTED)
    assert world.job.state == "succeeded"


def test_cancelled_job_is_left_as_it_is(world: World) -> None:
    def ended(folder: Path, progress: job_worker.Progress) -> job_worker.Report:
        with world.database.begin() as conn:
            job_queue.finish(conn, world.job, "cancelled", outcome={"why": "by a person"}, now=NOW)
        assert cancelled().wait(10)
        raise ChildCancelled("ended on request")

    cancelled = _cancelled(world)
    world.run(GAP, ended)
    assert (world.job.state, world.job.outcome["why"]) == ("cancelled", "by a person")


def _cancelled(world: World) -> Callable[[], object]:
    """The event that the child is given, once it runs."""
    events: list[object] = []
    run = world.child.run

    def keeping(folder: Path, **options: object) -> object:
        events.append(options["cancelled"])
        return run(folder, **options)  # type: ignore[arg-type]

    world.child.run = keeping  # type: ignore[assignment,method-assign]
    return lambda: events[-1]


def test_zombie_leaves_the_job_to_its_heir(world: World) -> None:
    def overtaken(folder: Path, progress: job_worker.Progress) -> job_worker.Report:
        world.clock.forward(to_us(job_queue.LEASE_SECONDS + 1))
        job_worker.claimed(world.database, now=world.clock(), holder="heir")
        return ACCEPTED

    assert world.run(GAP, overtaken)
    assert (world.job.state, world.stable) == ("running", "v1")
    assert "gate" not in world.steps
    assert world.publisher.woken == 0


def test_job_whose_workers_die_is_given_up(world: World) -> None:
    for _ in range(job_queue.MAX_DEATHS):
        job_worker.claimed(world.database, now=world.clock())
        world.crash()
    world.run()
    assert world.job.state == "failed"
    assert "10 workers died at it in the same step" in world.job.outcome["why"]
    assert world.child.asked == []


def test_job_that_is_obsolete_is_cancelled_with_the_reason(world: World) -> None:
    with world.database.begin() as conn:
        loop.point(conn, "credit", "v2", now=NOW)
    world.run()
    assert world.job.state == "cancelled"
    assert "v1 was replaced by v2" in world.job.outcome["why"]


def test_damaged_file_fails_the_job_with_its_name(world: World) -> None:
    with world.database.read() as conn:
        spec = json.loads(conn.execute(sa.select(specs.c.spec)).scalar_one())
    sha256 = spec["objects"]["teacher"]
    (world.home / "objects" / sha256[:2] / sha256).write_bytes(b"rotten")
    world.run()
    assert world.job.state == "failed"
    assert "teacher is damaged" in world.job.outcome["why"]


def test_database_that_is_away_leaves_the_job_running(world: World) -> None:
    def away(folder: Path, progress: job_worker.Progress) -> job_worker.Report:
        raise StoreUnavailable("connection refused")

    with pytest.raises(StoreUnavailable):
        world.run(away)
    assert world.job.state == "running"

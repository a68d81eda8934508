"""Working on jobs: from a claim to its end, whatever stops the work in between."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import database_faults
import job_worker
import loop
import pytest
import sqlalchemy as sa
from job_worker import RecordingPublisher, ScriptedChild, diagnosis, faced, report
from loop import LIMITS, NOW, Clock
from served_rows import labelled, served

from redistill.compress.plan import Accepted, Gate, Measure, NeedsPerson, Rejected, Undecidable
from redistill.streams.errors import StoreUnavailable
from redistill.streams.store import properties
from redistill.streams.store.database import Database
from redistill.streams.store.tables import findings, specs
from redistill.times import HOUR, SECOND, to_us
from redistill.workers.errors import KeysError, UsageError
from redistill.workers.incidents import incident_repository, lifecycle, recent_actions
from redistill.workers.incidents.model_context import load
from redistill.workers.jobs import job_spec, retry
from redistill.workers.jobs.child_outcome import ChildCancelled, ChildFailed
from redistill.workers.jobs.runner import DISK_SECONDS, Runner
from redistill.workers.store import audit_key, fresh_tests, job_queue, signing_refusal
from redistill.workers.store.fresh_tests import FreshTest
from redistill.workers.store.tables import audit, jobs, pointers

ACCEPTED = report(decision=Accepted(variant="fp32"))
REJECTED = report(decision=Rejected(reasons=("too slow", "too large")))
GAP = diagnosis("compression_gap")
KILLED = ChildFailed("killed by SIGKILL", kind="killed", retriable=True, tail="...")


def undecided(gate: str = "fresh") -> job_worker.Report:
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


def make(database: Database, home: Path) -> World:
    """A world with rows and labels."""
    job_worker.registered(database, home)
    with database.begin() as conn:
        job_id = job_worker.incident_with_job(conn)
    served(database, range(1, 301))
    labelled(database, range(1, 101))
    return World(database, home, job_id)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    yield make(database, tmp_path / "home")
    database.dispose()


def test_nothing_is_claimed_while_the_child_loads(world: World) -> None:
    world.child.ready = False
    assert not world.run()
    assert world.job.state == "queued"


def test_full_disk_is_waited_for_and_costs_the_job_no_try(small_disk: Path, world: World) -> None:
    here = World(world.database, small_disk / "home", world.job_id)
    job_worker.stored_files(here.home)
    with database_faults.full(small_disk):
        for _ in range(job_queue.MAX_DEATHS + 2):
            assert here.run()
            assert (here.job.state, here.job.tries) == ("queued", 0)
            assert here.job.outcome["failures"] == 0
            assert not here.run(), "not before it may be mended"
            here.clock.forward(to_us(DISK_SECONDS))
        assert "No space left on device" in here.job.outcome["last_error"]
        assert not [*small_disk.rglob("*.new")], "nothing is left half-written"
    assert here.run(GAP, ACCEPTED)
    assert here.job.state == "succeeded"


def test_child_that_finds_the_disk_full_costs_the_job_no_try(world: World) -> None:
    full = ChildFailed(
        "OSError: [Errno 28] No space left on device", kind="OSError", retriable=True, errno=28
    )
    for _ in range(retry.MAX_TRIES + 2):
        assert world.run(full)
        assert (world.job.state, world.job.outcome["failures"]) == ("queued", 0)
        world.clock.forward(to_us(DISK_SECONDS))
    assert world.run(GAP, ACCEPTED)
    assert world.job.state == "succeeded"


def test_database_that_goes_away_again_and_again_is_no_death_of_a_worker(world: World) -> None:
    for _ in range(job_queue.MAX_DEATHS + 2):
        with pytest.raises(StoreUnavailable):
            world.run(StoreUnavailable("away"))
        world.clock.forward(to_us(job_queue.LEASE_SECONDS + 1))
    assert world.run(GAP, ACCEPTED)
    assert world.job.state == "succeeded"


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
    world.run(GAP, REJECTED, replace(REJECTED, decision=Rejected(reasons=("too large",))))
    job = world.job
    reasons = ["scratch: too slow", "scratch: too large", "trees: too large"]
    assert (job.state, job.outcome["why"]) == ("rejected", "; ".join(reasons))
    assert job.outcome["reasons"] == reasons
    assert job.outcome["sha256"] == loop.SHA
    assert [r.decision for r in world.publisher.rejections] == [
        REJECTED.decision,
        Rejected(reasons=("too large",)),
    ]
    assert world.stable == "v1"


OPEN = Gate(
    name="trusted", value=-2.5, limit=-2.0, passed=None, why="against the incumbent +0.0 points",
    split="trusted", have=360, need=560, ask="trusted rows",
)  # fmt: skip
ASKS = report(
    decision=NeedsPerson(gate="trusted", have=360, need=560, why=OPEN.why, ask="trusted rows"),
    gates=(OPEN,),
)


BETTER = replace(ASKS, ranking_loss=0.2)
"""The second recipe's: better on ranking rows, so that it is asked about at once."""


def test_gate_that_no_label_can_decide_asks_a_person_and_refuses_nobody(world: World) -> None:
    world.run(GAP, ASKS, BETTER)
    job, incident = world.job, job_worker.incident(world.database)
    assert (job.state, job.outcome["phase"]) == ("needs_person", "gate")
    assert (incident["stage"], incident["decision"]) == ("awaiting_person", "ask_person")
    assert incident["why"] == job.outcome["why"]
    assert incident["why"].startswith(
        "needs a person: trusted rows. trusted: against the incumbent"
    )
    approve = f"`redistill incidents approve {job_worker.INCIDENT[:8]}"
    assert "bring about 250 more trusted rows: `redistill register model.toml`" in incident["why"]
    assert f"{approve}`" in incident["why"]
    assert f"{approve} --waive trusted --reason TEXT`" in incident["why"]
    assert world.publisher.rejections == []
    with world.database.read() as conn:
        row, context = incident_repository.find(conn, job_worker.INCIDENT), load(conn, "credit")
        assert context is not None
        _, _, recent = recent_actions.gather(conn, row, context, LIMITS, now=NOW)
    assert recent.rejected_in_a_row == 0


def approved(world: World, **waived: str) -> None:
    with world.database.begin() as conn:
        lifecycle.approve(
            conn, incident_repository.find(conn, job_worker.INCIDENT), LIMITS, actor="cli:ann", now=world.clock(),
            waived=waived,
        )  # fmt: skip


def test_waived_gate_publishes_the_candidate_that_was_asked_about(world: World) -> None:
    world.run(GAP, ASKS, BETTER)
    approved(world, trusted="old rows")
    assert world.run(report("gate", Accepted(variant="fp32")))
    assert world.modes == ["diagnose", "repair", "repair", "gate"]
    assert [spec.waived for spec in world.child.asked] == [
        {}, {}, {}, {"trusted": "cli:ann: old rows"},
    ]  # fmt: skip
    assert (world.job.state, world.job.attempt) == ("succeeded", 1)
    assert world.stable == RecordingPublisher.VERSION
    with world.database.read() as conn:
        bodies = conn.execute(
            sa.select(audit.c.body).where(audit.c.action == "job.gates_waived")
        ).scalars()
        assert [json.loads(b)["waived"] for b in bodies] == [{"trusted": "cli:ann: old rows"}]


def test_more_trusted_rows_judge_the_same_candidate(world: World) -> None:
    world.run(GAP, ASKS, BETTER)
    approved(world)
    assert world.job.state == "queued"
    assert world.run(ASKS)
    assert world.modes == ["diagnose", "repair", "repair", "gate"]
    assert world.job.state == "needs_person"
    assert world.child.asked[-1].waived == {}


def test_where_the_candidate_was_deleted_meanwhile_another_one_is_made(world: World) -> None:
    served(world.database, range(1, 201))
    world.run(GAP, ASKS, BETTER)
    shutil.rmtree(world.deps.folder(world.job_id))
    approved(world)
    assert world.run(report(decision=Accepted(variant="fp32")))
    assert world.modes == ["diagnose", "repair", "repair", "repair"]
    assert world.job.state == "succeeded"


def test_candidate_whose_remaking_was_cut_short_is_made_again(world: World) -> None:
    world.run(GAP, ASKS, BETTER)
    shutil.rmtree(world.deps.folder(world.job_id))
    approved(world)
    with pytest.raises(StoreUnavailable):
        world.run(away)
    assert world.deps.folder(world.job_id).is_dir()
    world.crash()
    assert world.run(ACCEPTED)
    assert world.modes == ["diagnose", "repair", "repair", "repair", "repair"]
    assert world.job.state == "succeeded"


def test_question_is_about_the_cause_that_the_same_claim_has_found(world: World) -> None:
    recoverable = Measure(value=9.0, low=5.0, high=13.0, n=40)
    found = diagnosis("concept_change")
    assert found.diagnosis is not None
    partly = replace(
        found.diagnosis, student_loss_points=recoverable, recoverable_points=recoverable,
        recoverable_at_least=5.0,
    )  # fmt: skip
    world.run(replace(found, diagnosis=partly), ASKS, BETTER)
    assert world.child.asked[-1].cause == "concept_change"
    assert world.job.state == "needs_person"
    assert "label trusted rows anew, by what is true now" in world.job.outcome["why"]


def concept_changed(world: World) -> None:
    """The incident's job found a changed concept and asked a person, who orders another."""
    world.run(diagnosis("concept_change"))
    with world.database.begin() as conn:
        world.job_id = job_worker.manual_job(conn, train_on="labels")


def test_job_of_a_person_is_told_that_the_concept_changed(world: World) -> None:
    served(world.database, range(1, 201))
    concept_changed(world)
    world.run(ASKS)
    assert (world.child.asked[-1].mode, world.child.asked[-1].cause) == ("repair", "concept_change")
    why = world.job.outcome["why"]
    assert "label trusted rows anew, by what is true now" in why
    assert "redistill recompress credit --train-on labels --waive trusted --reason TEXT" in why


def test_job_that_was_told_of_a_changed_concept_knows_it_when_the_incident_has_ended(
    world: World,
) -> None:
    served(world.database, range(1, 201))
    concept_changed(world)
    world.run(undecided())
    with world.database.begin() as conn:
        row = incident_repository.find(conn, job_worker.INCIDENT)
        lifecycle.resolve(conn, row, "person", why="labels are learned", actor="a", now=NOW)
    labelled(world.database, range(101, 301))
    world.run(report("gate", Accepted(variant="fp32")))
    assert (world.child.asked[-1].mode, world.child.asked[-1].cause) == ("gate", "concept_change")


def test_job_of_a_schedule_is_told_nothing_of_a_changed_concept(world: World) -> None:
    served(world.database, range(1, 201))
    concept_changed(world)
    with world.database.begin() as conn:
        conn.execute(
            sa.update(jobs).where(jobs.c.job_id == world.job_id).values(trigger_kind="schedule")
        )
    world.run(ASKS)
    assert world.child.asked[-1].cause is None


def test_waiver_is_for_one_job_only(world: World) -> None:
    world.run(GAP, ASKS, BETTER)
    approved(world, trusted="old rows")
    world.run(ASKS)
    approved(world)
    world.run(ASKS)
    assert [spec.waived for spec in world.child.asked][-2:] == [
        {"trusted": "cli:ann: old rows"}, {},
    ]  # fmt: skip


def test_where_another_version_serves_there_is_nothing_to_take_up(world: World) -> None:
    world.run(GAP, ASKS, BETTER)
    with world.database.begin() as conn:
        conn.execute(sa.update(pointers).values(stable="v9"))
    approved(world, trusted="old rows")
    assert world.job.state == "needs_person"
    with world.database.read() as conn:
        again = job_queue.live(conn, "credit")
    assert again is not None
    assert (again.job_id != world.job_id, again.attempt) == (True, 2)
    assert again.options == {"waived": {"trusted": "cli:ann: old rows"}}


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


# --- one recipe after the other ------------------------------------------------------------------

WORSE = Rejected(reasons=("fresh: worse",))
GOOD = Accepted(variant="fp32")


def recipes_asked(world: World) -> list[tuple[str, int]]:
    """Recipe and number of every run but the diagnosis."""
    return [
        (spec.recipes[len(spec.tried)], spec.recipe)
        for spec in world.child.asked
        if spec.mode != "diagnose"
    ]


def numbers(world: World) -> list[tuple[int, str, str]]:
    """Number, recipe and bytes of every candidate that has faced fresh rows."""
    with world.database.read() as conn:
        found = fresh_tests.of_incident(conn, job_worker.INCIDENT)
    return [(t.number, t.recipe, t.sha256[:2]) for t in found]


@pytest.fixture
def warm(world: World) -> World:
    """The weights of what serves are known, so there are two recipes."""
    job_worker.with_training(world.database, world.home)
    return world


def test_refused_candidate_gives_the_next_recipe_its_turn(warm: World) -> None:
    assert warm.run(GAP, faced(1, WORSE), faced(2, GOOD))
    assert warm.job.state == "succeeded"
    assert recipes_asked(warm) == [("warm", 1), ("scratch", 2)]
    assert numbers(warm) == [(1, "warm", "11"), (2, "scratch", "22")]
    (tried,) = warm.job.outcome["tried"]
    assert (tried["name"], tried["number"], tried["reasons"]) == ("warm", 1, ["fresh: worse"])
    assert [r.recipe for r in warm.publisher.rejections] == [1]
    assert warm.stable == "r1-abababab"


def test_candidate_that_faced_nothing_spends_nothing(warm: World) -> None:
    slow = faced(1, Rejected(reasons=("latency: slow",)), faced=False)
    assert warm.run(GAP, slow, faced(1, GOOD))
    assert recipes_asked(warm) == [("warm", 1), ("scratch", 1)]
    assert numbers(warm) == [(1, "scratch", "11")]
    assert warm.job.outcome["tried"][0]["number"] is None


def test_last_refusal_ends_the_job_with_all_reasons(warm: World) -> None:
    hopeless = Rejected(reasons=("futility: hopeless",))
    warm.run(GAP, faced(1, WORSE), faced(2, hopeless), faced(3, WORSE))
    assert warm.job.state == "rejected"
    assert warm.job.outcome["reasons"] == [
        "warm: fresh: worse",
        "scratch: futility: hopeless",
        "trees: fresh: worse",
    ]
    assert [r.recipe for r in warm.publisher.rejections] == [1, 2, 3]


def test_second_recipe_waits_for_labels_and_is_judged_again_as_itself(warm: World) -> None:
    open_ = Undecidable(gate="fresh", have=40, need=90, why="too few rows")
    warm.run(GAP, faced(1, WORSE), faced(2, open_))
    assert (warm.job.state, warm.job.outcome["phase"]) == ("waiting_labels", "gate")
    assert job_worker.incident(warm.database)["stage"] == "waiting_labels"
    labelled(warm.database, range(101, 301))
    assert warm.run(faced(2, GOOD))
    last = warm.child.asked[-1]
    assert (last.mode, last.recipes[len(last.tried)]) == ("gate", "scratch")
    assert (last.faced, last.recipe) == ({"11" * 32: 1, "22" * 32: 2}, 3)
    assert numbers(warm) == [(1, "warm", "11"), (2, "scratch", "22")]
    assert warm.job.state == "succeeded"


def away(folder: Path, progress: job_worker.Progress) -> job_worker.Report:
    raise StoreUnavailable("the worker is gone")


def left_open(number: int, loss: float | None) -> job_worker.Report:
    missing = NeedsPerson(gate="trusted", have=360, need=560, why=OPEN.why, ask="trusted rows")
    return faced(number, missing, gates=(OPEN,), ranking_loss=loss)


def test_candidate_that_only_a_person_can_decide_gives_the_next_recipe_its_turn(
    warm: World,
) -> None:
    assert warm.run(GAP, left_open(1, 0.3), faced(2, GOOD))
    assert warm.job.state == "succeeded"
    assert recipes_asked(warm) == [("warm", 1), ("scratch", 2)]
    assert numbers(warm) == [(1, "warm", "11"), (2, "scratch", "22")]
    (tried,) = warm.job.outcome["tried"]
    assert (tried["name"], tried["number"], tried["open"]) == ("warm", 1, True)
    assert warm.publisher.rejections == []
    with warm.database.read() as conn:
        actions = list(conn.execute(sa.select(audit.c.action)).scalars())
    assert "incident.candidate_left_open" in actions
    assert "incident.candidate_refused" not in actions


def asked_about_scratch(warm: World) -> None:
    warm.run(GAP, left_open(1, 0.2), left_open(2, 0.1), faced(3, WORSE), left_open(2, 0.1))


def test_person_is_asked_about_the_best_open_candidate_on_ranking_rows(warm: World) -> None:
    asked_about_scratch(warm)
    job, last = warm.job, warm.child.asked[-1]
    assert (job.state, job.outcome["asked_about"]) == ("needs_person", "scratch")
    assert warm.modes == ["diagnose", "repair", "repair", "repair", "gate"]
    assert (last.again, [t.name for t in last.tried]) == ("scratch", ["warm", "trees"])
    assert last.faced == {"11" * 32: 1, "22" * 32: 2, "33" * 32: 3}
    assert [n for n, _, _ in numbers(warm)] == [1, 2, 3]
    assert [r.recipe for r in warm.publisher.rejections] == [3]
    assert "recipe scratch; tried beside it: warm (open), trees (refused)" in job.outcome["why"]


def test_what_a_person_took_upon_themselves_is_said_of_the_candidate_asked_about(
    warm: World,
) -> None:
    asked_about_scratch(warm)
    approved(warm, trusted="old rows")
    assert warm.run(faced(2, WORSE), left_open(1, 0.2))
    mine = {"trusted": "cli:ann: old rows"}
    told = [(spec.again, spec.waived) for spec in warm.child.asked[-2:]]
    assert told == [("scratch", mine), ("warm", {})]
    assert (warm.job.state, warm.job.outcome["asked_about"]) == ("needs_person", "warm")
    assert "scratch (refused)" in warm.job.outcome["why"]
    approved(warm, trusted="old rows")
    assert warm.run(faced(1, GOOD))
    assert (warm.child.asked[-1].again, warm.child.asked[-1].waived) == ("warm", mine)
    assert (warm.job.state, len(numbers(warm))) == ("succeeded", 3)


def test_worker_that_died_while_the_best_is_judged_again_leaves_that_to_the_next(
    warm: World,
) -> None:
    with pytest.raises(StoreUnavailable):
        warm.run(GAP, left_open(1, 0.1), left_open(2, 0.2), faced(3, WORSE), away)
    warm.crash()
    assert warm.run(left_open(1, 0.1))
    assert [(s.mode, s.again) for s in warm.child.asked[-2:]] == [("gate", "warm")] * 2
    assert (warm.job.state, warm.job.outcome["asked_about"]) == ("needs_person", "warm")
    assert len(numbers(warm)) == 3


def test_other_candidates_go_with_the_folder(warm: World) -> None:
    asked_about_scratch(warm)
    shutil.rmtree(warm.deps.folder(warm.job_id))
    approved(warm)
    assert warm.run(faced(2, WORSE))
    assert (warm.child.asked[-1].mode, warm.child.asked[-1].again) == ("repair", "scratch")
    assert warm.job.state == "rejected"
    assert "warm: its files were deleted while a person was asked" in warm.job.outcome["reasons"]


def test_recipe_that_fails_takes_no_open_candidate_with_it(warm: World) -> None:
    broken = ChildFailed("no such library", kind="BadJob", retriable=False)
    warm.run(GAP, left_open(1, 0.1), broken)
    assert (warm.job.state, warm.job.outcome["phase"]) == ("queued", "repair")
    assert warm.run(broken)
    assert (warm.job.state, warm.job.outcome["phase"]) == ("queued", "gate")
    assert warm.run(left_open(1, 0.1))
    assert (warm.job.state, warm.job.outcome["asked_about"]) == ("needs_person", "warm")
    assert [t["open"] for t in warm.job.outcome["tried"]] == [True, False, False]
    assert "scratch: failed: no such library" in warm.job.outcome["reasons"]


def test_recipe_that_fails_after_a_refusal_ends_the_job(warm: World) -> None:
    warm.run(GAP, faced(1, WORSE), ChildFailed("no library", kind="BadJob", retriable=False))
    assert warm.job.state == "failed"


def test_worker_that_died_in_the_second_recipe_leaves_it_to_the_next(warm: World) -> None:
    with pytest.raises(StoreUnavailable):
        warm.run(GAP, faced(1, WORSE), away)
    assert (warm.job.state, warm.job.outcome["phase"]) == ("running", "repair")
    warm.crash()
    assert warm.run(faced(2, GOOD))
    assert recipes_asked(warm) == [("warm", 1), ("scratch", 2), ("scratch", 2)]
    assert warm.job.state == "succeeded"


def test_worker_that_died_once_a_candidate_was_counted_counts_it_once(
    warm: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def died(*args: object) -> None:
        raise StoreUnavailable("the worker is gone")

    with monkeypatch.context() as m:
        m.setattr("redistill.workers.jobs.phases.completion.go_on", died)
        with pytest.raises(StoreUnavailable):
            warm.run(GAP, faced(1, WORSE))
    assert numbers(warm) == [(1, "warm", "11")]
    warm.crash()
    assert warm.run(faced(1, WORSE), faced(2, GOOD))
    assert warm.child.asked[2].faced == {"11" * 32: 1}
    assert numbers(warm) == [(1, "warm", "11"), (2, "scratch", "22")]


def test_worker_that_died_before_a_candidate_was_counted_has_decided_nothing(
    warm: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def died(*args: object) -> None:
        raise StoreUnavailable("the worker is gone")

    with monkeypatch.context() as m:
        m.setattr("redistill.workers.jobs.turn.fresh_tests.enter", died)
        with pytest.raises(StoreUnavailable):
            warm.run(GAP, faced(1, GOOD))
    assert (numbers(warm), warm.job.outcome["phase"], warm.stable) == ([], "repair", "v1")
    assert "gate" not in warm.steps
    warm.crash()
    assert warm.run(faced(1, GOOD))
    assert (numbers(warm), warm.job.state) == ([(1, "warm", "11")], "succeeded")


def test_zombie_counts_no_candidate(warm: World) -> None:
    def overtaken(folder: Path, progress: job_worker.Progress) -> job_worker.Report:
        warm.clock.forward(to_us(job_queue.LEASE_SECONDS + 1))
        job_worker.claimed(warm.database, now=warm.clock(), holder="heir")
        return faced(1, GOOD)

    warm.run(GAP, overtaken)
    assert (numbers(warm), warm.stable) == ([], "v1")


def earlier(world: World, candidates: int) -> None:
    """Candidates of earlier jobs of the incident that have faced its fresh rows."""
    with world.database.begin() as conn:
        for n in range(1, candidates + 1):
            test = FreshTest(
                number=n, sha256=f"e{n}" * 32, version="v1", since=NOW, recipe="warm",
                job_id=world.job_id, e_value=200.0, at=NOW,
            )  # fmt: skip
            fresh_tests.enter(conn, job_worker.INCIDENT, test)


def test_candidates_of_earlier_jobs_count(warm: World) -> None:
    earlier(warm, 2)
    warm.run(GAP, faced(3, WORSE))
    assert recipes_asked(warm) == [("warm", 3)]
    assert warm.job.state == "rejected"
    assert warm.job.outcome["reasons"] == [
        "fresh: worse",
        "scratch and trees: not tried, 3 candidates of this incident have faced its fresh rows",
    ]
    incident = job_worker.incident(warm.database)
    assert incident["stage"] == "awaiting_person"
    assert incident["why"].startswith("3 candidates of this incident have faced its fresh rows")
    with warm.database.begin() as conn, pytest.raises(UsageError, match="3 candidates"):
        lifecycle.approve(conn, incident, loop.LIMITS, actor="cli:ann", now=warm.clock())


def test_candidate_judged_under_a_number_of_another_ends_the_job(warm: World) -> None:
    earlier(warm, 1)
    warm.run(GAP, faced(1, GOOD))
    assert warm.job.state == "failed"
    assert "judged as number 1 of its incident and is number 2" in warm.job.outcome["why"]
    assert warm.stable == "v1"


def test_fourth_candidate_is_neither_counted_nor_published(warm: World) -> None:
    """Its gate refuses it; a report that says otherwise is believed by nobody."""
    earlier(warm, 3)
    warm.run(GAP, faced(4, GOOD))
    assert (warm.job.state, warm.stable, len(numbers(warm))) == ("failed", "v1", 3)
    assert "no more may" in warm.job.outcome["why"]


def test_third_candidate_about_which_a_person_was_asked_is_judged_again_as_the_third(
    warm: World,
) -> None:
    earlier(warm, 2)
    missing = NeedsPerson(gate="trusted", have=40, need=90, why="few", ask="trusted rows")
    warm.run(GAP, faced(3, missing))
    assert warm.job.state == "needs_person"
    with warm.database.begin() as conn:
        incident = job_worker.incident(warm.database)
        lifecycle.approve(conn, incident, LIMITS, actor="cli:ann", now=warm.clock())
    warm.run(faced(3, GOOD))
    assert warm.child.asked[-1].faced["33" * 32] == 3
    assert (warm.job.state, len(numbers(warm))) == ("succeeded", 3)


@pytest.fixture
def vouched(world: World, tmp_path: Path) -> World:
    """The same, whose rows a person has registered under an audit key."""
    database = job_worker.vouched(world.database, tmp_path / "audit.key")
    return World(database, world.home, world.job_id)


TAMPERED = {
    "weaker gates": ("UPDATE specs SET spec = replace(spec, '\"gates\":{}', '\"gates\":{\"agreement\":{\"least\":0.1}}')", "specs"),
    "other bytes to beat": ("UPDATE versions SET sha256 = hex(zeroblob(32))", "versions"),
    "another pointer": ("UPDATE pointers SET reason = 'me'", "pointers"),
    "no JSON": ("UPDATE versions SET files = '{'", "versions"),
    "no report": ("UPDATE versions SET report = '[1]'", "versions"),
}  # fmt: skip


@pytest.mark.parametrize(("statement", "row"), TAMPERED.values(), ids=TAMPERED)
def test_job_does_not_work_with_rows_that_the_audit_does_not_know(
    vouched: World, statement: str, row: str
) -> None:
    """Whoever writes SQL could loosen the gates while a job runs, and put them back before its release is
    signed."""
    with vouched.database.begin() as conn:
        assert conn.exec_driver_sql(statement).rowcount == 1
    assert vouched.run(GAP, ACCEPTED)
    assert (vouched.job.state, vouched.modes) == ("failed", [])
    assert row in str(vouched.job.outcome["why"])
    with vouched.database.read() as conn:
        told = signing_refusal.get(conn)
    assert told is not None
    assert (row in told.why, told.lasts(NOW)) == (True, True)


def test_job_works_with_rows_that_the_audit_knows(vouched: World) -> None:
    assert vouched.run(GAP, ACCEPTED)
    assert (vouched.job.state, vouched.modes) == ("succeeded", ["diagnose", "repair"])


def test_model_that_is_registered_while_a_job_reads_is_no_changed_row(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read before it and what the audit says after it do not agree."""
    world = make(loop.opened(database_url), tmp_path / "home")
    database = job_worker.vouched(world.database, tmp_path / "audit.key")
    here = World(database, world.home, world.job_id)
    read_inputs = job_spec.read_inputs

    def with_a_registration_after_it(*args: Any) -> Any:
        found = read_inputs(*args)
        job_worker.register_again(database)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(job_spec, "read_inputs", with_a_registration_after_it)
        assert here.run(GAP, undecided())
    assert here.job.state == "waiting_labels"
    job_worker.register_again(database)  # and while it waits
    labelled(database, range(101, 201))
    here.clock.forward(HOUR)
    assert here.run(ACCEPTED)
    with database.read() as conn:
        assert (here.job.state, signing_refusal.get(conn)) == ("succeeded", None)
    world.database.dispose()


def test_finding_that_cannot_be_read_ends_the_job_and_is_named(world: World) -> None:
    with world.database.begin() as conn:
        finding_id = conn.execute(sa.select(findings.c.finding_id)).scalar_one()
        conn.execute(sa.update(findings).values(body='{"kind": "from a newer redistill"}'))
    assert world.run(GAP, ACCEPTED)
    assert (world.job.state, world.modes) == ("failed", [])
    assert f"finding {finding_id} cannot be read" in str(world.job.outcome["why"])


def test_job_does_not_work_where_no_row_says_which_audit_key_counts(vouched: World) -> None:
    """Whoever takes that row away, and changes others, could put all of them back before the release is
    signed."""
    with vouched.database.begin() as conn:
        key = properties.get(conn, audit_key.AUDIT_KEY)
        assert key is not None
        properties.drop(conn, audit_key.AUDIT_KEY)
    with pytest.raises(KeysError, match="no MAC yet"):  # nor can its end be entered
        vouched.run(GAP, ACCEPTED)
    with vouched.database.begin() as conn:
        told = signing_refusal.get(conn)
        properties.put(conn, audit_key.AUDIT_KEY, key)
    assert vouched.modes == []
    assert told is not None
    assert "names the audit key" in told.why
    vouched.crash()
    assert vouched.run(GAP, ACCEPTED)
    assert vouched.job.state == "succeeded"

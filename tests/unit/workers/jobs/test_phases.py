"""The phases of a job: what each asks of the child, what it writes, and what it does not do twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import job_worker
import loop
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from job_worker import ScriptedChild, diagnosis, report
from loop import NOW, Clock
from served_rows import labelled, said, served

from redistill.compress import data as compress_data
from redistill.compress.plan import Accepted, ColumnCheck
from redistill.streams.store.database import Database
from redistill.streams.store.tables import feature_rows, labels, specs
from redistill.times import SECOND, to_us
from redistill.workers.errors import LeaseLost
from redistill.workers.jobs import job_spec, phases
from redistill.workers.jobs.child_outcome import ChildFailed
from redistill.workers.jobs.phases import Phases
from redistill.workers.jobs.session import JobSession, JobTransaction
from redistill.workers.jobs.waiting import LOOK_SECONDS, WaitingJobs
from redistill.workers.models.spec import LabelsSection, ModelSpec
from redistill.workers.store import job_queue
from redistill.workers.store.tables import jobs

ACCEPTED = report(decision=Accepted(variant="fp32"))


@dataclass
class World:
    """A registered model, and a worker that has claimed its only job."""

    database: Database
    home: Path
    job_id: str
    clock: Clock = field(default_factory=Clock)

    def claim(self, child: ScriptedChild) -> Phases:
        """The phases of the job, as a worker that has just claimed it sees them."""
        deps = job_worker.dependencies(self.database, self.home, child=child, clock=self.clock)
        session = JobSession(
            self.database,
            job_worker.claimed(self.database, now=self.clock()),
            actor=deps.actor,
            clock=self.clock,
            stop=deps.stop,
        )
        with session.read() as conn:
            context = job_spec.read_inputs(conn, session.job)
        return Phases(session, deps, context)

    def crash(self) -> None:
        """The worker is gone: its lease ends, and the job can be claimed again."""
        self.clock.forward(to_us(job_queue.LEASE_SECONDS + 1))

    @property
    def job(self) -> job_queue.Job:
        """The job as it stands."""
        return job_worker.job(self.database, self.job_id)

    @property
    def folder(self) -> Path:
        """Its folder."""
        return self.home / "jobs" / self.job_id


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    job_worker.registered(database, tmp_path / "home")
    with database.begin() as conn:
        job_id = job_worker.incident_with_job(conn)
    yield World(database, tmp_path / "home", job_id)
    database.dispose()


@pytest.fixture
def manual(tmp_path: Path) -> Iterator[World]:
    """The same with a job that a person asked for: it has no change point."""
    database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    job_worker.registered(database, tmp_path / "home", fresh_rows=200)
    with database.begin() as conn:
        job_id = job_worker.manual_job(conn)
    yield World(database, tmp_path / "home", job_id)
    database.dispose()


def traffic(world: World, rows: int, labels: int, *, first: int = 1, at: int = NOW) -> None:
    served(world.database, range(first, first + rows), at=at)
    if labels:
        labelled(world.database, range(first, first + labels))


def splits(world: World) -> dict[str, set[int]]:
    """Rows of ``fresh.parquet`` on each side."""
    table = pq.read_table(world.folder / "fresh.parquet").to_pylist()
    return {
        side: {row["id_hash"] for row in table if row["split"] == side}
        for side in ("train", "gate")
    }


def test_too_few_labels_are_not_diagnosed_but_waited_for(world: World) -> None:
    traffic(world, 100, phases.MIN_LABELS - 1)
    child = ScriptedChild()
    assert not world.claim(child).diagnose()
    assert child.asked == []
    job = world.job
    assert job.state == "waiting_labels"
    assert job.outcome["wait"] == {"count": "labelled", "rows": 20, "outcomes": 20}
    assert job.gate_rows == 19
    step = job_worker.steps(world.database, job.job_id)["diagnose"]
    assert (step["state"], step["cpu_seconds"]) == ("running", 0.0)
    assert job_worker.incident(world.database)["stage"] == "waiting_labels"


def test_compression_gap_goes_on_with_a_repair(world: World) -> None:
    traffic(world, 100, 40)
    child = ScriptedChild(diagnosis("compression_gap"))
    assert world.claim(child).diagnose()
    (spec,) = child.asked
    assert (spec.mode, spec.job_id, spec.trigger) == ("diagnose", world.job_id, "incident")
    assert child.folders == [
        {
            "job.json",
            "fresh.parquet",
            "reference.parquet",
            "trusted.parquet",
            "teacher/model.onnx",
            "incumbent/model.onnx",
        }
    ]
    assert world.folder.stat().st_mode & 0o777 == 0o700
    outcome = world.job.outcome
    assert (world.job.state, outcome["phase"], outcome["cause"]) == (
        "running", "repair", "compression_gap",
    )  # fmt: skip
    assert outcome["recipes"] == ["scratch", "trees"]  # fixed before anything is made
    assert [r["name"] for r in outcome["remedies"] if r["why_not"]] == [
        "reuse", "requantize", "temper", "warm",
    ]  # fmt: skip
    step = job_worker.steps(world.database, world.job_id)["diagnose"]
    assert (step["state"], step["cpu_seconds"]) == ("done", 1.5)
    assert step["detail"]["cause"] == "compression_gap"
    assert job_worker.incident(world.database)["stage"] == "repairing"


def test_undecided_diagnosis_waits_for_as_many_labels_again(world: World) -> None:
    traffic(world, 100, 40)
    assert not world.claim(ScriptedChild(diagnosis("unclear"))).diagnose()
    assert world.job.state == "waiting_labels"
    assert world.job.outcome["wait"]["rows"] == 60
    assert job_worker.steps(world.database, world.job_id)["diagnose"]["state"] == "running"


def test_what_is_wrong_with_the_window_is_handed_in(world: World) -> None:
    traffic(world, 100, 40)
    said(world.database, range(5, 15), "clerks", "default")
    with world.database.begin() as conn:
        spec = ModelSpec.from_json(conn.execute(sa.select(specs.c.spec)).scalar_one())
        spec = replace(spec, labels=LabelsSection(sources=("ledger", "clerks")))
        conn.execute(sa.update(specs).values(spec=spec.to_json()))
        conn.execute(sa.update(labels).values(state="superseded"))
        loop.store(conn, loop.finding(kind="quality", scope="x", harmful=None), now=NOW)
    child = ScriptedChild(diagnosis("data_bug"))
    assert not world.claim(child).diagnose()
    (asked,) = child.asked
    assert asked.checks == (ColumnCheck(column="x", rule="finding", value=0.0, open=True),)
    assert asked.raised_points == pytest.approx(55.0)
    assert asked.second_labels_before is None
    table = pq.read_table(world.folder / "fresh.parquet").to_pylist()
    assert {r["id_hash"] for r in table if r["second_label"] == "default"} == set(range(5, 15))


def test_as_many_labels_as_a_diagnosis_needs_are_enough(world: World) -> None:
    traffic(world, 100, phases.MIN_LABELS)
    child = ScriptedChild(diagnosis("unclear"))
    assert not world.claim(child).diagnose()
    assert len(child.asked) == 1
    assert world.job.outcome["wait"]["rows"] == 2 * phases.MIN_LABELS


@pytest.mark.parametrize(
    ("cause", "stage"),
    [
        ("concept_change", "awaiting_person"),
        ("labels_suspect", "awaiting_person"),
        ("none", "resolved"),
    ],
)
def test_what_training_cannot_mend_ends_the_job(world: World, cause: str, stage: str) -> None:
    traffic(world, 100, 40)
    assert not world.claim(ScriptedChild(diagnosis(cause))).diagnose()
    job = world.job
    assert (job.state, job.outcome["cause"]) == ("cancelled", cause)
    assert cause in job.outcome["why"]
    assert job.outcome["reasons"] == [job.outcome["why"]]
    assert job_worker.incident(world.database)["stage"] == stage


def test_report_without_a_diagnosis_is_the_childs_fault(world: World) -> None:
    traffic(world, 100, 40)
    with pytest.raises(ChildFailed, match="no diagnosis"):
        world.claim(ScriptedChild(report("diagnose"))).diagnose()


def test_too_few_rows_to_train_on_are_waited_for(world: World) -> None:
    traffic(world, 100, 0)  # half of them are the gate's
    child = ScriptedChild()
    assert world.claim(child).repair() is None
    assert child.asked == []
    assert not world.folder.exists()
    wait = world.job.outcome["wait"]
    assert (wait["count"], wait["rows"], wait["outcomes"]) == ("train", 64, 0)
    assert wait["look_at"] == NOW + 2 * SECOND
    assert f"{world.job.gate_rows} served rows to train on" in world.job.outcome["why"]


def test_training_rows_are_chosen_once(world: World) -> None:
    traffic(world, 300, 100)
    newest = NOW + 299 * SECOND
    child = ScriptedChild(ChildFailed("killed", kind="killed", retriable=True), ACCEPTED)
    with pytest.raises(ChildFailed):
        world.claim(child).repair()
    chosen = splits(world)
    assert (world.job.frozen_at, world.job.outcome) == (newest, {"incumbent": "v1"})
    window = job_worker.steps(world.database, world.job_id)["window"]["detail"]
    assert (window["since"], window["frozen_at"]) == (NOW, newest)
    assert window["gate_labelled"] == len(chosen["gate"])
    world.crash()
    traffic(world, 100, 0, first=301, at=NOW + 300 * SECOND)
    assert world.claim(child).repair() == ACCEPTED
    assert splits(world) == chosen
    assert world.job.frozen_at == newest


def test_lost_window_is_chosen_again(world: World) -> None:
    traffic(world, 300, 100)
    child = ScriptedChild(ChildFailed("killed", kind="killed", retriable=True), ACCEPTED)
    with pytest.raises(ChildFailed):
        world.claim(child).repair()
    (world.folder / "fresh.parquet").unlink()
    world.crash()
    world.claim(child).repair()
    assert splits(world)["train"]


def test_choice_of_a_lost_window_that_is_cut_short_is_made_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    traffic(world, 300, 100)
    child = ScriptedChild(ChildFailed("killed", kind="killed", retriable=True), ACCEPTED)
    with pytest.raises(ChildFailed):
        world.claim(child).repair()
    (world.folder / "fresh.parquet").unlink()
    world.crash()
    traffic(world, 100, 0, first=301, at=NOW + 300 * SECOND)
    with monkeypatch.context() as m:
        m.setattr(JobTransaction, "record", _lost)
        with pytest.raises(LeaseLost):
            world.claim(child).repair()
    assert max(splits(world)["train"]) > 300
    assert world.job.frozen_at is None
    world.crash()
    world.claim(child).repair()
    assert world.job.frozen_at == NOW + 399 * SECOND


def _lost(*_: object, **__: object) -> None:
    raise LeaseLost("another worker has it")


def test_job_that_chooses_its_rows_anew_waits_for_new_ones(world: World) -> None:
    traffic(world, 300, 0)
    child = ScriptedChild(ChildFailed("killed", kind="killed", retriable=True), ACCEPTED)
    with pytest.raises(ChildFailed):
        world.claim(child).repair()
    shutil.rmtree(world.folder)
    with world.database.begin() as conn:
        conn.execute(sa.delete(feature_rows))  # retention
    world.crash()
    assert world.claim(child).repair() is None
    assert world.job.state == "waiting_labels"
    traffic(world, 300, 0, first=301, at=NOW + 300 * SECOND)
    world.clock.forward(to_us(phases.LOOK_SECONDS))
    with world.database.read() as conn:
        ready = WaitingJobs(world.clock).ready(conn)
    assert ready is not None


def test_steps_are_recorded_as_they_finish_and_measured_by_the_child(world: World) -> None:
    traffic(world, 300, 100)
    seen: list[set[str]] = []

    def work(folder: Path, progress: job_worker.Progress) -> object:
        progress("train", 0.0)
        progress("train", 1.0)
        progress("export", 0.5)
        seen.append(set(job_worker.steps(world.database, world.job_id)))
        return ACCEPTED

    world.claim(ScriptedChild(work)).repair()  # type: ignore[arg-type]
    assert seen == [{"window", "train"}]
    steps = job_worker.steps(world.database, world.job_id)
    assert (steps["train"]["seconds"], steps["train"]["cpu_seconds"]) == (1.0, 1.5)
    # judging: what is left of the total of 1.75 s; its CPU time is in the training's
    assert (steps["gate"]["seconds"], steps["gate"]["cpu_seconds"]) == (0.5, None)
    assert steps["gate"]["detail"]["memory_bytes"] == 7


def test_step_that_ends_after_the_lease_was_lost_stops_the_child(world: World) -> None:
    traffic(world, 300, 100)

    def work(folder: Path, progress: job_worker.Progress) -> object:
        world.crash()
        job_worker.claimed(world.database, now=world.clock(), holder="heir")
        progress("train", 1.0)
        pytest.fail("the zombie went on")

    with pytest.raises(LeaseLost):
        world.claim(ScriptedChild(work)).repair()  # type: ignore[arg-type]
    assert "train" not in job_worker.steps(world.database, world.job_id)


def test_judging_again_takes_new_gate_rows_and_no_new_training_rows(world: World) -> None:
    traffic(world, 300, 100)
    again = report("gate", Accepted(variant="fp32"), seconds={"total": 0.75})
    child = ScriptedChild(ACCEPTED, again)
    world.claim(child).repair()
    first = splits(world)
    world.crash()
    traffic(world, 100, 100, first=301, at=NOW + 300 * SECOND)
    assert world.claim(child).judge_again() == again
    assert [spec.mode for spec in child.asked] == ["repair", "gate"]
    second = splits(world)
    assert first["gate"] < second["gate"]
    assert {h for h in second["train"] if h > 300} == set()
    gate = job_worker.steps(world.database, world.job_id)["gate"]
    assert (gate["seconds"], gate["cpu_seconds"]) == (0.75, 1.5)


def test_undecided_candidate_waits_for_new_gate_rows(world: World) -> None:
    traffic(world, 300, 40)
    claimed = world.claim(ScriptedChild(ACCEPTED))
    claimed.repair()
    judged = len(splits(world)["gate"])
    claimed.wait_for_labels("too few rows")
    job = world.job
    assert (job.state, job.outcome["phase"]) == ("waiting_labels", "gate")
    assert job.outcome["wait"] == {
        "count": "gate_labelled",
        "rows": judged + phases.NEW_GATE_ROWS,
        "outcomes": min(40, judged + phases.NEW_GATE_ROWS),
        "since": NOW,
    }
    assert (job.gate_rows, job.outcome["why"]) == (judged, "too few rows")


def test_job_without_a_change_point_keeps_the_begin_of_its_window(manual: World) -> None:
    traffic(manual, 300, 0)
    labelled(manual.database, range(150, 301))
    again = report("gate", Accepted(variant="fp32"))
    child = ScriptedChild(ACCEPTED, again)
    manual.claim(child).repair()
    begin = NOW + 100 * SECOND  # the last 200 rows
    window = job_worker.steps(manual.database, manual.job_id)["window"]["detail"]
    assert window["since"] == begin
    manual.crash()
    traffic(manual, 100, 100, first=301, at=NOW + 300 * SECOND)
    claimed = manual.claim(child)
    claimed.judge_again()
    sides = splits(manual)
    assert min(sides["train"] | sides["gate"]) > 100
    assert max(sides["gate"]) > 300
    claimed.wait_for_labels("too few rows")
    assert manual.job.outcome["wait"]["since"] == begin


def test_job_without_a_change_point_counts_labels_of_its_window_only(manual: World) -> None:
    traffic(manual, 300, 40)  # before the last 200 rows
    labelled(manual.database, range(150, 160))
    claimed = manual.claim(ScriptedChild(ACCEPTED))
    claimed.repair()
    claimed.wait_for_labels("too few rows")
    assert manual.job.outcome["wait"]["outcomes"] == 10


def test_source_that_was_asked_for_and_labels_no_row_of_the_window_is_waited_for(
    manual: World,
) -> None:
    with manual.database.begin() as conn:
        options = {"train_on": "labels", "source": "contractor"}
        conn.execute(sa.update(jobs).values(options=json.dumps(options)))
    traffic(manual, 300, 300)  # the believed source labels all of them
    said(manual.database, range(301, 401), "contractor", "default")  # rows that nobody has stored
    child = ScriptedChild(ACCEPTED)
    assert manual.claim(child).repair() is None
    job = manual.job
    assert (job.state, child.asked, job.gate_rows) == ("waiting_labels", [], 0)
    assert "0 rows to train on that v1 served have a label of 'contractor'" in job.outcome["why"]
    assert "half of all rows only judge" in job.outcome["why"]
    waiting = WaitingJobs(manual.clock)

    def ready() -> bool:
        with manual.database.read() as conn:
            return waiting.ready(conn) is not None

    manual.clock.forward(to_us(phases.LOOK_SECONDS))
    assert not ready()
    served(manual.database, range(301, 401), at=NOW + 300 * SECOND)
    assert not ready()  # it was looked at just now
    manual.clock.forward(to_us(LOOK_SECONDS))
    assert ready()


def test_source_that_nobody_has_seen_is_named_with_those_that_are_known(manual: World) -> None:
    with manual.database.begin() as conn:
        options = {"train_on": "labels", "source": "contractr"}
        conn.execute(sa.update(jobs).values(options=json.dumps(options)))
    traffic(manual, 300, 300)
    said(manual.database, range(1, 3), "contractor", "default")
    assert manual.claim(ScriptedChild(ACCEPTED)).repair() is None
    why = manual.job.outcome["why"]
    assert "no label of source 'contractr' is stored for credit; did you mean 'contractor'?" in why


def test_job_that_learns_from_labels_waits_for_as_many_as_the_pipeline_wants(
    manual: World,
) -> None:
    assert phases.MIN_LABELLED_TRAIN_ROWS == compress_data.MIN_TRAIN_ROWS
    with manual.database.begin() as conn:
        conn.execute(sa.update(jobs).values(options=json.dumps({"train_on": "labels"})))
    traffic(manual, 200, 40)  # some 20 of them to train on
    child = ScriptedChild(ACCEPTED)
    assert manual.claim(child).repair() is None
    job = manual.job
    assert (job.state, job.outcome["wait"]["count"]) == ("waiting_labels", "train_labelled")
    assert "rows to train on have a label, 32 are needed" in job.outcome["why"]
    waiting = WaitingJobs(manual.clock)
    manual.clock.forward(to_us(phases.LOOK_SECONDS))
    with manual.database.read() as conn:
        assert waiting.ready(conn) is None
    labelled(manual.database, range(41, 201))
    manual.clock.forward(to_us(LOOK_SECONDS))
    with manual.database.read() as conn:
        assert waiting.ready(conn) is not None


def test_begin_of_the_window_is_read_from_its_step() -> None:
    steps = [
        {"name": "train", "detail": None},
        {"name": "window", "detail": json.dumps({"since": 5})},
    ]
    assert phases.window_since(steps) == 5
    assert phases.window_since(steps[:1]) is None
    assert phases.window_since([{"name": "window", "detail": None}]) is None

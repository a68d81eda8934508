"""A job whose process dies at any of its stages, in every way: tried three times, then dead with
its record; the worker lives, and other jobs go on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import deadly_job
import job_worker
import loop
import pytest
import sqlalchemy as sa
from job_worker import RecordingPublisher, diagnosis, report
from loop import NOW, Clock
from pids import gone, zombies_of
from served_rows import labelled, served
from typer.testing import CliRunner

from redistill.compress.plan import Accepted, Undecidable, to_json
from redistill.streams.client.probe import ProbeDied
from redistill.streams.store.database import Database
from redistill.times import DAY, to_us
from redistill.workers.cli import jobs as jobs_command
from redistill.workers.jobs.child import Child
from redistill.workers.jobs.dependencies import WarmChild
from redistill.workers.jobs.retry import BACKOFF_SECONDS, MAX_TRIES
from redistill.workers.jobs.runner import Runner
from redistill.workers.store import opening

PIPELINE = '''
"""A pipeline that answers each mode from a file, and dies in the step that it is told to."""
import json, os
from pathlib import Path
import deadly_job

ANSWERS = Path(__file__).parent / "answers"
STEPS = {"repair": ("train", "quantize", "judge")}

def run(folder, *, progress):
    mode = json.loads((folder / "job.json").read_text())["mode"]
    plan = json.loads((ANSWERS / "deaths.json").read_text())
    with (ANSWERS / "pids").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    for step in STEPS.get(mode, (mode,)):
        progress(step, 0.0)
        if plan["step"] == step:
            deadly_job.DEATHS[plan["do"]](folder, {"report": "{"})
        progress(step, 1.0)
    (folder / "report.json").write_bytes((ANSWERS / f"{mode}.json").read_bytes())
'''

STAGES = ("diagnose", "train", "quantize", "judge", "gate")
DEATHS = {
    "segfault": "it crashed with SIGSEGV",
    "memory": "MemoryError",
    "killed": "it was killed by SIGKILL",
    "leaves": "as if it had finished, without report.json",
    "garbles": "Garbled",
    "stopped": "it did not finish within 1 s",
}
ALL = dict.fromkeys([("train", how) for how in DEATHS] + [(stage, "segfault") for stage in STAGES])


class Worker:
    """A runner with a real child that runs the pipeline above."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.answers = folder / "modules" / "answers"
        self.answers.mkdir(parents=True)
        (self.answers.parent / "mortal.py").write_text(PIPELINE)
        undecided = Undecidable(gate="fresh", have=40, need=90, why="too few rows")
        for mode, given in (
            ("diagnose", diagnosis("compression_gap")),
            ("repair", report(decision=Accepted(variant="fp32"))),
            ("gate", report("gate", decision=Accepted(variant="fp32"))),
            ("undecided", report(decision=undecided)),
        ):
            (self.answers / f"{mode}.json").write_bytes(to_json(given))
        path = os.pathsep.join([str(self.answers.parent), deadly_job.environment()["PYTHONPATH"]])
        self.child = Child.start("mortal:run", environment=deadly_job.environment(PYTHONPATH=path))
        self.clock, self.database = Clock(), database
        self.publisher = RecordingPublisher()
        self.deps = replace(
            job_worker.dependencies(
                database, folder / "home", publisher=self.publisher, clock=self.clock
            ),
            child=WarmChild(self.child), deadline_s=1.0, memory_bytes=2**28,
        )  # fmt: skip
        assert self.child.wait_ready()
        self.runner = Runner(self.deps)

    def die(self, step: str, do: str) -> None:
        """How jobs die from now on."""
        (self.answers / "deaths.json").write_text(json.dumps({"step": step, "do": do}))

    def tries(self) -> list[str]:
        """Claims until there is nothing to claim; what the jobs say after each."""
        said = []
        while self.runner.run_once():
            job = job_worker.job(self.database, self.job_id)
            said.append(str(job.outcome["last_error" if job.state == "queued" else "why"]))
            self.clock.forward(to_us(max(BACKOFF_SECONDS)))
        return said

    job_id = ""


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    (tmp_path / "home").mkdir()
    database = loop.opened(f"sqlite:///{tmp_path / 'home' / 'redistill.db'}")
    job_worker.registered(database, tmp_path / "home")
    with database.begin() as conn:
        conn.execute(sa.text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        conn.execute(sa.text(f"INSERT INTO alembic_version VALUES ('{opening.HEAD}')"))
        Worker.job_id = job_worker.incident_with_job(conn)
    served(database, range(1, 301))
    labelled(database, range(1, 101))
    made = Worker(tmp_path, database)
    yield made
    made.child.close()
    for pid in (made.answers / "pids").read_text().split():
        assert gone(int(pid))
    database.dispose()


@pytest.mark.parametrize(("stage", "how"), ALL)
def test_job_is_tried_three_times_and_is_then_dead_with_its_record(
    worker: Worker, stage: str, how: str
) -> None:
    if stage == "gate":  # a candidate that could not be decided, and more labels since
        repair = (worker.answers / "repair.json").read_bytes()
        (worker.answers / "repair.json").write_bytes(
            (worker.answers / "undecided.json").read_bytes()
        )
        worker.die("none", how)
        assert len(worker.tries()) == 1
        (worker.answers / "repair.json").write_bytes(repair)
        labelled(worker.database, range(101, 301))
    worker.die(stage, how)
    said = worker.tries()
    assert [line.partition(":")[0] for line in said] == [
        "try 1 of 3 failed", "try 2 of 3 failed", "all 3 tries failed; the last",
    ]  # fmt: skip
    assert all(DEATHS[how] in line for line in said), said
    assert how in ("memory", "leaves", "garbles") or f"in step '{stage}'" in said[0]
    job = job_worker.job(worker.database, worker.job_id)
    assert (job.state, job.outcome["why"]) == ("failed", said[-1])
    assert worker.child.alive
    assert not list(zombies_of(worker.child.pid))
    home = worker.deps.home
    shown = CliRunner().invoke(
        jobs_command.app, ["show", job.job_id], env={"REDISTILL_HOME": str(home)}
    )
    assert DEATHS[how] in " ".join(shown.output.split()), shown.output
    worker.die("none", how)
    with worker.database.begin() as conn:
        Worker.job_id = job_worker.manual_job(conn, now=NOW + DAY)
    worker.clock.forward(DAY)
    assert worker.tries()[-1].startswith("published")


def test_folder_that_is_gone_at_the_last_stage_is_a_failed_try(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.die("none", "")
    prepare, left = worker.publisher.prepare, [FileNotFoundError(2, "No such file", "report.json")]

    def gone_once(*given: object) -> object:
        if left:
            raise left.pop()
        return prepare(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(worker.publisher, "prepare", gone_once)
    said = worker.tries()
    assert said[0].startswith("try 1 of 3 failed: FileNotFoundError: ")
    assert said[1].startswith("published")


def test_load_child_that_died_is_a_failed_try(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.die("none", "")
    prepare, left = worker.publisher.prepare, [ProbeDied("loading it ended with SIGSEGV")] * 2

    def dies(*given: object) -> object:
        if left:
            raise left.pop()
        return prepare(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(worker.publisher, "prepare", dies)
    said = worker.tries()
    assert len(said) == MAX_TRIES
    assert said[1] == "try 2 of 3 failed: loading it ended with SIGSEGV"
    assert said[2].startswith("published")

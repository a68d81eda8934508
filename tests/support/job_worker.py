"""A worker of jobs whose child and publisher answer at once: what is written, and when, is real."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import loop
import sqlalchemy as sa
from loop import LIMITS, NOW, Clock

from redistill.compress.plan import Decision, Diagnosis, JobSpec, Report, read_job_spec, to_json
from redistill.streams.store.database import Database
from redistill.times import HOUR
from redistill.workers.incidents import incident_repository
from redistill.workers.jobs.child import Child, ChildCancelled, ChildRun
from redistill.workers.jobs.dependencies import Dependencies, WarmChild
from redistill.workers.jobs.publish import Publisher
from redistill.workers.models import objects
from redistill.workers.models.spec import ModelSpec
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.store import checkpoints, job_queue
from redistill.workers.store.job_queue import Claim
from redistill.workers.store.tables import incidents, versions

HOLDER = "w1"
INCIDENT = "11111111-2222-3333-4444-555555555555"

Progress = Callable[[str, float], None]
Answer = Report | Exception | Callable[[Path, Progress], Report]


class ScriptedChild:
    """Answers the runs of a job one after the other.

    Attributes
    ----------
    asked
        ``job.json`` of every run.
    folders
        Names of the files in the job's folder at every run.
    """

    def __init__(self, *answers: Answer) -> None:
        self.ready = True
        self.alive = True
        self.answers = list(answers)
        self.asked: list[JobSpec] = []
        self.folders: list[set[str]] = []

    def run(
        self,
        folder: Path,
        *,
        deadline_s: float,
        memory_bytes: int | None = None,
        progress: Progress | None = None,
        cancelled: threading.Event | None = None,
    ) -> ChildRun:
        """What ``Child.run`` does, without a process."""
        self.asked.append(read_job_spec((folder / "job.json").read_bytes()))
        self.folders.append({str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()})
        if cancelled is not None and cancelled.is_set():
            raise ChildCancelled("ended on request")
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        report = answer if isinstance(answer, Report) else answer(folder, progress or _silent)
        (folder / "report.json").write_bytes(to_json(report))
        return ChildRun(report=report, seconds=2.0, cpu_seconds=1.5, memory_bytes=7)

    def close(self) -> None:
        """Nothing to end."""


class RecordingPublisher:
    """Moves the pointer's rows; signs nothing and stores no file.

    Attributes
    ----------
    rejections
        Reports of candidates that were announced as rejected.
    woken
        How often the writer of the repository was woken.
    """

    VERSION = "r1-abababab"

    def __init__(self) -> None:
        self.rejections: list[Report] = []
        self.woken = 0
        self.before_commit: Callable[[sa.Connection], None] = lambda conn: None

    def prepare(self, folder: Path, context: Any) -> Any:
        """A candidate as ``Publisher.prepare`` gives it."""
        return SimpleNamespace(sha256=loop.SHA)

    def publish(
        self, conn: sa.Connection, candidate: Any, context: Any, *, actor: str, now: int
    ) -> Any:
        """Move the pointer."""
        loop.point(conn, context.job.model, self.VERSION, now=now, kind="incident")
        self.before_commit(conn)
        return SimpleNamespace(version=self.VERSION, epoch=2)

    def published(self) -> None:
        """Count."""
        self.woken += 1

    def rejected(
        self, conn: sa.Connection, report: Report, context: Any, *, now: int
    ) -> str | None:
        """Keep the report."""
        self.rejections.append(report)
        return loop.SHA


def dependencies(
    database: Database,
    home: Path,
    *,
    child: ScriptedChild | None = None,
    publisher: RecordingPublisher | None = None,
    clock: Clock | None = None,
) -> Dependencies:
    """What working on jobs needs, with what answers at once."""
    scripted = child or ScriptedChild()
    return Dependencies(
        database=database,
        home=home,
        holder=HOLDER,
        child=WarmChild(cast(Child, scripted)),
        fleet_limits=LIMITS,
        publisher=cast(Publisher, publisher or RecordingPublisher()),
        deadline_s=60.0,
        memory_bytes=None,
        clock=clock or Clock(),
    )


def registered(database: Database, home: Path, **repair: Any) -> ModelSpec:
    """The model ``credit`` at level *repair*, version ``v1`` serving, with every file a job needs."""
    folder = home / "objects"
    stored = {
        role: objects.put_bytes(folder, role.encode())
        for role in ("reference", "trusted", "teacher")
    }
    spec = replace(loop.spec(**repair), objects=stored)
    entry = release_file(home, "model.onnx", b"the graph of v1")
    with database.begin() as conn:
        loop.register(conn, spec)
        conn.execute(sa.update(versions).values(files=json.dumps({"model.onnx": entry})))
    return spec


def release_file(home: Path, name: str, data: bytes) -> dict[str, Any]:
    """A file of a release of ``credit`` in the repository; its entry in ``versions.files``."""
    digest = sha256(data).hexdigest()
    path = RepositoryLayout(home).path("credit", name, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"sha256": digest, "bytes": len(data)}


def incident_with_job(conn: sa.Connection, *, now: int = NOW) -> str:
    """An open incident of harm since ``now``, and its job; the job's id.

    What raised the alarm was known before: labels of ``now`` and later may judge.
    """
    found = loop.finding(version="v1", at=now - 1)
    loop.store(conn, found, now=now)
    incident_repository.open_new(
        conn,
        incident_id=INCIDENT,
        model="credit",
        version="v1",
        incident_class="harm",
        finding_id=str(found.finding_id),
        change=(now, now),
        why="measured",
        actor="test",
        now=now,
        salt="s",
    )
    job_id = job_queue.job_id_of(INCIDENT, 1)
    job_queue.create(
        conn,
        job_id,
        model="credit",
        trigger=("incident", INCIDENT),
        incident_id=INCIDENT,
        deadline_at=now + HOUR,
        now=now,
    )
    return job_id


def manual_job(conn: sa.Connection, *, now: int = NOW, **options: Any) -> str:
    """A job that a person asked for; its id."""
    job_id = str(uuid4())
    assert job_queue.create(
        conn,
        job_id,
        model="credit",
        trigger=("actor", "cli:ann"),
        deadline_at=now + HOUR,
        now=now,
        options=options,
    )
    return job_id


def claimed(database: Database, *, now: int = NOW, holder: str = HOLDER) -> Claim:
    """Claim the only job."""
    claim = job_queue.claim(database, holder, now=now)
    assert claim is not None
    return claim


def job(database: Database, job_id: str) -> job_queue.Job:
    """A job as it stands."""
    with database.read() as conn:
        stored = job_queue.get(conn, job_id)
    assert stored is not None
    return stored


def steps(database: Database, job_id: str) -> dict[str, dict[str, Any]]:
    """Steps of a job by name, their details decoded."""
    with database.read() as conn:
        return {
            s["name"]: {**s, "detail": json.loads(s["detail"] or "null")}
            for s in checkpoints.read(conn, job_id)
        }


def incident(database: Database) -> dict[str, Any]:
    """The only incident."""
    with database.read() as conn:
        return dict(conn.execute(sa.select(incidents)).mappings().one())


def report(mode: str = "repair", decision: Decision | None = None, **values: Any) -> Report:
    """A report of the child."""
    seconds = {"train": 1.0, "gate": 0.25, "total": 1.75}
    return Report(
        job_id="j", model="credit", mode=cast(Any, mode), decision=decision,
        policy_sha256="0" * 64, **({"seconds": seconds} | values),
    )  # fmt: skip


def diagnosis(cause: str) -> Report:
    """The child's answer to what is to blame."""
    return report(
        "diagnose",
        seconds={},
        diagnosis=Diagnosis(
            cause=cast(Any, cause),
            why=f"it is {cause}",
            student_loss_points=None,
            teacher_loss_points=None,
            disagreement=None,
            labelled=40,
        ),
    )


def _silent(step: str, share: float) -> None:
    """Nobody wants to know."""

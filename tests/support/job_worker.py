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
import pyarrow as pa
import pyarrow.parquet as pq
import sqlalchemy as sa
from loop import LIMITS, NOW, Clock

from redistill.compress.plan import (
    Cause,
    Decision,
    Diagnosis,
    JobSpec,
    Measure,
    Mode,
    Report,
    Variant,
    read_job_spec,
    to_json,
)
from redistill.streams.store import properties
from redistill.streams.store.database import Database
from redistill.streams.store.tables import specs
from redistill.times import HOUR
from redistill.workers.incidents import incident_repository
from redistill.workers.jobs.child import Child
from redistill.workers.jobs.child_outcome import ChildCancelled, ChildRun
from redistill.workers.jobs.dependencies import Dependencies, WarmChild
from redistill.workers.jobs.job_spec import TRAINING, JobInputs
from redistill.workers.jobs.publish import Publisher
from redistill.workers.models import objects
from redistill.workers.models.spec import ModelSpec
from redistill.workers.releases import trail
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.store import audit as audit_log
from redistill.workers.store import audit_key, checkpoints, job_queue
from redistill.workers.store.job_queue import Claim
from redistill.workers.store.tables import audit, incidents, jobs, versions

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
    fresh
        ``fresh.parquet`` of every run that brought it.
    """

    def __init__(self, *answers: Answer) -> None:
        self.ready = True
        self.alive = True
        self.why = "it was killed"
        self.answers = list(answers)
        self.asked: list[JobSpec] = []
        self.folders: list[set[str]] = []
        self.fresh: list[pa.Table] = []

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
        if (fresh := folder / "fresh.parquet").is_file():
            self.fresh.append(pq.read_table(fresh))
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

    def prepare(self, folder: Path, context: JobInputs) -> Any:
        """A candidate as ``Publisher.prepare`` gives it."""
        return SimpleNamespace(sha256=loop.SHA)

    def publish(
        self, conn: sa.Connection, candidate: Any, context: JobInputs, *, actor: str, now: int
    ) -> Any:
        """Move the pointer."""
        loop.point(conn, context.job.model, self.VERSION, now=now, kind="incident")
        self.before_commit(conn)
        return SimpleNamespace(version=self.VERSION, epoch=2)

    def published(self) -> None:
        """Count."""
        self.woken += 1

    def rejected(
        self, conn: sa.Connection, report: Report, context: JobInputs, *, now: int
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
    stored, entry = stored_files(home)
    spec = replace(loop.spec(**repair), objects=stored)
    with database.begin() as conn:
        loop.register(conn, spec)
        conn.execute(sa.update(versions).values(files=json.dumps({"model.onnx": entry})))
    return spec


def stored_files(home: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every file that a job of the model needs: its objects by role, and its release's entry."""
    stored = {
        role: objects.put_bytes(home / "objects", role.encode())
        for role in ("reference", "trusted", "teacher")
    }
    return stored, release_file(home, "model.onnx", b"the graph of v1")


def release_file(home: Path, name: str, data: bytes) -> dict[str, Any]:
    """A file of a release of ``credit`` in the repository; its entry in ``versions.files``."""
    digest = sha256(data).hexdigest()
    path = RepositoryLayout(home).path("credit", name, digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return {"sha256": digest, "bytes": len(data)}


def with_training(database: Database, home: Path) -> None:
    """The weights of ``v1`` are known as well."""
    with database.begin() as conn:
        files = json.loads(conn.execute(sa.select(versions.c.files)).scalar_one())
        files |= {name: release_file(home, name, name.encode()) for name in TRAINING}
        conn.execute(sa.update(versions).values(files=json.dumps(files)))


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
    conn.execute(sa.update(incidents).values(attempt=1))
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


def only_job(conn: sa.Connection) -> job_queue.Job:
    """The only job."""
    (job_id,) = conn.execute(sa.select(jobs.c.job_id)).scalars()
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


def report(mode: Mode = "repair", decision: Decision | None = None, **values: Any) -> Report:
    """A report of the child."""
    seconds = {"train": 1.0, "gate": 0.25, "total": 1.75}
    return Report(
        job_id="j", model="credit", mode=mode, decision=decision,
        policy_sha256="0" * 64, **({"seconds": seconds} | values),
    )  # fmt: skip


def faced(number: int, decision: Decision | None = None, **values: Any) -> Report:
    """A report about a candidate that faced fresh rows under a number."""
    candidate = Variant(
        name="fp32", sha256=f"{number}{number}" * 32, bytes=9, p50_ms=0.1, p95_ms=0.2,
        trusted_accuracy=Measure(value=0.9, low=None, high=None, n=100), fresh_accuracy=None,
        agreement=None,
    )  # fmt: skip
    given = {"chosen": "fp32", "variants": (candidate,), "recipe": number, "faced": True}
    return report(decision=decision, **given | values)


def diagnosis(cause: Cause) -> Report:
    """The child's answer to what is to blame."""
    return report(
        "diagnose",
        seconds={},
        diagnosis=Diagnosis(
            cause=cause,
            why=f"it is {cause}",
            student_loss_points=None,
            teacher_loss_points=None,
            disagreement=None,
            labelled=40,
        ),
    )


def _silent(step: str, share: float) -> None:
    """Nobody wants to know."""


def vouched(database: Database, key: Path) -> Database:
    """The same database under an audit key, with an entry that vouches for the rows of the
    model."""
    carried = audit_key.with_key(database, key)
    with carried.begin() as conn:
        conn.execute(sa.delete(audit))
        properties.drop(conn, audit_log.HEAD)
        rows = trail.as_it_stands(conn, "credit")
        audit_log.append(conn, "cli:ann", trail.ADOPTED, "credit", rows, NOW)
    return carried


def register_again(database: Database) -> None:
    """Another specification is stored, and the audit says so, as ``redistill register`` does."""
    with database.begin() as conn:
        text = conn.execute(sa.select(specs.c.spec)).scalar_one() + " "
        conn.execute(sa.update(specs).values(spec=text))
        body = {"spec_sha256": trail.text_sha256(text)}
        audit_log.append(conn, "cli:ann", "model.changed", "credit", body, NOW)

"""What a candidate is published with, and how a rejected one is announced."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import job_worker
import loop
import numpy as np
import onnx
import pytest
import release_rows
import sqlalchemy as sa
from job_worker import report
from loop import NOW
from release_kit import graph, model_of
from served_rows import labelled, served

from redistill.compress.plan import Gate, Measure, Rejected, Report, Variant, to_json
from redistill.files import sha256_of
from redistill.streams.client.session import Session
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.input_profile import Profile
from redistill.streams.store.database import Database
from redistill.streams.store.tables import outbox, profiles
from redistill.times import SECOND, utc
from redistill.workers.errors import RegistryError
from redistill.workers.jobs import job_spec, publish, training_window
from redistill.workers.jobs.job_spec import JobInputs
from redistill.workers.jobs.publish import EarlierRelease, Publisher
from redistill.workers.releases import roles
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.store.tables import jobs, pointer_history, versions

WEIGHTS = np.array([[1.0, -1.0], [0.0, 0.0]], np.float32)
"""The class is the sign of x."""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    job_worker.registered(opened, tmp_path / "home")
    with opened.begin() as conn:
        job_worker.incident_with_job(conn)
        roles.ensure(conn, release_rows.TRUST, now=NOW, lifetimes=release_rows.LIFETIMES)
    yield opened
    opened.dispose()


def context(database: Database) -> JobInputs:
    with database.read() as conn:
        (job_id,) = conn.execute(sa.select(jobs.c.job_id)).scalars()
        return job_spec.read_inputs(conn, job_worker.job(database, job_id))


class Made:
    """A publisher whose packages are made without trying the graph in a process of its own."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: dict[str, Any] = {}
        self.woken = 0
        monkeypatch.setattr(publish, "build_package", self._build)
        self.publisher = Publisher(
            RepositoryLayout(home),
            lifetimes=release_rows.LIFETIMES,
            wake_writer=self._count,
            load_memory_bytes=2**28,
            load_seconds=3.0,
        )

    def _count(self) -> None:
        self.woken += 1

    def _build(self, candidate: Path, **options: Any) -> Any:
        self.asked = options
        package = release_rows.package(
            options["version"],
            kind=options["kind"],
            predecessor=options["predecessor"],
            job_id=options["job_id"],
            policy_sha256=options["policy_sha256"],
        )
        sha256 = sha256_of(candidate / "model.onnx")
        return replace(package, manifest=replace(package.manifest, sha256=sha256))


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    return Made(tmp_path / "home", monkeypatch)


def variant(name: str, accuracy: float | None = None, passed: tuple[bool, ...] = ()) -> Variant:
    measure = Measure(value=0.9, low=None, high=None, n=100)
    return Variant(
        name=name,
        sha256=release_rows.digest(name),
        bytes=1,
        p50_ms=0.1,
        p95_ms=0.1,
        trusted_accuracy=measure,
        fresh_accuracy=None if accuracy is None else replace(measure, value=accuracy),
        agreement=None,
        gates=tuple(
            Gate(name=f"g{i}", value=1.0, limit=2.0, passed=p, why="because")
            for i, p in enumerate(passed)
        ),
    )


def folder_of(database: Database, home: Path, judged: Report) -> Path:
    """A job's folder as the child leaves it."""
    found = context(database)
    folder = home / "jobs" / found.job.job_id
    (folder / "candidate").mkdir(parents=True)
    onnx.save(
        model_of(graph(WEIGHTS, np.zeros(2, np.float32)).graph), folder / "candidate" / "model.onnx"
    )
    (folder / "report.json").write_bytes(to_json(judged))
    with database.read() as conn:
        query = job_spec.window_query(found, frozen_at=None, since=None)
        training_window.write(training_window.read(conn, query), folder / "fresh.parquet")
    return folder


CHOSEN = report(
    chosen="fp32",
    variants=(variant("fp32", 0.75), variant("int8", 0.1)),
    environment={"cpu_flags": ["avx2", "vnni"]},
)


def test_candidate_is_packaged_under_its_jobs_name(
    database: Database, made: Made, tmp_path: Path
) -> None:
    served(database, range(1, 101))
    labelled(database, range(1, 51))
    folder = folder_of(database, tmp_path / "home", CHOSEN)
    candidate = made.publisher.prepare(folder, context(database))
    assert candidate.sha256 == sha256_of(folder / "candidate" / "model.onnx")
    assert made.asked["version"] == f"r1-{candidate.sha256[:8]}"
    assert (made.asked["kind"], made.asked["predecessor"]) == ("repaired", "v1")
    assert made.asked["job_id"] == folder.name
    assert made.asked["cpu_flags"] == ("avx2", "vnni")
    assert made.asked["created_at"] == utc(NOW)
    assert (made.asked["load_memory_bytes"], made.asked["load_seconds"]) == (2**28, 3.0)
    assert json.loads(candidate.report)["chosen"] == "fp32"


def test_earlier_release_is_not_packaged_and_has_to_be_one(
    database: Database, made: Made, tmp_path: Path
) -> None:
    again = report(chosen="reuse", reused="v0", variants=(variant("reuse", 0.75),))
    folder = tmp_path / "job"
    folder.mkdir()
    (folder / "report.json").write_bytes(to_json(again))
    candidate = made.publisher.prepare(folder, context(database))
    assert candidate == EarlierRelease(version="v0", sha256=release_rows.digest("reuse"))
    assert made.asked == {}
    with database.begin() as conn, pytest.raises(RegistryError, match="v0"):
        made.publisher.publish(conn, candidate, context(database), actor="w", now=NOW)


def test_release_of_a_schedule_is_dated_by_its_window(
    database: Database, made: Made, tmp_path: Path
) -> None:
    with database.begin() as conn:
        conn.execute(sa.delete(jobs))
        job_worker.manual_job(conn)
        conn.execute(sa.update(jobs).values(trigger_kind="schedule", frozen_at=NOW + 9 * SECOND))
    served(database, range(1, 101))
    made.publisher.prepare(folder_of(database, tmp_path / "home", CHOSEN), context(database))
    assert made.asked["kind"] == "scheduled"
    assert made.asked["created_at"] == utc(NOW + 9 * SECOND)


def test_base_error_is_the_candidates_own_on_gate_rows(
    database: Database, made: Made, tmp_path: Path
) -> None:
    served(database, range(1, 101))
    folder = folder_of(database, tmp_path / "home", CHOSEN)
    candidate = made.publisher.prepare(folder, context(database))
    assert candidate.base_error is not None
    base = BaseError.from_json(candidate.base_error)
    assert (base.errors, base.n, base.provisional) == (25, 100, True)
    assert not base.ordered


@pytest.mark.parametrize(
    "judged",
    [
        report(chosen="fp32", variants=(variant("fp32"),)),
        report(chosen=None, variants=(variant("fp32", 0.75),)),
    ],
)
def test_candidate_without_labelled_gate_rows_has_no_base_error_yet(
    database: Database, made: Made, tmp_path: Path, judged: Report
) -> None:
    served(database, range(1, 101))
    folder = folder_of(database, tmp_path / "home", judged)
    assert made.publisher.prepare(folder, context(database)).base_error is None


def test_profile_is_of_the_newest_rows_with_the_candidates_answers(
    database: Database, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "PROFILE_ROWS", 20)
    served(database, range(-100, 101))
    folder = folder_of(database, tmp_path / "home", CHOSEN)
    candidate = made.publisher.prepare(folder, context(database))
    profile = Profile.from_bytes(candidate.profile)
    assert profile.rows == 20
    columns = {c.name: c for c in profile.columns}
    assert columns["x"].low > 50.0
    # all of them have a positive x, to which the graph answers one class
    assert (columns["prediction"].distinct, columns["score"].valid) == (1, 20)


def test_row_without_an_answer_has_no_class_in_the_profile(
    database: Database, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served(database, range(1, 101))
    folder = folder_of(database, tmp_path / "home", CHOSEN)

    def mostly_silent(self: Session, x: np.ndarray) -> np.ndarray:
        out = np.full((len(x), 2), np.nan, np.float32)
        out[:10] = 0.0, 1.0
        return out

    monkeypatch.setattr(Session, "run", mostly_silent)
    profile = Profile.from_bytes(made.publisher.prepare(folder, context(database)).profile)
    columns = {c.name: c for c in profile.columns}
    assert (columns["prediction"].valid, columns["prediction"].distinct) == (10, 1)


def test_publish_enters_the_version_and_moves_the_pointer(
    database: Database, made: Made, tmp_path: Path
) -> None:
    served(database, range(1, 101))
    folder = folder_of(database, tmp_path / "home", CHOSEN)
    candidate = made.publisher.prepare(folder, context(database))
    with database.begin() as conn:
        move = made.publisher.publish(
            conn, candidate, context(database), actor="worker:w1", now=NOW + 5
        )
    assert (move.previous, move.epoch) == ("v1", 2)
    with database.read() as conn:
        entered = conn.execute(sa.select(versions).where(versions.c.version == move.version)).one()
        profile = conn.execute(sa.select(profiles).where(profiles.c.version == move.version)).one()
        moved = conn.execute(sa.select(pointer_history).where(pointer_history.c.epoch == 2)).one()
    assert (entered.status, entered.gate_passed, entered.job_id) == ("published", True, folder.name)
    assert (profile.profile, profile.provisional) == (candidate.profile, True)
    assert json.loads(moved.trigger) == {"kind": "incident", "id": job_worker.INCIDENT}
    assert moved.reason == f"repair of incident {job_worker.INCIDENT}"
    assert made.woken == 0
    made.publisher.published()
    assert made.woken == 1


def test_barred_bytes_are_not_published(database: Database, made: Made, tmp_path: Path) -> None:
    from redistill.workers.releases import registry

    served(database, range(1, 101))
    folder = folder_of(database, tmp_path / "home", CHOSEN)
    candidate = made.publisher.prepare(folder, context(database))
    with database.begin() as conn:
        registry.bar(conn, "credit", candidate.sha256, reason="it was worse", now=NOW)
    with pytest.raises(RegistryError, match="it was worse"), database.begin() as conn:
        made.publisher.publish(conn, candidate, context(database), actor="w", now=NOW)


def rejected(database: Database, made: Made, judged: Report) -> dict[str, Any] | None:
    """The announcement of a rejection."""
    with database.begin() as conn:
        sha256 = made.publisher.rejected(conn, judged, context(database), now=NOW)
        events = conn.execute(
            sa.select(outbox.c.value).where(outbox.c.topic == "releases")
        ).scalars()
        values = [json.loads(bytes(v)) for v in events]
    if not values:
        assert sha256 is None
        return None
    (event,) = values
    assert event["sha256"] == sha256
    return dict(event)


def test_rejection_announces_the_candidate_that_came_nearest(
    database: Database, made: Made
) -> None:
    judged = report(
        decision=Rejected(reasons=("too slow",)),
        variants=(
            variant("fp32", passed=(True, False, False)),
            variant("static_int8", passed=(True, True, False)),
            variant("dynamic_int8", passed=(False, False, False)),
        ),
    )
    event = rejected(database, made, judged)
    assert event is not None
    assert event["sha256"] == release_rows.digest("static_int8")
    assert [g["passed"] for g in event["gates"]] == [True, True, False]
    assert (event["status"], event["version"][:3]) == ("rejected", "r1-")
    assert event["trigger"] == {"kind": "incident", "id": job_worker.INCIDENT}


def test_chosen_candidate_is_announced_whatever_the_others_passed(
    database: Database, made: Made
) -> None:
    judged = report(
        chosen="fp32",
        gates=(Gate(name="all", value=None, limit=None, passed=False, why="no"),),
        variants=(variant("fp32"), variant("static_int8", passed=(True, True))),
    )
    event = rejected(database, made, judged)
    assert event is not None
    assert event["sha256"] == release_rows.digest("fp32")
    assert [g["name"] for g in event["gates"]] == ["all"]  # those of the report


def test_job_without_a_candidate_announces_none(database: Database, made: Made) -> None:
    assert rejected(database, made, report()) is None


def test_reason_of_a_persons_job_names_the_job(database: Database, made: Made) -> None:
    with database.begin() as conn:
        conn.execute(sa.delete(jobs))
        job_worker.manual_job(conn)
    found = context(database)
    assert publish._reason(found) == f"actor job {found.job.number}"
    assert publish.trigger_of(found).id == "cli:ann"

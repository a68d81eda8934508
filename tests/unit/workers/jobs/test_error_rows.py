"""What errors to expect of a candidate's slices: from the job's folder to the tests of its rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import job_worker
import loop
import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
import release_rows
import sqlalchemy as sa
from loop import NOW
from release_kit import graph, model_of
from served_rows import joinable, labelled, said, served

from redistill.compress import candidate
from redistill.compress.plan import ERROR_ROWS, Measure, Variant, to_json
from redistill.compress.rows import Rows
from redistill.files import sha256_of_bytes
from redistill.streams.monitor.base_error import BaseError
from redistill.streams.monitor.config import WatchConfig
from redistill.streams.monitor.expected_error import ExpectedError
from redistill.streams.monitor.outcomes import AccuracyState
from redistill.streams.store.database import Database
from redistill.streams.store.join_step import join_labels
from redistill.streams.store.tables import accuracy_states, labels, profiles, specs
from redistill.times import DAY
from redistill.workers.jobs import error_rows, job_spec, publish, training_window
from redistill.workers.jobs.job_spec import JobInputs
from redistill.workers.jobs.publish import Publisher
from redistill.workers.models.spec import ModelSpec
from redistill.workers.releases import roles
from redistill.workers.releases.release_files import RepositoryLayout
from redistill.workers.store.tables import audit, jobs

KEY = b"k" * 32


def sliced(spec: ModelSpec | None = None) -> ModelSpec:
    """The model, with slices by a segment."""
    spec = spec or loop.spec()
    return replace(spec, schema=replace(spec.schema, slices=("region",)))


def write_rows(folder: Path, spec: ModelSpec, n: int) -> tuple[int, int]:
    """Rows as a job leaves them: one in ten is wrong in the EU, three in ten in the US; how many
    are wrong, of how many."""
    folder.mkdir(parents=True, exist_ok=True)
    i = np.arange(n)
    wrong = np.where(i % 2 == 0, i % 20 == 0, i % 20 < 6)
    truth = i % 3 % 2
    answered = np.where(wrong, 1 - truth, truth)
    none = np.zeros(n, np.int64)
    rows = Rows(
        x=np.zeros((n, 2), np.float32), y=truth, gate=np.ones(n, np.bool_), id_hash=i,
        served_at=none, source=["ledger"] * n, prediction=none - 1,
        segments={"region": ["EU" if k % 2 == 0 else "US" for k in range(n)]},
    )  # fmt: skip
    scores = np.where(answered[:, None] == [0, 1], 2.0, -2.0).astype(np.float32)
    pq.write_table(candidate.error_rows(scores, rows, spec.graph()), folder / ERROR_ROWS)
    return int(wrong.sum()), n


def test_slices_of_the_rows_have_their_errors(tmp_path: Path) -> None:
    spec = sliced()
    wrong, n = write_rows(tmp_path, spec, 600)
    text = error_rows.read_expected_error(tmp_path, spec, "r1")
    assert text is not None
    found = ExpectedError.from_json(text)
    assert (found.errors, found.n) == (wrong, n)
    assert [(s.name, s.n, s.errors) for s in found.slices] == [
        ("region=EU", 300, 30),
        ("region=US", 300, 90),
    ]
    assert {s.inflation for s in found.slices} == {((1.0, 1.0),)}  # runs cannot be seen
    assert found.edges != ()


@pytest.mark.parametrize("why", ["no file", "few rows", "no slices"])
def test_without_a_slice_of_rows_enough_there_is_none(tmp_path: Path, why: str) -> None:
    spec = loop.spec() if why == "no slices" else sliced()
    if why != "no file":
        write_rows(tmp_path, spec, 198 if why == "few rows" else 600)
    assert error_rows.read_expected_error(tmp_path, spec, "r1") is None


@dataclass
class World:
    """A model with slices, and the incident for which it is repaired."""

    database: Database
    home: Path
    spec: ModelSpec
    publisher: Publisher

    def context(self) -> JobInputs:
        with self.database.read() as conn:
            (job_id,) = conn.execute(sa.select(jobs.c.job_id)).scalars()
            return job_spec.read_inputs(conn, job_worker.job(self.database, job_id))

    def publish(self, rows: int) -> str:
        """Publish a candidate that was judged on so many rows; its version."""
        context = self.context()
        folder = self.home / "jobs" / context.job.job_id
        (folder / "candidate").mkdir(parents=True)
        model = model_of(graph(np.eye(2, dtype=np.float32), np.zeros(2, np.float32)).graph)
        onnx.save(model, folder / "candidate" / "model.onnx")
        wrong, n = write_rows(folder, self.spec, rows)
        accuracy = Measure(value=1 - wrong / n, low=None, high=None, n=n)
        chosen = Variant(
            name="fp32", sha256=release_rows.digest("fp32"), bytes=1, p50_ms=0.1, p95_ms=0.1,
            trusted_accuracy=accuracy, fresh_accuracy=accuracy, agreement=None,
        )  # fmt: skip
        report = job_worker.report(chosen="fp32", variants=(chosen,))
        (folder / "report.json").write_bytes(to_json(report))
        with self.database.read() as conn:
            query = job_spec.window_query(context, frozen_at=None, since=None)
            training_window.write(training_window.read(conn, query), folder / "fresh.parquet")
        made = self.publisher.prepare(folder, context)
        with self.database.begin() as conn:
            moved = self.publisher.publish(conn, made, context, actor="worker:w1", now=NOW + 5)
        return moved.version

    def normal(self, version: str) -> Any:
        with self.database.read() as conn:
            return conn.execute(sa.select(profiles).where(profiles.c.version == version)).one()

    def entry(self, version: str) -> dict[str, Any]:
        """What the audit says of the version that was entered."""
        with self.database.read() as conn:
            bodies = conn.execute(
                sa.select(audit.c.body).where(audit.c.action == "release.candidate")
            ).scalars()
            (body,) = (b for b in map(json.loads, bodies) if b["version"] == version)
        return dict(body)


@pytest.fixture
def world(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    database, home = loop.opened(database_url), tmp_path / "home"
    stored, _ = job_worker.stored_files(home)
    spec = replace(sliced(), objects=stored)
    with database.begin() as conn:
        loop.register(conn, spec)
        job_worker.incident_with_job(conn)
        roles.ensure(conn, release_rows.TRUST, now=NOW, lifetimes=release_rows.LIFETIMES)
    served(database, range(1, 101))
    labelled(database, range(1, 51))

    def build(folder: Path, *, version: str, kind: str, **more: Any) -> Any:
        known = {k: more[k] for k in ("predecessor", "job_id", "policy_sha256")}
        return release_rows.package(version, kind=kind, **known)

    monkeypatch.setattr(publish, "build_package", build)
    publisher = Publisher(
        RepositoryLayout(home), lifetimes=release_rows.LIFETIMES, wake_writer=lambda: None,
        load_memory_bytes=2**28, load_seconds=3.0,
    )  # fmt: skip
    yield World(database, home, spec, publisher)
    database.dispose()


def test_slices_of_a_repaired_version_are_tested_by_its_own_errors(world: World) -> None:
    version = world.publish(600)
    normal = world.normal(version)
    expected = ExpectedError.from_json(normal.expected_error)
    base = BaseError.from_json(normal.base_error)
    assert (expected.errors, expected.n) == (base.errors, base.n) == (120, 600)
    digest = sha256_of_bytes(normal.expected_error.encode())
    assert world.entry(version)["expected_error_sha256"] == digest

    ids = range(1_001, 1_201)
    for region, some in (("EU", ids[:100]), ("US", ids[100:])):
        told = json.dumps({"region": region})
        joinable(world.database, some, version=version, slices=told)
    said(world.database, ids, "ledger", "default")  # which is not what was predicted
    with world.database.begin() as conn:
        conn.execute(sa.update(labels).values(state="waiting"))
        watch = WatchConfig.from_json(conn.execute(sa.select(specs.c.watch)).scalar_one())
    join_labels(world.database, watch, now=NOW + DAY, state_key=KEY)
    with world.database.read() as conn:
        row = conn.execute(
            sa.select(accuracy_states).where(accuracy_states.c.version == version)
        ).one()
    state = AccuracyState.from_bytes(bytes(row.state), KEY, model="credit", version=version)
    assert state.n == 200
    assert state.slices is not None
    assert (state.slices.expected, state.slices.base) == (expected, base)
    assert state.slices.memory.total == 200


def test_repaired_version_that_was_judged_on_few_rows_has_no_tests_of_slices(world: World) -> None:
    version = world.publish(198)
    normal = world.normal(version)
    assert normal.base_error is not None
    assert normal.expected_error is None
    assert world.entry(version)["expected_error_sha256"] is None

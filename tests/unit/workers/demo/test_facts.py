"""Facts are read from the tables as the workers write them, on both databases."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from redistill.streams.store import tables as seen
from redistill.streams.store.database import Database, connect
from redistill.times import SECOND
from redistill.workers.demo import facts
from redistill.workers.store import tables as acted


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = connect(database_url)
    acted.metadata.create_all(made.engine)
    yield made
    made.dispose()


def outcome(
    seq: int, *, correct: bool, served: int, made: int, version: str = "1"
) -> dict[str, object]:
    return {
        "model": "digits", "version": version, "seq": seq, "id_hash": 1000 * int(version) + seq,
        "id": f"r{seq}", "correct": int(correct), "prediction": "3", "served_at": served * SECOND,
        "observed_at": served * SECOND, "source": "clerks", "uniform": True, "made_at": made * SECOND,
    }  # fmt: skip


def test_measured_counts_only_the_period_and_version(database: Database) -> None:
    rows = [outcome(i, correct=i % 4 != 0, served=i, made=i + 2) for i in range(1, 21)]
    other = [outcome(i, correct=False, served=i, made=i, version="2") for i in range(1, 5)]
    with database.begin() as conn:
        conn.execute(seen.outcomes.insert(), rows + other)
    everything = facts.measured(database, "digits", "1")
    assert (everything.correct, everything.n) == (15, 20)
    part = facts.measured(database, "digits", "1", since=8 * SECOND, until=12 * SECOND)
    assert (part.correct, part.n) == (3, 4)
    assert part.accuracy == 0.75
    nothing = facts.measured(database, "digits", "9")
    assert (nothing.n, nothing.accuracy, nothing.interval()) == (0, None, (0.0, 1.0))


def test_reader_reads_again_only_after_somebody_wrote(database: Database) -> None:
    reader = facts.Reader(database, "digits")
    first = reader.now()
    assert first.incidents == ()
    if database.is_sqlite:
        assert reader.now() is first
    with database.begin() as conn:
        conn.execute(seen.gaps.insert().values(
            topic_id="t", partition=0, first=1, last=2, topic="predictions", found_at=1,
        ))  # fmt: skip
    assert reader.now().lost_ranges == 1
    reader.close()


def test_labels_until_counts_what_a_detector_had_seen(database: Database) -> None:
    with database.begin() as conn:
        conn.execute(
            seen.outcomes.insert(),
            [outcome(i, correct=True, served=i, made=i + 2) for i in range(1, 21)],
        )
    assert facts.labels_until(database, "digits", "1", since=10 * SECOND, made=15 * SECOND) == 4


def test_snapshot_holds_jobs_with_steps_and_versions_with_sizes(database: Database) -> None:
    with database.begin() as conn:
        conn.execute(acted.jobs.insert().values(
            job_id="j1", number=7, model="digits", attempt=1, trigger_kind="actor", trigger_id="x",
            state="rejected", options="{}", outcome=json.dumps({"reasons": ["worse"]}), tries=1,
            not_before=0, deadline_at=9, created_at=1, started_at=2, finished_at=3,
        ))  # fmt: skip
        for at, name in ((2, "train"), (1, "window")):
            conn.execute(acted.job_steps.insert().values(
                job_id="j1", name=name, state="done", seconds=1.5, cpu_seconds=1.25, token=1, at=at
            ))  # fmt: skip
        conn.execute(acted.versions.insert().values(
            model="digits", version="1", sha256="a" * 64, manifest_sha256="b" * 64, kind="baseline",
            status="published", files=json.dumps({"model.onnx": {"sha256": "a" * 64, "bytes": 12}}),
            report="{}", gate_passed=True, created_at=1,
        ))  # fmt: skip
    snapshot = facts.read(database, "digits")
    (job,) = snapshot.jobs
    assert job.over
    assert job.outcome == {"reasons": ["worse"]}
    assert [s.name for s in job.steps] == ["window", "train"]
    assert snapshot.versions["1"].bytes == 12
    assert facts.read(database, "credit") == facts.Snapshot()


def test_first_activation_of_each_service_counts(database: Database) -> None:
    with database.begin() as conn:
        for n, (who, epoch, at) in enumerate(
            [("a", 1, 1), ("b", 1, 2), ("a", 2, 5), ("b", 3, 6), ("a", 3, 7)]
        ):
            conn.execute(acted.activations.insert().values(
                event_id=str(n), model="digits", instance_id=who, version=str(epoch),
                sha256="a" * 64, epoch=epoch, at=at,
            ))  # fmt: skip
    activated = facts.read(database, "digits").activated(2)
    assert {k: v.at for k, v in activated.items()} == {"a": 5, "b": 6}


def test_counts_are_summed_over_partitions_and_namespaces(database: Database) -> None:
    with database.begin() as conn:
        for partition, topic, rows, dead in (
            (0, "demo-1.predictions", 30, 0), (1, "demo-1.predictions", 12, 1),
            (0, "demo-1.labels", 5, 2),
        ):  # fmt: skip
            conn.execute(seen.offsets.insert().values(
                topic_id=topic, partition=partition, topic=topic, first_offset=0, next_offset=9,
                counted=9, dead=dead, skipped=0, rows=rows, updated_at=1,
            ))  # fmt: skip
    snapshot = facts.read(database, "digits")
    assert (snapshot.rows, snapshot.labels, snapshot.dead) == (42, 5, 3)


def test_announced_tells_what_waits(database: Database) -> None:
    with database.begin() as conn:
        for n, (topic, sent) in enumerate([("drift", 1), ("drift", None), ("pointers", 2)]):
            conn.execute(seen.outbox.insert().values(
                event_id=str(n), topic=topic, key="digits", headers="{}", value=b"{}",
                created_at=1, sent_at=sent,
            ))  # fmt: skip
    assert facts.announced(database) == {"drift": 1, "pointers": 1, "unsent": 1}


@pytest.mark.parametrize(
    ("kind", "table", "made_here"),
    [
        (facts.FindingFact, seen.findings, set()),
        (facts.IncidentFact, acted.incidents, set()),
        (facts.StepFact, acted.job_steps, set()),
        (facts.JobFact, acted.jobs, {"steps"}),
        (facts.VersionFact, acted.versions, {"bytes"}),
        (facts.Move, acted.pointer_history, set()),
        (facts.Activation, acted.activations, set()),
    ],
)
def test_rows_are_picked_by_names_of_columns_that_exist(
    kind: type, table: sa.Table, made_here: set[str]
) -> None:
    assert {f.name for f in dataclasses.fields(kind)} - made_here <= set(table.c.keys())

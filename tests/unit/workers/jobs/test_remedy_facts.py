"""What SQL says of the remedies of a job."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import job_worker
import loop
import pytest
import sqlalchemy as sa

from redistill.compress.plan import Cause
from redistill.compress.remedies import ConsideredRemedy
from redistill.streams.store.database import Database
from redistill.workers.jobs import job_spec, remedy_facts
from redistill.workers.jobs.job_spec import JobInputs
from redistill.workers.store.tables import jobs


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    job_worker.registered(opened, tmp_path / "home")
    job_worker.with_training(opened, tmp_path / "home")
    with opened.begin() as conn:
        job_worker.incident_with_job(conn)
    yield opened
    opened.dispose()


def inputs(database: Database) -> JobInputs:
    with database.read() as conn:
        return job_spec.read_inputs(conn, job_worker.only_job(conn))


def found(
    database: Database, context: JobInputs, cause: Cause = "compression_gap"
) -> dict[str, ConsideredRemedy]:
    diagnosis = job_worker.diagnosis(cause).diagnosis
    with database.read() as conn:
        return {c.name: c for c in remedy_facts.considered(conn, context, diagnosis)}


def test_weights_and_earlier_releases_make_remedies_possible(database: Database) -> None:
    context = inputs(database)
    told = found(database, context)
    assert told["warm"].why_not is None
    assert told["reuse"].why_not == "no earlier release may serve again"
    with_one = replace(context, earlier=(context.incumbent,))
    assert found(database, with_one)["reuse"].recipes == ("reuse",)
    bare = replace(context, incumbent=replace(context.incumbent, files={}))
    assert found(database, bare)["warm"].recipes == ()


def test_loss_that_the_teacher_shares_leaves_what_needs_no_teacher(database: Database) -> None:
    told = found(database, inputs(database), "prior_shift")
    assert [name for name, remedy in told.items() if remedy.recipes] == ["temper"]


def test_estimate_is_what_the_newest_job_that_did_the_same_took(database: Database) -> None:
    assert found(database, inputs(database))["warm"].estimated_cpu_seconds is None
    with database.begin() as conn:
        row = dict(conn.execute(sa.select(jobs)).mappings().one())
        for number, took in ((8, {"warm": 3.0, "scratch": 7.0}), (9, {"warm": 2.0})):
            over = {"job_id": f"j{number}", "number": number, "live_mark": None, "attempt": number}
            outcome = json.dumps({remedy_facts.MEASURED: took})
            conn.execute(sa.insert(jobs).values(row | over | {"outcome": outcome}))
        other = {"job_id": "o", "number": 10, "live_mark": None, "model": "other", "attempt": 10}
        outcome = json.dumps({remedy_facts.MEASURED: {"warm": 99.0}})
        conn.execute(sa.insert(jobs).values(row | other | {"outcome": outcome}))
    with database.read() as conn:
        context = job_spec.read_inputs(conn, job_worker.job(database, str(row["job_id"])))
    told = found(database, context)
    assert told["warm"].estimated_cpu_seconds == 2.0
    assert told["scratch"].estimated_cpu_seconds == 7.0

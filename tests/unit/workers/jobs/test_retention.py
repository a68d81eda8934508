"""What is deleted, and above all what is not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import loop
import pytest
import sqlalchemy as sa
from loop import NOW, Clock

from redistill.streams.store.database import Database
from redistill.streams.store.tables import (
    counters,
    feature_rows,
    findings,
    input_states,
    join_rows,
    labels,
    outbox,
    outcomes,
    profiles,
    unregistered,
)
from redistill.times import DAY, to_seconds
from redistill.workers.jobs import retention
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.store import job_queue

KEEP = retention.RetentionLimits(jobs_days=14, outbox_days=7, names_days=30, releases=3)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = loop.opened(database_url)
    with opened.begin() as conn:
        loop.register(conn, loop.spec())
    yield opened
    opened.dispose()


def run(database: Database, home: Path) -> retention.Deletions:
    return retention.run(database, home=home, keep=KEEP, lifetimes=Lifetimes(), clock=Clock(NOW))


def count(database: Database, table: sa.Table) -> int:
    with database.read() as conn:
        return int(conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def rows_at(database: Database, ages: tuple[int, ...], *, model: str = "credit") -> None:
    """One row of each kind per age in days."""
    with database.begin() as conn:
        for i, age in enumerate(ages):
            at = NOW - age * DAY
            common: dict[str, Any] = {"model": model, "id_hash": i + 100 * age}
            conn.execute(
                sa.insert(join_rows).values(
                    **common,
                    version="v1",
                    prediction="repay",
                    served_at=at,
                    topic_id="t",
                    partition=0,
                    window=0,
                )
            )
            conn.execute(
                sa.insert(labels).values(
                    **common,
                    id=f"{i}-{age}",
                    source="ledger",
                    observed_at=at,
                    label="repay",
                    op="upsert",
                    uniform=True,
                    received_at=at,
                    state="joined",
                )
            )
            conn.execute(
                sa.insert(outcomes).values(
                    **common,
                    version="v1",
                    seq=i + 100 * age,
                    id=f"{i}-{age}",
                    correct=1,
                    prediction="repay",
                    label="repay",
                    served_at=at,
                    observed_at=at,
                    source="ledger",
                    uniform=True,
                    made_at=at,
                )
            )
            conn.execute(
                sa.insert(feature_rows).values(
                    model=model,
                    version="v1",
                    first_served_at=at,
                    last_served_at=at,
                    rows=1,
                    bytes=1,
                    data=b"x",
                )
            )


def test_rows_older_than_the_models_retention_go_the_others_stay(
    database: Database, tmp_path: Path
) -> None:
    rows_at(database, (1, 29, 31, 400))
    rows_at(database, (400,), model="stranger")  # not registered: nobody said how long
    done = run(database, tmp_path)
    assert done.rows == {"join_rows": 2, "labels": 2, "outcomes": 2, "feature_rows": 2}
    for table in (join_rows, labels, outcomes, feature_rows):
        assert count(database, table) == 3
    assert run(database, tmp_path).rows == {}


def test_more_rows_than_a_batch_go_in_several(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    rows_at(database, tuple(range(40, 50)))
    assert run(database, tmp_path).rows["outcomes"] == 10
    with database.read() as conn:
        expired = conn.execute(
            sa.select(counters.c.value).where(
                counters.c.model == "credit", counters.c.name == "outcomes_expired"
            )
        ).scalar_one()
    assert expired == 10


def test_oldest_feature_rows_go_when_a_model_has_too_many_bytes(
    database: Database, tmp_path: Path
) -> None:
    with database.begin() as conn:
        for i in range(6):
            block = {"first_served_at": NOW - i, "last_served_at": NOW - i, "rows": 1, "data": b""}
            conn.execute(
                sa.insert(feature_rows).values(
                    model="credit", version=f"v{i}", bytes=60 * 2**20, **block
                )
            )
    assert run(database, tmp_path).rows == {"feature_rows": 2}  # 256 MB hold four of them
    with database.read() as conn:
        kept = set(conn.execute(sa.select(feature_rows.c.version)).scalars())
    assert kept == {"v2", "v3", "v4", "v5"}


def test_sent_announcements_go_unsent_ones_never(database: Database, tmp_path: Path) -> None:
    with database.begin() as conn:
        loop.store(conn, loop.finding(), loop.finding(), now=NOW - 30 * DAY)
        first = conn.execute(sa.select(sa.func.min(outbox.c.seq))).scalar_one()
        conn.execute(sa.update(outbox).where(outbox.c.seq == first).values(sent_at=NOW - 30 * DAY))
    assert run(database, tmp_path).rows == {"outbox": 1}
    assert count(database, outbox) == 1


def test_folders_of_jobs_go_when_they_ended_long_ago(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    old = to_seconds(NOW - 20 * DAY)
    with database.begin() as conn:
        for name, model in (("over", "credit"), ("live", "other")):
            if model == "other":
                loop.register(conn, loop.spec(model), version=None)
            job_id = job_queue.job_id_of(name)
            job_queue.create(
                conn,
                job_id,
                model=model,
                trigger=("actor", "x"),
                deadline_at=NOW,
                now=NOW - 20 * DAY,
            )
            if name == "over":
                job = job_queue.get(conn, job_id)
                assert job is not None
                job_queue.finish(conn, job, "failed", outcome={}, now=NOW - 19 * DAY)
            (folder / job_id).mkdir(parents=True)
            os.utime(folder / job_id, (old, old))
        (folder / "unknown-new").mkdir()
        os.utime(folder / "unknown-new", (to_seconds(NOW), to_seconds(NOW)))
    assert run(database, tmp_path).folders == 1
    assert {p.name for p in folder.iterdir()} == {job_queue.job_id_of("live"), "unknown-new"}


def test_names_that_no_longer_come_go_with_counters_that_no_longer_grow(
    database: Database, tmp_path: Path
) -> None:
    with database.begin() as conn:
        for name, age in (("old", 31), ("new", 29)):
            at = NOW - age * DAY
            conn.execute(
                sa.insert(unregistered).values(
                    model=name, version="1", rows=1, first_seen_at=0, last_seen_at=at
                )
            )
            for counter in ("rows_unknown", "outcomes_expired"):
                conn.execute(
                    sa.insert(counters).values(model=name, name=counter, value=1, updated_at=at)
                )
        conn.execute(sa.insert(counters).values(model="", name="of a time unknown", value=1))
    assert run(database, tmp_path).rows == {"unregistered": 1, "counters": 1}
    with database.read() as conn:
        assert conn.execute(sa.select(unregistered.c.model)).scalars().all() == ["new"]
        kept = {(r.model, r.name) for r in conn.execute(sa.select(counters))}
    assert kept == {
        ("old", "outcomes_expired"), ("new", "outcomes_expired"), ("new", "rows_unknown"),
        ("", "of a time unknown"),
    }  # fmt: skip


def test_states_of_versions_that_nobody_registered_go_unless_a_finding_is_open(
    database: Database, tmp_path: Path
) -> None:
    at = NOW - 31 * DAY
    with database.begin() as conn:
        registered = conn.execute(
            sa.select(profiles.c.version).where(profiles.c.model == "credit")
        ).scalars().first()  # fmt: skip
        for version, last in (
            (registered, at), ("uuid", at), ("at fault", at), ("served", NOW - DAY),
        ):  # fmt: skip
            conn.execute(
                sa.insert(input_states).values(
                    model="credit", version=version, topic_id="t", partition=0, state=b"", rows=1,
                    first_served_at=0, last_served_at=last,
                )
            )  # fmt: skip
        for version, status in (("at fault", "open"), ("uuid", "resolved")):
            conn.execute(
                sa.insert(findings).values(
                    finding_id=version, model="credit", version=version, kind="input", scope="x",
                    status=status, severity="info", revision=1, body="{}", opened_at=at,
                    stored_at=at,
                )
            )  # fmt: skip
    assert run(database, tmp_path).rows == {"input_states": 1}
    with database.read() as conn:
        left = set(conn.execute(sa.select(input_states.c.version)).scalars())
    assert left == {registered, "at fault", "served"}

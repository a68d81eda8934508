"""What is deleted, and above all what is not."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import incident_rows
import loop
import pytest
import sqlalchemy as sa
from loop import NOW
from structlog.testing import capture_logs

from redistill.streams.store.database import Database
from redistill.streams.store.tables import (
    counters,
    feature_rows,
    outbox,
    processes,
    unregistered,
    windows,
)
from redistill.times import DAY, to_seconds
from redistill.workers.alerts.operational import book
from redistill.workers.jobs import retention
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.store import alert_holds, job_queue
from redistill.workers.store.alert_deliveries import read as read_deliveries
from redistill.workers.store.tables import alert_deliveries, operational_alerts

KEEP = retention.RetentionLimits(jobs_days=14, outbox_days=7, names_days=30, releases=3)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = loop.opened(database_url)
    with opened.begin() as conn:
        loop.register(conn, loop.spec())
    yield opened
    opened.dispose()


def run(database: Database, home: Path) -> retention.Deletions:
    return retention.run(database, home=home, keep=KEEP, lifetimes=Lifetimes(), now=NOW)


def count(database: Database, table: sa.Table) -> int:
    with database.read() as conn:
        return int(conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def test_models_limits_are_obeyed_and_rows_of_a_retired_model_go_too(
    database: Database, tmp_path: Path
) -> None:
    with database.begin() as conn:
        for model in ("credit", "retired"):
            for number, age in enumerate((29, 31)):
                conn.execute(
                    sa.insert(windows).values(
                        model=model, version="v1", topic_id="t", partition=0, number=number,
                        rows=1, first_served_at=0, last_served_at=0, closed_at=NOW - age * DAY,
                    )
                )  # fmt: skip
    done = run(database, tmp_path)
    assert (done.rows, done.left) == ({"windows": 2}, {})
    assert count(database, windows) == 2


def test_process_that_wants_to_end_begins_no_further_batch(
    database: Database, tmp_path: Path
) -> None:
    with database.begin() as conn:
        conn.execute(
            sa.insert(windows).values(
                model="credit", version="v1", topic_id="t", partition=0, number=1,
                rows=1, first_served_at=0, last_served_at=0, closed_at=NOW - 31 * DAY,
            )
        )  # fmt: skip
    cut_short = retention.run(
        database, home=tmp_path, keep=KEEP, lifetimes=Lifetimes(), now=NOW, stop=lambda: True
    )
    assert (cut_short.rows, count(database, windows)) == ({}, 1)
    assert run(database, tmp_path).rows == {"windows": 1}


def test_size_is_bounded_without_any_clock(database: Database) -> None:
    with database.begin() as conn:
        for i in range(6):
            conn.execute(
                sa.insert(feature_rows).values(
                    model="credit", version=f"v{i}", bytes=60 * 2**20, rows=1, data=b"",
                    first_served_at=NOW - i, last_served_at=NOW - i, stored_at=NOW,
                )
            )  # fmt: skip
    assert retention.bound_size(database) == {"feature_rows": 2}  # 256 MB hold four of them
    with database.read() as conn:
        kept = set(conn.execute(sa.select(feature_rows.c.version)).scalars())
    assert kept == {"v2", "v3", "v4", "v5"}
    assert retention.bound_size(database) == {}


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


def test_folder_of_a_job_goes_whole_also_where_its_deletion_is_cut_short(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, old = tmp_path / "jobs", to_seconds(NOW - 20 * DAY)
    (folder / "over" / "work").mkdir(parents=True)
    os.utime(folder / "over", (old, old))

    def killed(path: Path, **_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr("redistill.workers.jobs.retention.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            run(database, tmp_path)
    assert not (folder / "over").exists()
    run(database, tmp_path)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ENOTEMPTY, errno.EACCES])
def test_folder_that_cannot_be_deleted_is_named_and_keeps_no_other(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    folder, old = tmp_path / "jobs", to_seconds(NOW - 20 * DAY)
    for name in (".gone-a", ".gone-c", "b", "d"):
        (folder / name / "work").mkdir(parents=True)
        os.utime(folder / name, (old, old))
    rmtree = retention.shutil.rmtree

    def refusing(path: Path, **kwargs: Any) -> None:
        if path.name in (".gone-a", ".gone-b"):
            error = OSError(code, os.strerror(code), str(path))
            if not kwargs.get("ignore_errors"):
                raise error
            return
        rmtree(path, **kwargs)

    monkeypatch.setattr(retention.shutil, "rmtree", refusing)
    with capture_logs() as logged:
        assert run(database, tmp_path).folders == 1
    kept = {x["folder"]: x["error"] for x in logged if x["event"] == "folder_kept"}
    assert kept.keys() == {".gone-a", "b"}
    assert all(os.strerror(code) in error for error in kept.values())
    assert {p.name for p in folder.iterdir()} == {".gone-a", ".gone-b"}


def test_folder_whose_name_is_taken_is_named_and_keeps_no_other(
    database: Database, tmp_path: Path
) -> None:
    """As where two workers are at it, or what was cut short could not be deleted."""
    folder, old = tmp_path / "jobs", to_seconds(NOW - 20 * DAY)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        os.utime(folder / name, (old, old))
    (folder / ".gone-a").write_text("no folder")
    with capture_logs() as logged:
        assert run(database, tmp_path).folders == 1
    assert [x["folder"] for x in logged if x["event"] == "folder_kept"] == ["a"]
    assert {p.name for p in folder.iterdir()} == {".gone-a", "a"}


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
    assert run(database, tmp_path).rows == {"unregistered": 1}
    with database.read() as conn:
        assert conn.execute(sa.select(unregistered.c.model)).scalars().all() == ["new"]
        kept = {(r.model, r.name) for r in conn.execute(sa.select(counters))}
    assert kept == {
        ("old", "outcomes_expired"), ("new", "outcomes_expired"), ("new", "rows_unknown"),
        ("", "of a time unknown"), ("", "rows_unknown"), ("", "unregistered_rows_expired"),
    }, "what a stranger's name had is counted under none"  # fmt: skip


def test_alerts_that_are_over_go_and_what_somebody_believes_or_holds_stays(
    database: Database, tmp_path: Path
) -> None:
    old, row = (
        NOW - 30 * DAY,
        {"digest": "d", "title": "t", "severity": "page", "since": 0, "not_before": 0},
    )
    told = row | {"told": "d", "state": "told", "wanted_at": old, "sent_at": old, "tries": 0}
    with database.begin() as conn:
        opened = incident_rows.open_incident(conn, now=old)
        for name, state in (("1", "resolved"), ("2", "firing")):
            values = told | {"alert_key": name, "told_state": state, "channel": "team"}
            conn.execute(sa.insert(alert_deliveries).values(**values))
        for key in (f"incident:{opened}", "incident:gone"):
            alert_holds.acknowledge(conn, key, subject=key, actor="cli:ann", now=old)
        book.open_alert(conn, "disk", "a", severity="warn", said="s", remedy="r", now=old)
        book.open_alert(conn, "disk", "b", severity="warn", said="s", remedy="r", now=old)
        book.resolve(conn, "disk", "a", now=old)
    run(database, tmp_path)
    with database.read() as conn:
        assert [k for _, k in read_deliveries(conn)] == ["2"]
        assert list(alert_holds.read(conn)) == [f"incident:{opened}"]
        assert book.opened(conn, "disk") == {"b"}
    assert count(database, operational_alerts) == 1


def test_processes_that_were_killed_long_ago_go(database: Database, tmp_path: Path) -> None:
    row = {"kind": "stream", "started_at": 0, "ready": True, "said": ""}
    with database.begin() as conn:
        conn.execute(
            sa.insert(processes),
            [
                row | {"process_id": "old", "seen_at": NOW - DAY - 1},
                row | {"process_id": "new", "seen_at": NOW - DAY},
            ],
        )
    assert run(database, tmp_path).rows == {"processes": 1}
    with database.read() as conn:
        assert conn.execute(sa.select(processes.c.process_id)).scalars().all() == ["new"]

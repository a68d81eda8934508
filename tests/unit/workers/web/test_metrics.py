"""Metrics of an installation: read from SQL when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import loop
import pytest
import sqlalchemy as sa
from loop import NOW
from prometheus_client import CollectorRegistry, generate_latest

from redistill.streams.errors import StoreUnavailable
from redistill.streams.store import properties
from redistill.streams.store.database import Database
from redistill.streams.store.tables import outbox
from redistill.times import HOUR, now_us
from redistill.workers.releases import roles
from redistill.workers.releases.roles import Lifetimes
from redistill.workers.store.tables import incidents, jobs
from redistill.workers.web.metrics import WebMetrics


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = loop.opened(f"sqlite:///{tmp_path / 'redistill.db'}")
    yield database
    database.dispose()


def values_of(registry: CollectorRegistry, name: str) -> dict[tuple[str, ...], float]:
    """Values of a metric by its labels' values."""
    return {
        tuple(sample.labels.values()): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == f"redistill_{name}"
    }


def open_incident(conn: sa.Connection, model: str, kind: str, status: str = "open") -> None:
    conn.execute(
        sa.insert(incidents).values(
            incident_id=str(uuid4()),
            model=model,
            version="v1",
            incident_class=kind,
            status=status,
            stage="detected",
            why="test",
            attempt=0,
            split_salt="00",
            opened_at=NOW,
            updated_at=NOW,
            open_mark=1 if status == "open" else None,
        )
    )


def add_job(conn: sa.Connection, number: int, model: str, state: str, *, live: bool) -> None:
    conn.execute(
        sa.insert(jobs).values(
            job_id=str(uuid4()),
            number=number,
            model=model,
            attempt=1,
            trigger_kind="actor",
            trigger_id="x",
            state=state,
            options="{}",
            tries=0,
            not_before=NOW,
            deadline_at=NOW,
            created_at=NOW,
            live_mark=1 if live else None,
        )
    )


def announce(conn: sa.Connection, *, created_at: int, sent_at: int | None) -> None:
    conn.execute(
        sa.insert(outbox).values(
            event_id=str(uuid4()),
            topic="drift",
            key="credit",
            headers="{}",
            value=b"",
            created_at=created_at,
            sent_at=sent_at,
        )
    )


def test_an_empty_installation_is_up_and_has_published_nothing(database: Database) -> None:
    registry = WebMetrics(database, "").registry
    assert values_of(registry, "up") == {(): 1.0}
    assert values_of(registry, "repository_snapshot") == {(): 0.0}
    assert values_of(registry, "repository_valid_seconds") == {}
    assert values_of(registry, "outbox_unsent") == {(): 0.0}
    assert values_of(registry, "outbox_oldest_seconds") == {(): 0.0}


def test_open_incidents_and_live_jobs_are_counted_and_ended_ones_are_not(
    database: Database,
) -> None:
    with database.begin() as conn:
        for model in ("credit", "fraud"):
            loop.register(conn, loop.spec(model))
        open_incident(conn, "credit", "harm")
        open_incident(conn, "credit", "data")
        open_incident(conn, "credit", "harm", status="resolved")
        open_incident(conn, "fraud", "harm")
        add_job(conn, 1, "credit", "running", live=True)
        add_job(conn, 2, "credit", "failed", live=False)
        add_job(conn, 3, "fraud", "queued", live=True)
    registry = WebMetrics(database, "").registry
    assert values_of(registry, "incidents_open") == {
        ("credit", "harm"): 1.0,
        ("credit", "data"): 1.0,
        ("fraud", "harm"): 1.0,
    }
    assert values_of(registry, "jobs_live") == {
        ("credit", "running"): 1.0,
        ("fraud", "queued"): 1.0,
    }


def test_epochs_and_the_published_snapshot_are_read_at_every_scrape(database: Database) -> None:
    registry = WebMetrics(database, "").registry
    with database.begin() as conn:
        loop.register(conn, loop.spec(), version=None)
    for epoch in (1, 2):
        with database.begin() as conn:
            loop.point(conn, "credit", f"v{epoch}")
            properties.put(conn, properties.PUBLISHED_SNAPSHOT, str(10 * epoch))
        assert values_of(registry, "pointer_epoch") == {("credit",): float(epoch)}
        assert values_of(registry, "repository_snapshot") == {(): 10.0 * epoch}


def test_only_announcements_that_wait_are_counted_with_the_age_of_the_oldest(
    database: Database,
) -> None:
    now = now_us()
    with database.begin() as conn:
        announce(conn, created_at=now - 9 * HOUR, sent_at=now - 8 * HOUR)
        announce(conn, created_at=now - 2 * HOUR, sent_at=None)
        announce(conn, created_at=now - HOUR, sent_at=None)
    registry = WebMetrics(database, "").registry
    assert values_of(registry, "outbox_unsent") == {(): 2.0}
    assert 7_200 <= values_of(registry, "outbox_oldest_seconds")[()] < 3 * 3_600


def test_the_repository_is_valid_until_its_first_role_expires(database: Database) -> None:
    lives = Lifetimes()
    with database.begin() as conn:
        roles.ensure(conn, b'{"signed": {"version": 1}}', now=now_us(), lifetimes=lives)
        until = roles.valid_until(conn)
    assert until is not None
    left = values_of(WebMetrics(database, "").registry, "repository_valid_seconds")[()]
    assert (until - now_us()) / 1e6 <= left + 1e-3
    assert left < (until - now_us()) / 1e6 + 600


def test_a_database_that_cannot_be_read_is_down_and_nothing_else(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = WebMetrics(database, "")
    metrics.requests.labels("metrics", "200").inc()

    def away(*_: Any) -> None:
        raise StoreUnavailable("the server is away")

    monkeypatch.setattr(database, "read", away)
    names = {s.name for m in metrics.registry.collect() for s in m.samples}
    assert values_of(metrics.registry, "up") == {(): 0.0}
    assert names >= {"redistill_up", "redistill_web_requests_total"}
    assert not any("outbox" in n or "incidents" in n for n in names)


def test_a_defect_is_not_taken_for_a_database_that_is_away(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = WebMetrics(database, "")

    def broken(*_: Any) -> None:
        raise KeyError("column")

    monkeypatch.setattr(database, "read", broken)
    with pytest.raises(KeyError):  # a scrape answers 500, and uvicorn logs why
        generate_latest(metrics.registry)


def test_names_begin_with_the_namespace(database: Database) -> None:
    names = {m.name for m in WebMetrics(database, "eu-1").registry.collect()}
    assert names
    assert all(name.startswith("eu_1_redistill_") for name in names)
